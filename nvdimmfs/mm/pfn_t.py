"""`__pfn_t` of the RFC, `pfn_t` of Linux 4.5: page frame numbers with flags, for memory without struct pages."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs

from nvdimmfs.mm.page import Pages
from nvdimmfs.units import PAGE_SHIFT, Range


class PfnFlag(enum.Flag):
    """What is known of the page beside its number."""

    NONE = 0
    SG_CHAIN = enum.auto()
    SG_LAST = enum.auto()
    DEV = enum.auto()
    """Not covered by the memmap of RAM."""
    MAP = enum.auto()
    """With a struct page all the same."""


@attrs.frozen
class PfnEncoding:
    """How number and flags share 64 bits."""

    pfn_shift: int
    bits: Mapping[PfnFlag, int]


#: `__pfn_t`, v5 of "introduce __pfn_t for unmapped pfn I/O" and the RFC: flags below the page's address.
RFC_ENCODING = PfnEncoding(
    PAGE_SHIFT, {PfnFlag.SG_CHAIN: 1 << 0, PfnFlag.SG_LAST: 1 << 1, PfnFlag.DEV: 1 << 2, PfnFlag.MAP: 1 << 3}
)

#: `pfn_t`, include/linux/pfn_t.h since 4.5: flags in the top bits.
MAINLINE_ENCODING = PfnEncoding(
    0, {PfnFlag.SG_CHAIN: 1 << 63, PfnFlag.SG_LAST: 1 << 62, PfnFlag.DEV: 1 << 61, PfnFlag.MAP: 1 << 60}
)


@attrs.frozen
class PfnT:
    """A page frame number with flags."""

    pfn: int
    flags: PfnFlag = PfnFlag.NONE

    @property
    def has_page(self) -> bool:
        """Whether there is a struct page (pfn_t_has_page)."""
        return PfnFlag.MAP in self.flags or PfnFlag.DEV not in self.flags

    @property
    def is_devmap(self) -> bool:
        """Whether it is device memory with a struct page (pfn_t_devmap)."""
        return PfnFlag.MAP | PfnFlag.DEV in self.flags

    def encode(self, encoding: PfnEncoding = MAINLINE_ENCODING) -> int:
        """The 64 bits."""
        return self.pfn << encoding.pfn_shift | sum(bit for flag, bit in encoding.bits.items() if flag in self.flags)

    @classmethod
    def decode(cls, value: int, encoding: PfnEncoding = MAINLINE_ENCODING) -> PfnT:
        """From the 64 bits."""
        flags = PfnFlag.NONE
        for flag, bit in encoding.bits.items():
            if value & bit:
                flags |= flag
        return cls((value & ~sum(encoding.bits.values())) >> encoding.pfn_shift, flags)


class KmapPfn:
    """Kernel addresses of page frames with and without struct pages (mm/kmap_pfn.c of the same series; never merged).

    Attributes:
        rcu_readers: how many `kmap_atomic_pfn_t` are not yet undone.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._ranges: list[tuple[Range, int]] = []
        self.rcu_readers = 0

    def register(self, what: Range, base: int) -> None:
        """Map a range at virtual address `base` (devm_register_kmap_pfn_range)."""
        self._ranges.append((what, base))

    def unregister(self, what: Range) -> None:
        """Forget a range, as happens when its device goes."""
        self._ranges = [entry for entry in self._ranges if entry[0] != what]

    def kmap_atomic_pfn_t(self, pfn: PfnT) -> int | None:
        """The virtual address of a page, to be undone with `kunmap_atomic_pfn_t`; None when there is none."""
        physical = pfn.pfn << PAGE_SHIFT
        if pfn.has_page:
            self.rcu_readers += 1
            return self._pages.phys_to_virt(physical)
        for what, base in self._ranges:
            if physical in what:
                self.rcu_readers += 1
                return base + physical - what.start
        return None

    def kunmap_atomic_pfn_t(self) -> None:
        """Undo one `kmap_atomic_pfn_t` that gave an address."""
        assert self.rcu_readers > 0, "nothing is mapped"
        self.rcu_readers -= 1
