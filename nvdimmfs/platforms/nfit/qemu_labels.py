"""The _DSM functions of a DIMM of QEMU 7.2, which only access the label area (hw/acpi/nvdimm.c)."""

from __future__ import annotations

from nvdimmfs.formats.ndctl import LABEL_COMMANDS, U32, DimmCommand, LabelAreaSize, LabelWrite
from nvdimmfs.formats.nfit_dsm import INVALID, LABELS_LOCKED, SUCCESS, UNSUPPORTED
from nvdimmfs.media.base import Media

#: The largest number of bytes that one function transfers: the rest of the page that QEMU shares with its firmware.
MAX_TRANSFER = 4076


class LabelDsm:
    """Reads and writes the label area.

    Attributes:
        area: the area; None without one.
        locked: only the size of the area is accessible.
    """

    def __init__(self, area: Media | None, *, locked: bool = False) -> None:
        self.area = area
        self.locked = locked

    def evaluate(self, family: int, function: int, payload: bytes) -> bytes | None:  # noqa: ARG002  # the family makes no difference
        """As `nfit.command.DsmEvaluator`; bytes missing in the payload count as zeros."""
        if self.area is None or function not in LABEL_COMMANDS:
            return U32.pack(UNSUPPORTED)
        if function == DimmCommand.GET_SIZE:
            return LabelAreaSize(SUCCESS, self.area.size, MAX_TRANSFER).to_bytes()
        if self.locked:
            return U32.pack(LABELS_LOCKED)
        # GET_DATA's inputs are the same.  The layout itself, not the class: labels are read a lot.
        offset, length = LabelWrite.layout.unpack_from(payload.ljust(LabelWrite.size(), b"\0"))
        # A length of 0 makes QEMU abort (nvdimm_validate_rw_label_data); here it is refused.
        if not 0 < length <= MAX_TRANSFER or offset + length > self.area.size:
            return U32.pack(INVALID)
        if function == DimmCommand.GET_DATA:
            return U32.pack(SUCCESS) + self.area.read(offset, length)
        self.area.write(offset, payload[LabelWrite.size() :][:length].ljust(length, b"\0"))
        return U32.pack(SUCCESS)
