"""Sectors that cannot be read, as block/badblocks.c keeps them (Linux 6.1)."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from nvdimmfs.core.parse import c_string
from nvdimmfs.errors import KernelError

#: Bytes of a sector; block layer sizes and offsets count in these.
SECTOR_SIZE = 512
#: A list fills one page of 8-byte entries, each of at most 512 sectors (MAX_BADBLOCKS, BB_MAX_LEN).
MAX_ENTRIES = 512
MAX_ENTRY_SECTORS = 512


class Badblocks:
    """A sorted list of bad ranges.  Sectors count 512 bytes."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self._entries)

    def overlaps(self, sector: int, count: int) -> bool:
        """Whether any of the sectors is bad."""
        return any(start < sector + count and sector < start + length for start, length in self._entries)

    def between(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """(first, count) of the bad ranges in [first, end), cut to it."""
        for start, length in self._entries:
            cut, cut_end = max(start, first), min(start + length, end)
            if cut < cut_end:
                yield cut, cut_end - cut

    def first_between(self, first: int, end: int) -> tuple[int, int] | None:
        """(first, count) of the first entry that meets [first, end), not cut to it (badblocks_check)."""
        return next((entry for entry in self._entries if entry[0] < end and first < sum(entry)), None)

    def set(self, sector: int, count: int) -> None:
        """Mark sectors bad.  ENOSPC when the list is full."""
        merged = _union([*self._entries, (sector, count)])
        if len(merged) > MAX_ENTRIES:
            raise KernelError(errno.ENOSPC, "the list of bad blocks is full")
        self._entries = merged

    def clear(self, sector: int, count: int) -> None:
        """Mark sectors good."""
        end = sector + count
        kept: list[tuple[int, int]] = []
        for start, length in self._entries:
            if start < sector:
                kept.append((start, min(length, sector - start)))
            if start + length > end:
                first = max(start, end)
                kept.append((first, start + length - first))
        self._entries = _union(kept)

    def show(self) -> str:
        """First sector and number of sectors, a range a line."""
        return "".join(f"{start} {length}\n" for start, length in self._entries)

    def store(self, data: bytes) -> None:
        """Mark the range that was written as bad.  EINVAL unless it is "sector count"."""
        words = c_string(data).removesuffix(b"\n").split()
        if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:
            raise KernelError(errno.EINVAL, "not a sector and a count")
        self.set(int(words[0]), int(words[1]))


def _union(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted, merged, and cut again into entries of the largest size."""
    merged: list[list[int]] = []
    for start, length in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], start + length)
        else:
            merged.append([start, start + length])
    return [
        (first, min(MAX_ENTRY_SECTORS, end - first))
        for start, end in merged
        for first in range(start, end, MAX_ENTRY_SECTORS)
    ]
