"""vmem_altmap: page frames of a range that hold the range's own memmap (mm/sparse-vmemmap.c, Linux 6.1)."""

from __future__ import annotations

import attrs

from nvdimmfs.units import align_up


@attrs.define
class VmemAltmap:
    """The frames set aside, and how many of them are in use.  All counts are page frames.

    Attributes:
        base_pfn: the first frame of the range.
        end_pfn: the last frame of the range.
        reserve: frames at the base that are mapped but never allocated (they hold the info block).
        free: frames after those that can be allocated.
        align: frames lost so far to the alignment of allocations.  As in the kernel, they are never recovered.
        alloc: frames allocated.
        skips_reserve: whether allocation begins after `reserve`; in the RFC it begins at the base.
    """

    base_pfn: int
    end_pfn: int
    reserve: int
    free: int
    align: int = 0
    alloc: int = 0
    skips_reserve: bool = True

    @property
    def offset(self) -> int:
        """Frames from the base to the first page with a struct page (vmem_altmap_offset)."""
        return self.reserve + self.free

    @property
    def next_pfn(self) -> int:
        """The frame where the next allocation would begin if it needed no alignment."""
        skipped = self.reserve if self.skips_reserve else 0
        return self.base_pfn + skipped + self.alloc + self.align

    @property
    def available(self) -> int:
        """Frames neither allocated nor lost."""
        return max(0, self.free - self.alloc - self.align)

    def reset(self) -> None:
        """Reset the count of allocated frames, as each new registration does (__add_pages)."""
        self.alloc = 0

    def fitting(self, nr_pfns: int) -> int:
        """Number of consecutive allocations of `nr_pfns` frames that would succeed."""
        left = self.available - self._padding(nr_pfns)
        return max(0, left // nr_pfns)

    def allocate(self, nr_pfns: int, times: int = 1) -> int:
        """Allocate `times` adjacent blocks of `nr_pfns` frames and return the first frame.

        A block is aligned to the largest power of two that divides its size (altmap_alloc_block_buf), so only
        the first can lose frames to alignment.  The caller must check `fitting` first.
        """
        assert 0 < times <= self.fitting(nr_pfns), "more than the altmap holds"
        self.align += self._padding(nr_pfns)
        first = self.next_pfn
        self.alloc += nr_pfns * times
        return first

    def give_back(self, nr_pfns: int) -> None:
        """Free allocated frames (vmem_altmap_free)."""
        assert nr_pfns <= self.alloc, "more frames freed than allocated"
        self.alloc -= nr_pfns

    def _padding(self, nr_pfns: int) -> int:
        lowest_bit = nr_pfns & -nr_pfns
        return align_up(self.next_pfn, lowest_bit) - self.next_pfn
