"""The info block of pfn and dax devices, 4096 bytes at namespace + 4096 (drivers/nvdimm/pfn.h, Linux 6.1)."""

from __future__ import annotations

import enum
import struct
from uuid import UUID

import attrs

from nvdimmfs.formats.info_block import NULL_UUID, require_block, seal

#: Signature of a pfn device's block, 16 bytes (PFN_SIG).
PFN_SIGNATURE = b"NVDIMM_PFN_INFO\0"

#: Signature of a dax device's block, 16 bytes (DAX_SIG).
DAX_SIGNATURE = b"NVDIMM_DAX_INFO\0"

#: Where the block lies in its namespace, in bytes (SZ_4K, drivers/nvdimm/pfn_devs.c).
INFO_BLOCK_OFFSET = 4096

#: The sizes for which a block of minor version below 4 was written, in bytes (nd_pfn_validate, pfn_devs.c).
LEGACY_PAGE_SIZE = 4096
LEGACY_PAGE_STRUCT_SIZE = 64

#: The newest minor version (nd_pfn_init, drivers/nvdimm/pfn_devs.c, since Linux 5.4).
NEWEST_MINOR = 4

_FIELDS = struct.Struct("<16s16s16sIHHQQIIIIIH")


class PfnMode(enum.IntEnum):
    """Where the struct pages of a namespace are (enum nd_pfn_mode, drivers/nvdimm/nd.h).  NONE is never on media."""

    NONE = 0
    RAM = 1
    PMEM = 2


@attrs.frozen(kw_only=True)
class PfnInfoBlock:
    """The fields as they are on media, whatever their values.

    Attributes:
        signature: PFN_SIGNATURE or DAX_SIGNATURE.
        uuid: the personality's own.
        parent_uuid: the namespace's; null for one without a label.
        flags: always 0.
        version_major: 1; no kernel checks it.
        version_minor: 0 to 4; determines which of the fields after `mode` are valid, see `upgraded`.
        dataoff: bytes from the start of the namespace to the first byte of data.
        npfns: pages of data.
        mode: a `PfnMode`, or a value no kernel writes.
        start_pad: bytes left out at the start; since minor 1, deprecated and 0 in new blocks.
        end_trunc: bytes left out at the end; since minor 1.
        align: alignment of the mapping in bytes; since minor 2.
        page_size: bytes; since minor 4.
        page_struct_size: bytes that each page's struct page was given; since minor 4.
    """

    signature: bytes = PFN_SIGNATURE
    uuid: UUID
    parent_uuid: UUID = NULL_UUID
    flags: int = 0
    version_major: int = 1
    version_minor: int = 4
    dataoff: int
    npfns: int
    mode: int
    start_pad: int = 0
    end_trunc: int = 0
    align: int
    page_size: int = LEGACY_PAGE_SIZE
    page_struct_size: int = LEGACY_PAGE_STRUCT_SIZE

    def to_bytes(self) -> bytes:
        """The 4096 bytes of the block, checksum included."""
        return seal(
            _FIELDS.pack(
                self.signature,
                self.uuid.bytes,
                self.parent_uuid.bytes,
                self.flags,
                self.version_major,
                self.version_minor,
                self.dataoff,
                self.npfns,
                self.mode,
                self.start_pad,
                self.end_trunc,
                self.align,
                self.page_size,
                self.page_struct_size,
            )
        )

    @classmethod
    def from_bytes(cls, block: bytes) -> PfnInfoBlock:
        """The fields of 4096 bytes, neither validated nor upgraded."""
        require_block(block)
        signature, own, parent, *numbers = _FIELDS.unpack_from(block)
        flags, major, minor, dataoff, npfns, mode, start_pad, end_trunc, align, page_size, page_struct_size = numbers
        return cls(
            signature=signature,
            uuid=UUID(bytes=own),
            parent_uuid=UUID(bytes=parent),
            flags=flags,
            version_major=major,
            version_minor=minor,
            dataoff=dataoff,
            npfns=npfns,
            mode=mode,
            start_pad=start_pad,
            end_trunc=end_trunc,
            align=align,
            page_size=page_size,
            page_struct_size=page_struct_size,
        )

    def upgraded(self, known: int = NEWEST_MINOR) -> PfnInfoBlock:
        """The block as a reader understands it: fields younger than its minor version get the value they stood for.

        So do those that the reader does not know: `known` is the newest minor version that it does.  An `align` of 0
        means that the block did not record one (nd_pfn_validate, drivers/nvdimm/pfn_devs.c, 6.1).
        """
        block = self
        minor = min(self.version_minor, known)
        if minor < 1:
            block = attrs.evolve(block, start_pad=0, end_trunc=0)
        if minor < 2:
            block = attrs.evolve(block, align=0)
        if minor < 4:
            block = attrs.evolve(block, page_size=LEGACY_PAGE_SIZE, page_struct_size=LEGACY_PAGE_STRUCT_SIZE)
        return block

    def trimmed(self) -> PfnInfoBlock:
        """The block as the kernels that write its minor version leave it: younger fields are zero."""
        if self.version_minor >= NEWEST_MINOR:
            return self
        return attrs.evolve(self.upgraded(), page_size=0, page_struct_size=0)
