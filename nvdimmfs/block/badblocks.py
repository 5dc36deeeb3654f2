"""Lists of bad sectors, with the algorithms of block/badblocks.c: that of Linux 4.5 to 6.6, and that of newer ones."""

from __future__ import annotations

import bisect
import errno
import re

from nvdimmfs.core.parse import c_string
from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.kernel import Kernel
from nvdimmfs.units import PAGE_SIZE, U64_MASK, as_signed

#: Bytes of a sector, the unit of sizes and offsets in the block layer.
SECTOR_SIZE = 512
#: A list is one page of 8-byte entries, each for at most 512 sectors (MAX_BADBLOCKS, BB_MAX_LEN).
MAX_ENTRIES = 512
MAX_ENTRY_SECTORS = 512

#: Bits of an entry's length.  Length and start fill 63 bits; the last bit is BB_MAKE's acknowledged flag.
_LENGTH_BITS = 9
_ENTRY_MASK = (1 << 63) - 1

#: The input that sscanf accepts for "%llu %d%c".  It returns no digit of a number, so that "128" has no count.
_WRITTEN = re.compile(rb"[\s\xa0]*([0-9]++)[\s\xa0]*(-?[0-9]++)(.)?", re.DOTALL)


def read_error(what: str, offset: int, length: int) -> KernelError:
    """The EIO for a read that touches a bad sector, by any reader of persistent memory.

    Disks (`block.disk_bytes.DiskBytes`) and drivers (`nd.namespace_io.NamespaceIO`) raise it.
    """
    return KernelError(errno.EIO, f"{what}: {length} bytes at {offset} touch a bad sector")


class Badblocks:
    """A list of bad ranges, in sectors of 512 bytes.

    The list is meant to be sorted.  However, a range that needs several entries is inserted in reverse order, and from
    then on a search can miss entries.  The kernel has the same defect.
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def entries(self) -> tuple[tuple[int, int], ...]:
        """The first sector and the number of sectors of each, all of them; `show` has room for fewer."""
        return tuple(self._entries)

    def overlaps(self, sector: int, count: int) -> bool:
        """Whether any of the sectors is bad."""
        return self.first_between(sector, sector + count) is not None

    def first_between(self, first: int, end: int) -> tuple[int, int] | None:
        """Return (first, count) of the first entry that overlaps [first, end), not clipped to it (badblocks_check)."""
        found = None
        for start, count in reversed(self._entries[: self._search(end) + 1]):
            if start + count <= first:
                break
            if start < end:
                found = start, count
        return found

    def set(self, sector: int, count: int) -> None:
        """Mark sectors bad.  ENOSPC when the list is full; the sectors that had room stay marked."""
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
        """Mark sectors good.  The call has no effect if an entry would have to be split and the list is full."""
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
        """Return one line for each range, first sector and number of sectors, truncated to one page."""
        return "".join(f"{start} {length}\n" for start, length in self._entries)[: PAGE_SIZE - 1]

    def store(self, data: bytes) -> None:
        """Mark a range bad that user space wrote as text.

        EINVAL unless the text is a sector and a count above 0, followed by nothing or a newline.  The kernel truncates
        the sector to 64 bits and the count to 32 bits.
        """
        written = _WRITTEN.match(c_string(data))
        if not written or written[3] not in (None, b"\n"):
            raise KernelError(errno.EINVAL, "not a sector and a count")
        sector, count = int(written[1]) & U64_MASK, as_signed(int(written[2]), bits=32)
        if count <= 0:
            raise KernelError(errno.EINVAL, "no sectors")
        self.set(sector, count)

    def _search(self, bound: int) -> int:
        """Return the index of the last entry that starts before `bound`, by binary search; 0 if there is none."""
        low, high = 0, len(self._entries)
        while high - low > 1:
            middle = (low + high) // 2
            if self._entries[middle][0] < bound:
                low = middle
            else:
                high = middle
        return low

    def _extend(self, index: int, start: int, sector: int, count: int) -> tuple[int, int]:
        """Make an entry begin at `start` and cover its own range and the given one, up to the length limit.

        Returns (first, count) of the sectors that did not fit.
        """
        end = max(sum(self._entries[index]), sector + count)
        length = min(end - start, MAX_ENTRY_SECTORS)
        self._entries[index] = _entry(start, length)
        return start + length, end - start - length

    def _combine(self, index: int, following: int) -> None:
        """Merge two entries that touch, if the result is shorter than a full entry."""
        start, length = self._entries[index]
        next_start, next_length = self._entries[following]
        together = next_start + next_length - start
        if start + length >= next_start and together < MAX_ENTRY_SECTORS:
            self._entries[index] = _entry(start, together)
            del self._entries[following]


class SortedBadblocks(Badblocks):
    """A list that is always sorted (_badblocks_set, _badblocks_clear, Linux 6.12)."""

    __slots__ = ()

    def set(self, sector: int, count: int) -> None:
        """Mark sectors bad.  ENOSPC when the list is full and none of them was bad or fits into an entry."""
        entries, begin, end = self._entries, sector, sector + count
        last = -1
        while sector < end:
            last = self._last_up_to(sector)
            if last > 0 and entries[last][0] == sector and self._join(last - 1):
                continue
            covered = self._cover(last, sector, end)
            if not covered:
                if len(entries) >= MAX_ENTRIES:
                    break
                last += 1
                covered = min(end - sector, MAX_ENTRY_SECTORS, self._start_of(last, end) - sector)
                entries.insert(last, _entry(sector, covered))
            sector += covered
        self._join(last)
        if sector == begin:
            raise KernelError(errno.ENOSPC, "the list of bad blocks is full")

    def clear(self, sector: int, count: int) -> None:
        """Mark sectors good.  The call has no effect if an entry would have to be split and the list is full."""
        end = sector + count
        left: list[tuple[int, int]] = []
        for start, length in self._entries:
            pieces = [(start, min(start + length, sector)), (max(start, end), start + length)]
            if start + length <= sector or end <= start:
                pieces = [(start, start + length)]
            left += [(first, after - first) for first, after in pieces if first < after]
        if len(left) <= MAX_ENTRIES:
            self._entries = left

    def _last_up_to(self, sector: int) -> int:
        """Return the index of the last entry that starts at the sector or before it; -1 if there is none."""
        return bisect.bisect_right(self._entries, (sector, MAX_ENTRY_SECTORS)) - 1

    def _start_of(self, index: int, end: int) -> int:
        """Return where an entry starts; `end` after the last one."""
        return self._entries[index][0] if index < len(self._entries) else end

    def _cover(self, index: int, sector: int, end: int) -> int:
        """Return how many sectors from one on the entry before them covers, once it is extended as far as it can be."""
        if index < 0:
            return 0
        start, length = self._entries[index]
        if sector < start + length:
            return min(end, start + length) - sector
        if sector > start + length:
            return 0
        extension = min(end - sector, MAX_ENTRY_SECTORS - length, self._start_of(index + 1, end) - sector)
        self._entries[index] = start, length + extension
        return extension

    def _join(self, index: int) -> bool:
        """Merge an entry with the following one if they touch and fit into one entry."""
        if not 0 <= index < len(self._entries) - 1:
            return False
        (start, length), (next_start, next_length) = self._entries[index : index + 2]
        if start + length != next_start or length + next_length > MAX_ENTRY_SECTORS:
            return False
        self._entries[index : index + 2] = [(start, length + next_length)]
        return True


def new_badblocks(kernel: Kernel) -> Badblocks:
    """Return an empty list, as the kernel keeps it."""
    return SortedBadblocks() if kernel.disks.badblocks_are_sorted else Badblocks()


def _entry(start: int, length: int) -> tuple[int, int]:
    """Truncate start and length to the fields of an 8-byte entry: 54 bits, and 9 bits of the length minus 1 (BB_MAKE).

    In a list that is out of order, merging can produce a negative length, whose sign bits overwrite the start.
    """
    packed = (start << _LENGTH_BITS | length - 1) & _ENTRY_MASK
    return packed >> _LENGTH_BITS, 1 + packed % MAX_ENTRY_SECTORS
