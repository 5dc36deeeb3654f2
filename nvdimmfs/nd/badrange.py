"""Bad ranges of physical addresses, a list in the order of the reports (drivers/nvdimm/badrange.c, Linux 6.1)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import attrs

from nvdimmfs.block.badblocks import SECTOR_SIZE, Badblocks
from nvdimmfs.errors import KernelError
from nvdimmfs.units import U32_MASK, div_round_up


@attrs.define
class _Entry:
    start: int
    length: int

    @property
    def last(self) -> int:
        return self.start + self.length - 1


class Badrange:
    """Bad ranges in the order in which they were reported.  They may overlap."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(address, bytes) of each."""
        return ((entry.start, entry.length) for entry in self._entries)

    def add(self, start: int, length: int) -> None:
        """Add a bad range.  It replaces a range with the same start."""
        for entry in self._entries:
            if entry.start == start:
                entry.length = length
                return
        self._entries.append(_Entry(start, length))

    def forget(self, start: int, length: int) -> None:
        """Remove a range.  If that splits an entry, its second part goes to the end of the list."""
        length &= U32_MASK  # an unsigned int (badrange_forget)
        last = start + length - 1
        kept: list[_Entry] = []
        split: list[_Entry] = []
        for entry in self._entries:
            if entry.last < start or entry.start > last:
                kept.append(entry)
                continue
            if entry.start < start:
                kept.append(_Entry(entry.start, start - entry.start))
            if entry.last > last:
                (split if entry.start < start else kept).append(_Entry(last + 1, entry.last - last))
        self._entries = kept + split

    def within(self, start: int, last: int) -> Iterator[tuple[int, int]]:
        """(address, bytes) of the bad ranges that overlap [start, last], cut to it."""
        for entry in self._entries:
            first, end = max(entry.start, start), min(entry.last, last)
            if first <= end:
                yield first, end - first + 1

    def populate(self, badblocks: Badblocks, start: int, last: int) -> None:
        """Mark the sectors of [start, last] that a bad range touches as bad (nvdimm_badblocks_populate).

        Sectors for which the list has no room are left out, although the memory is bad.
        """
        for address, length in self.within(start, last):
            first = (address - start) // SECTOR_SIZE
            end = div_round_up(address - start + length, SECTOR_SIZE)
            with contextlib.suppress(KernelError):
                badblocks.set(first, end - first)
