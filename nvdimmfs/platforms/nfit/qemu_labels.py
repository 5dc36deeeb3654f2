"""Firmware that answers for a DIMM's label area as QEMU 7.2 does (hw/acpi/nvdimm.c), and for nothing else."""

from __future__ import annotations

import struct

from nvdimmfs.formats.ndctl import DimmCommand
from nvdimmfs.media.base import Media
from nvdimmfs.platforms.nfit.command import INVALID, LABELS_LOCKED, UNSUPPORTED

#: Bytes of labels that one function moves: what is left of the page that QEMU shares with its firmware.
MAX_TRANSFER = 4076

_SUCCESS = 0

_STATUS = struct.Struct("<I")
_SIZE = struct.Struct("<III")
_RANGE = struct.Struct("<II")


class LabelDsm:
    """Reads and writes the label area.

    Attributes:
        area: the area; None without one.
        locked: it tells the area's size and no more.
    """

    def __init__(self, area: Media | None, *, locked: bool = False) -> None:
        self.area = area
        self.locked = locked

    def evaluate(self, family: int, function: int, payload: bytes) -> bytes | None:  # noqa: ARG002  # all the same here
        """As `nfit.command.DsmEvaluator`; what is missing in the payload counts as zeros."""
        if self.area is None or function not in _LABEL_FUNCTIONS:
            return _STATUS.pack(UNSUPPORTED)
        if function == DimmCommand.GET_SIZE:
            return _SIZE.pack(_SUCCESS, self.area.size, MAX_TRANSFER)
        if self.locked:
            return _STATUS.pack(LABELS_LOCKED)
        offset, length = _RANGE.unpack(payload[: _RANGE.size].ljust(_RANGE.size, b"\0"))
        # No bytes at all stop QEMU itself (nvdimm_validate_rw_label_data): they are refused here.
        if not 0 < length <= MAX_TRANSFER or offset + length > self.area.size:
            return _STATUS.pack(INVALID)
        if function == DimmCommand.GET_DATA:
            return _STATUS.pack(_SUCCESS) + self.area.read(offset, length)
        self.area.write(offset, payload[_RANGE.size :][:length].ljust(length, b"\0"))
        return _STATUS.pack(_SUCCESS)


_LABEL_FUNCTIONS = {DimmCommand.GET_SIZE, DimmCommand.GET_DATA, DimmCommand.SET_DATA}
