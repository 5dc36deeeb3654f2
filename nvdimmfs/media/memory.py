"""A medium in this process's memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator

from nvdimmfs.media.base import StoredMedia

#: Granularity of allocation, in bytes: no more than a BTT's log, 16 KiB, and large beside Python's overhead.
CHUNK_SIZE = 16 * 1024


class MemoryMedia(StoredMedia):
    """Sparse memory: a petabyte costs nothing until bytes are written, and zeroed chunks are freed."""

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"a medium cannot have {size} bytes")
        self._size = size
        self._chunks: dict[int, bytearray] = {}
        self._order: list[int] = []  # the keys of _chunks, sorted, so that zero() finds the chunks in a range
        self._shared: set[int] = set()  # the chunks that a saved state has, too: they are copied before they change

    @property
    def size(self) -> int:
        return self._size

    @property
    def resident(self) -> int:
        """Bytes of memory allocated for the contents."""
        return len(self._chunks) * CHUNK_SIZE

    def read(self, offset: int, length: int) -> bytes:
        self.require_range(offset, length)
        index, start = divmod(offset, CHUNK_SIZE)
        if start + length <= CHUNK_SIZE and not self.faults.media_reads:  # the common case: one chunk holds all of it
            chunk = self._chunks.get(index)
            return bytes(length) if chunk is None else bytes(chunk[start : start + length])
        pieces: list[bytes | memoryview] = []
        for index, start, end in _split(offset, length):
            chunk = self._chunks.get(index)
            pieces.append(bytes(end - start) if chunk is None else memoryview(chunk)[start:end])
        data = b"".join(pieces)
        return self.faults.media_read(self.label, data) if self.faults.media_reads else data

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self.require_range(offset, len(data))
        if self.faults.media_writes:
            data = self.faults.media_write(self.label, data)
        view = memoryview(data)
        done = 0
        for index, start, end in _split(offset, len(data)):
            self._chunk(index)[start:end] = view[done : done + end - start]
            done += end - start

    def zero(self, offset: int, length: int) -> None:
        self.require_range(offset, length)
        if self.faults.media_writes:
            length = self.faults.media_zero(self.label, length)
        if not length:
            return
        first, skip = divmod(offset, CHUNK_SIZE)
        last, keep = divmod(offset + length, CHUNK_SIZE)
        if first == last:
            self._wipe(first, skip, keep)
            return
        if skip:
            self._wipe(first, skip, CHUNK_SIZE)
            first += 1
        if keep:
            self._wipe(last, 0, keep)
        self._drop(first, last)

    def saved_state(self) -> Callable[[], None]:
        """Save the contents, at a cost per chunk that does not depend on its bytes, see `nvdimmfs.snapshot`."""
        chunks, order, shared = dict(self._chunks), list(self._order), frozenset(self._chunks)
        self._shared = set(shared)

        def restore() -> None:
            self._chunks, self._order, self._shared = dict(chunks), list(order), set(shared)

        return restore

    def contents(self) -> Iterator[tuple[int, bytes | bytearray]]:
        chunks = [(index * CHUNK_SIZE, self._chunks[index]) for index in self._order]
        self._shared.update(self._order)
        return ((offset, chunk[: self._size - offset]) for offset, chunk in chunks)

    def flush(self) -> None:
        """Do nothing: the contents are only in memory."""

    def close(self) -> None:
        self._chunks.clear()
        self._order.clear()

    def _chunk(self, index: int) -> bytearray:
        chunk = self._chunks.get(index)
        if chunk is None:
            chunk = self._chunks[index] = bytearray(CHUNK_SIZE)
            self._order.insert(bisect_left(self._order, index), index)
        elif self._shared and index in self._shared:
            self._shared.remove(index)
            chunk = self._chunks[index] = bytearray(chunk)
        return chunk

    def _wipe(self, index: int, start: int, end: int) -> None:
        if index in self._chunks:
            self._chunk(index)[start:end] = bytes(end - start)

    def _drop(self, first: int, last: int) -> None:
        """Free the chunks from `first` up to, not including, `last`."""
        low, high = bisect_left(self._order, first), bisect_left(self._order, last)
        for index in self._order[low:high]:
            del self._chunks[index]
            self._shared.discard(index)
        del self._order[low:high]


def _split(offset: int, length: int) -> Iterator[tuple[int, int, int]]:
    """The chunks under a range: index, first byte and end within the chunk."""
    end = offset + length
    while offset < end:
        index, start = divmod(offset, CHUNK_SIZE)
        stop = min(CHUNK_SIZE, start + end - offset)
        yield index, start, stop
        offset += stop - start
