"""Sectors that cannot be read, as block/badblocks.c keeps them (Linux 4.5 to 6.6)."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from nvdimmfs.core.parse import c_string
from nvdimmfs.errors import KernelError
from nvdimmfs.units import PAGE_SIZE, U64_MASK, as_signed

#: Bytes of a sector; block layer sizes and offsets count in these.
SECTOR_SIZE = 512
#: A list fills one page of 8-byte entries, each of at most 512 sectors (MAX_BADBLOCKS, BB_MAX_LEN).
MAX_ENTRIES = 512
MAX_ENTRY_SECTORS = 512

#: Bits of an entry's length; with those of its start all but the last one, which says something else (BB_MAKE).
_LENGTH_BITS = 9
_ENTRY_MASK = (1 << 63) - 1

#: What sscanf finds for "%llu %d%c".
_WRITTEN = re.compile(rb"\s*([0-9]+)\s*(-?[0-9]+)(.)?", re.DOTALL)


def read_error(what: str, offset: int, length: int) -> KernelError:
    """The EIO for a read that touches a bad sector, by any reader of persistent memory.

    Disks (`block.disk.DiskBytes`) and drivers (`nd.namespace_io.NamespaceIO`) raise it.
    """
    return KernelError(errno.EIO, f"{what}: {length} bytes at {offset} touch a bad sector")


class Badblocks:
    """A list of bad ranges.  Sectors count 512 bytes.

    It should be sorted, but what does not fit into one entry ends up in reverse order, and from then on a search can
    miss an entry, which the kernel does as well.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self._entries)

    def overlaps(self, sector: int, count: int) -> bool:
        """Whether any of the sectors is bad."""
        return self.first_between(sector, sector + count) is not None

    def first_between(self, first: int, end: int) -> tuple[int, int] | None:
        """(first, count) of the first entry that meets [first, end), not cut to it (badblocks_check)."""
        found = None
        for start, count in reversed(self._entries[: self._search(end) + 1]):
            if start + count <= first:
                break
            if start < end:
                found = start, count
        return found

    def between(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """(first, count) of the bad ranges in [first, end), cut to it."""
        for start, length in self._entries:
            cut, cut_end = max(start, first), min(start + length, end)
            if cut < cut_end:
                yield cut, cut_end - cut

    def set(self, sector: int, count: int) -> None:
        """Mark sectors bad.  ENOSPC when the list is full; those for which there was room are marked."""
        entries = self._entries
        last = self._search(sector + 1)
        following = last + 1
        if not entries or entries[last][0] > sector:
            following = last
        elif sum(entries[last]) >= sector:
            sector, count = self._extend(last, entries[last][0], sector, count)
        if count and following < len(entries) and entries[following][0] <= sector + count:
            sector, count = self._extend(following, sector, sector, count)
            last, following = following, following + 1
        if not count and following < len(entries):
            self._combine(last, following)
        while count:
            if len(entries) >= MAX_ENTRIES:
                raise KernelError(errno.ENOSPC, "the list of bad blocks is full")
            taken = min(count, MAX_ENTRY_SECTORS)
            entries.insert(following, _entry(sector, taken))
            sector, count = sector + taken, count - taken

    def clear(self, sector: int, count: int) -> None:
        """Mark sectors good.  Nothing happens where an entry would have to be split and the list is full."""
        entries, end = self._entries, sector + count
        if not entries:
            return
        last = self._search(end)
        following = last + 1
        start, entry_end = entries[last][0], sum(entries[last])
        if start < end < entry_end:
            if start < sector:
                if len(entries) >= MAX_ENTRIES:
                    return
                entries.insert(last, _entry(start, sector - start))
                last += 1
            entries[last] = _entry(end, entry_end - end)
            last, following = last - 1, last
        while last >= 0 and sum(entries[last]) > sector and entries[last][0] < end:
            if entries[last][0] < sector:
                entries[last] = _entry(entries[last][0], sector - entries[last][0])
                break
            last -= 1
        del entries[last + 1 : following]

    def show(self) -> str:
        """First sector and number of sectors, a range a line, as far as a page goes."""
        return "".join(f"{start} {length}\n" for start, length in self._entries)[: PAGE_SIZE - 1]

    def store(self, data: bytes) -> None:
        """Mark the range that was written as bad.

        EINVAL unless it is a sector and a count above 0, at the end or before a newline; both are cut to the bits that
        the kernel keeps of them.
        """
        written = _WRITTEN.match(c_string(data))
        if not written or written[3] not in (None, b"\n"):
            raise KernelError(errno.EINVAL, "not a sector and a count")
        sector, count = int(written[1]) & U64_MASK, as_signed(int(written[2]), bits=32)
        if count <= 0:
            raise KernelError(errno.EINVAL, "no sectors")
        self.set(sector, count)

    def _search(self, bound: int) -> int:
        """Where the last entry is that starts before `bound`, as far as halving finds it; 0 if there is none."""
        low, high = 0, len(self._entries)
        while high - low > 1:
            middle = (low + high) // 2
            if self._entries[middle][0] < bound:
                low = middle
            else:
                high = middle
        return low

    def _extend(self, index: int, start: int, sector: int, count: int) -> tuple[int, int]:
        """Let an entry begin at `start` and reach to its own end or that of the sectors; what of these is left."""
        end = max(sum(self._entries[index]), sector + count)
        length = min(end - start, MAX_ENTRY_SECTORS)
        self._entries[index] = _entry(start, length)
        return start + length, end - start - length

    def _combine(self, index: int, following: int) -> None:
        """Make one entry of two that touch, if they do not fill it."""
        start, length = self._entries[index]
        next_start, next_length = self._entries[following]
        together = next_start + next_length - start
        if start + length >= next_start and together < MAX_ENTRY_SECTORS:
            self._entries[index] = _entry(start, together)
            del self._entries[following]


def _entry(start: int, length: int) -> tuple[int, int]:
    """What an entry of 8 bytes holds: 54 bits and 9 bits, the latter of the length less one (BB_MAKE).

    In a list out of order, merging can leave less than nothing of an entry, and its sign runs into the start.
    """
    packed = (start << _LENGTH_BITS | length - 1) & _ENTRY_MASK
    return packed >> _LENGTH_BITS, 1 + packed % MAX_ENTRY_SECTORS
