"""`__pfn_t` of the RFC, `pfn_t` of Linux 4.5: page frame numbers with flags, for memory without struct pages."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs

from nvdimmfs.kernels.kernel import PfnFlagBits
from nvdimmfs.units import PAGE_SHIFT


class PfnFlag(enum.Flag):
    """The flags of a page.  The scatter-gather flags SG_CHAIN and SG_LAST are left out: no single page has them."""

    NONE = 0
    DEV = enum.auto()
    """Not covered by the memmap of RAM."""
    MAP = enum.auto()
    """Has a struct page although it is DEV."""


@attrs.frozen
class PfnEncoding:
    """The encoding of number and flags in 64 bits."""

    pfn_shift: int
    bits: Mapping[PfnFlag, int]


#: The encodings; a kernel without one has no pfn_t.
ENCODINGS = {
    PfnFlagBits.LOW: PfnEncoding(PAGE_SHIFT, {PfnFlag.DEV: 1 << 2, PfnFlag.MAP: 1 << 3}),
    PfnFlagBits.HIGH: PfnEncoding(0, {PfnFlag.DEV: 1 << 61, PfnFlag.MAP: 1 << 60}),
}


@attrs.frozen
class PfnT:
    """A page frame number with flags."""

    pfn: int
    flags: PfnFlag = PfnFlag.NONE

    def encode(self, encoding: PfnEncoding) -> int:
        """Encode as a 64-bit number."""
        return self.pfn << encoding.pfn_shift | sum(bit for flag, bit in encoding.bits.items() if flag in self.flags)
