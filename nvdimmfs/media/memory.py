"""A medium in this process's memory."""

from __future__ import annotations

import contextlib
import mmap
import weakref
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator

from nvdimmfs.media.base import StoredMedia
from nvdimmfs.units import align_up, div_round_up

#: Granularity in which bytes are written down as written, kept for an earlier state and freed: no more than a BTT's
#: log, 16 KiB.
CHUNK_SIZE = 16 * 1024

#: Bytes of a mapping.  The kernel allocates its pages one by one as they are written, so its size costs nothing; most
#: requests lie in one, and so are one copy.
SEGMENT_SIZE = 4 << 20
_CHUNKS = SEGMENT_SIZE // CHUNK_SIZE

#: A mapping that begins with a write of so many bytes may have huge pages: more will follow, and a page fault for each
#: 4 KiB takes longer than the copy.
_HUGE = 256 << 10


class _Segment:
    """A mapping of memory.

    Attributes:
        memory: its bytes, zero where none were written.
        written: a bit for each chunk that was written.
    """

    __slots__ = ("memory", "written")

    def __init__(self, length: int, *, with_huge_pages: bool) -> None:
        # Private: a forked process has a machine of its own.
        self.memory = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if with_huge_pages:
            with contextlib.suppress(OSError):  # a kernel without them
                self.memory.madvise(mmap.MADV_HUGEPAGE)
        self.written = 0


class _Earlier(dict[int, bytes | None]):
    """What changed chunks held at an earlier time, by number; None for one that had not been written."""


class MemoryMedia(StoredMedia):
    """Sparse memory: a petabyte costs nothing until bytes are written, and zeroed chunks are freed."""

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"a medium cannot have {size} bytes")
        self._size = size
        self._segments: dict[int, _Segment] = {}
        self._order: list[int] = []  # the keys of _segments, sorted, so that zero() finds those in a range
        self._earlier: list[weakref.ref[_Earlier]] = []  # states that can be restored or are being read
        self._kept: set[int] = set()  # the chunks that all of these states have, in case they changed

    @property
    def size(self) -> int:
        return self._size

    @property
    def resident(self) -> int:
        """Bytes of memory allocated for the contents."""
        return sum(segment.written.bit_count() for segment in self._segments.values()) * CHUNK_SIZE

    def read(self, offset: int, length: int) -> bytes:
        self.require_range(offset, length)
        index, start = divmod(offset, SEGMENT_SIZE)
        if start + length <= SEGMENT_SIZE:  # the common case
            segment = self._segments.get(index)
            data = bytes(length) if segment is None else segment.memory[start : start + length]
        else:
            data = b"".join(self._pieces(offset, length))
        return self.faults.media_read(self.label, data) if self.faults.media_reads else data

    def view(self, offset: int, length: int) -> bytes | memoryview:
        segment = self._segments.get(offset // SEGMENT_SIZE)
        start = offset % SEGMENT_SIZE
        if segment is None or start + length > SEGMENT_SIZE or self.faults.media_reads:
            return self.read(offset, length)
        self.require_range(offset, length)
        return memoryview(segment.memory)[start : start + length]

    def is_blank(self, offset: int, length: int) -> bool:
        first, last = offset // SEGMENT_SIZE, (offset + length - 1) // SEGMENT_SIZE
        return first == last and first not in self._segments and not self.faults.media_reads

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self.require_range(offset, len(data))
        if self.faults.media_writes:
            data = self.faults.media_write(self.label, data)
        length = len(data)
        index, start = divmod(offset, SEGMENT_SIZE)
        if 0 < length <= SEGMENT_SIZE - start:  # the common case
            self._write_in(index, start, data)
            return
        view = memoryview(data)
        done = 0
        for index, start, end in _split(offset, length):
            self._write_in(index, start, view[done : done + end - start])
            done += end - start

    def zero(self, offset: int, length: int) -> None:
        self.require_range(offset, length)
        if self.faults.media_writes:
            length = self.faults.media_zero(self.label, length)
        end = offset + length
        low = bisect_left(self._order, offset // SEGMENT_SIZE)
        high = bisect_left(self._order, div_round_up(end, SEGMENT_SIZE))
        for index in self._order[low:high]:
            base = index * SEGMENT_SIZE
            self._zero_in(index, max(0, offset - base), min(SEGMENT_SIZE, end - base))

    def saved_state(self) -> Callable[[], None]:
        """Save the contents, at no cost until they change, see `nvdimmfs.snapshot`."""
        earlier = self._state()

        def restore() -> None:
            self._keep(earlier)  # for other states
            for number, content in earlier.items():
                self._put(number, content)
            earlier.clear()
            self._kept.clear()

        return restore

    def contents(self) -> Iterator[tuple[int, bytes | bytearray]]:
        written = [(index, self._segments[index].written) for index in self._order]
        numbers = (index * _CHUNKS + bit for index, bits in written for bit in _set_bits(bits))
        return self._contents(numbers, self._state())

    def flush(self) -> None:
        """Do nothing: the contents are only in memory."""

    def close(self) -> None:
        """As the base class.  What a saved state may restore stays."""
        if not self._earlier:
            self._segments.clear()
            self._order.clear()

    def _pieces(self, offset: int, length: int) -> Iterator[bytes | memoryview]:
        for index, start, end in _split(offset, length):
            segment = self._segments.get(index)
            yield bytes(end - start) if segment is None else memoryview(segment.memory)[start:end]

    def _write_in(self, index: int, start: int, data: bytes | memoryview) -> None:
        """Write bytes, at least one, to a segment."""
        segment = self._segments.get(index) or self._new_segment(index, with_huge_pages=len(data) >= _HUGE)
        end = start + len(data)
        first, stop = start // CHUNK_SIZE, (end - 1) // CHUNK_SIZE + 1
        if self._earlier:
            self._keep(range(index * _CHUNKS + first, index * _CHUNKS + stop))
        bits = (1 << stop) - (1 << first)
        if segment.written & bits != bits:
            segment.written |= bits
        segment.memory[start:end] = data

    def _zero_in(self, index: int, start: int, end: int) -> None:
        """Zero a range of a segment: free the chunks that lie in it, and wipe what it has of two others."""
        segment = self._segments[index]
        first, stop = div_round_up(start, CHUNK_SIZE), end // CHUNK_SIZE
        if first > stop:
            self._wipe(index, segment, start, end)
            return
        self._wipe(index, segment, start, first * CHUNK_SIZE)
        self._wipe(index, segment, stop * CHUNK_SIZE, end)
        freed = segment.written & (1 << stop) - (1 << first)
        if not freed:
            return
        if self._earlier:
            self._keep(index * _CHUNKS + bit for bit in _set_bits(freed))
        self._free(index, segment, freed)

    def _wipe(self, index: int, segment: _Segment, start: int, end: int) -> None:
        """Zero a part of one chunk."""
        chunk = start // CHUNK_SIZE
        if start < end and segment.written >> chunk & 1:
            if self._earlier:
                self._keep((index * _CHUNKS + chunk,))
            segment.memory[start:end] = bytes(end - start)

    def _free(self, index: int, segment: _Segment, chunks: int) -> None:
        """Give back the memory of written chunks, between which there is no other written one: it is zero again."""
        if chunks == segment.written:
            del self._segments[index], self._order[bisect_left(self._order, index)]
            return
        segment.written &= ~chunks
        start = (chunks & -chunks).bit_length() - 1
        segment.memory.madvise(mmap.MADV_DONTNEED, start * CHUNK_SIZE, (chunks.bit_length() - start) * CHUNK_SIZE)

    def _new_segment(self, index: int, *, with_huge_pages: bool = False) -> _Segment:
        length = min(SEGMENT_SIZE, align_up(self._size - index * SEGMENT_SIZE, CHUNK_SIZE))
        segment = _Segment(length, with_huge_pages=with_huge_pages)
        self._segments[index] = segment
        insort(self._order, index)
        return segment

    def _state(self) -> _Earlier:
        """The contents as they are now, for as long as it is referred to."""
        earlier = _Earlier()
        self._earlier.append(weakref.ref(earlier, self._earlier.remove))
        self._kept.clear()
        return earlier

    def _keep(self, numbers: Iterable[int]) -> None:
        """Keep what chunks hold, which are about to change, for the earlier states that have not kept it yet."""
        for number in numbers:
            if number in self._kept:
                continue
            self._kept.add(number)
            content = self._chunk(number)
            for reference in tuple(self._earlier):
                earlier = reference()
                if earlier is not None:
                    earlier.setdefault(number, content)

    def _chunk(self, number: int) -> bytes | None:
        """The bytes of a chunk; None for one that was not written."""
        index, bit = divmod(number, _CHUNKS)
        segment = self._segments.get(index)
        if segment is None or not segment.written >> bit & 1:
            return None
        return segment.memory[bit * CHUNK_SIZE : (bit + 1) * CHUNK_SIZE]

    def _put(self, number: int, content: bytes | None) -> None:
        """Have a chunk be as it was."""
        index, bit = divmod(number, _CHUNKS)
        segment = self._segments.get(index)
        if content is not None:
            segment = segment or self._new_segment(index)
            segment.written |= 1 << bit
            segment.memory[bit * CHUNK_SIZE : (bit + 1) * CHUNK_SIZE] = content
        elif segment is not None and segment.written >> bit & 1:
            self._free(index, segment, 1 << bit)

    def _contents(self, numbers: Iterable[int], earlier: _Earlier) -> Iterator[tuple[int, bytes]]:
        """Chunks as they were, in this order; all of them had been written."""
        for number in numbers:
            content = earlier[number] if number in earlier else self._chunk(number)
            assert content is not None, "it had been written"
            offset = number * CHUNK_SIZE
            yield offset, content[: self._size - offset]


def _split(offset: int, length: int) -> Iterator[tuple[int, int, int]]:
    """The segments under a range: index, first byte and end within the segment."""
    end = offset + length
    while offset < end:
        index, start = divmod(offset, SEGMENT_SIZE)
        stop = min(SEGMENT_SIZE, start + end - offset)
        yield index, start, stop
        offset += stop - start


def _set_bits(bits: int) -> Iterator[int]:
    """The numbers of the bits that are set, in ascending order."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
