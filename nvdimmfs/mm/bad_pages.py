"""The page frames of a machine that were declared bad, and how many failures were counted."""

from __future__ import annotations

from nvdimmfs.mm.failure_counts import FailureCounts
from nvdimmfs.mm.intervals import IntervalSet


class BadPages:
    """Page frames of RAM that were declared bad, until their struct pages are initialised anew.

    Attributes:
        counted: HardwareCorrupted of /proc/meminfo, in pages (num_poisoned_pages, mm/memory-failure.c, Linux 6.1): all
            that were declared bad, and each failure of device memory.
        pfns: the page frames.
    """

    def __init__(self, *, counted_out: bool) -> None:
        """`counted_out`: whether a page that is removed with its memory counts no more."""
        self.counted = 0
        self.pfns = IntervalSet()
        self._counted_out = counted_out
        self._failures: dict[int, FailureCounts] = {}

    def __contains__(self, pfn: int) -> bool:
        return pfn in self.pfns

    def add(self, pfn: int) -> None:
        """Declare a page frame of RAM bad."""
        self.counted += 1
        self.pfns.add(pfn, pfn + 1)

    def add_of_device(self, nid: int) -> None:
        """Count a failure of device memory, whose pages are not kept: each may fail again."""
        self.counted += 1
        self.failures_of(nid).failed += 1

    def failures_of(self, nid: int) -> FailureCounts:
        """What became of the failed pages of a node."""
        return self._failures.setdefault(nid, FailureCounts())

    def initialise(self, first: int, end: int) -> None:
        """Struct pages are initialised anew: their page frames go online."""
        self.pfns.remove(first, end)

    def remove(self, first: int, end: int) -> None:
        """Page frames are removed with their memory (clear_hwpoisoned_pages, mm/sparse.c, Linux 6.12)."""
        if self._counted_out:
            self.counted -= self.pfns.count_within(first, end)
        self.pfns.remove(first, end)
