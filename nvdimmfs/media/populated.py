"""A medium that is populated only in part: the machine has no memory at the other addresses."""

from __future__ import annotations

from collections.abc import Iterator

from nvdimmfs.media.base import StoredMedia


class PopulatedMedia(StoredMedia):
    """Bytes where memory is installed; elsewhere reads return zeros and writes are lost, as on a memory bus.

    Attributes:
        media: the medium that holds the bytes.
        populated: (first, end) offsets at which memory is installed, in bytes, sorted, not adjacent.
    """

    def __init__(self, media: StoredMedia, populated: tuple[tuple[int, int], ...]) -> None:
        self.media = media
        self.populated = populated

    @property
    def size(self) -> int:
        return self.media.size

    def read(self, offset: int, length: int) -> bytes:
        self.require_range(offset, length)
        result = bytearray(length)
        for start, end in self._parts(offset, length):
            result[start - offset : end - offset] = self.media.read(start, end - start)
        return self.faults.media_read(self.label, bytes(result)) if self.faults.media_reads else bytes(result)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self.require_range(offset, len(data))
        if self.faults.media_writes:
            data = self.faults.media_write(self.label, data)
        for start, end in self._parts(offset, len(data)):
            self.media.write(start, data[start - offset : end - offset])

    def zero(self, offset: int, length: int) -> None:
        self.require_range(offset, length)
        if self.faults.media_writes:
            length = self.faults.media_zero(self.label, length)
        for start, end in self._parts(offset, length):
            self.media.zero(start, end - start)

    def contents(self) -> Iterator[tuple[int, bytes | bytearray]]:
        return self.media.contents()

    def flush(self) -> None:
        self.media.flush()

    def close(self) -> None:
        self.media.close()

    def _parts(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """The parts of a range at which there is memory."""
        for first, end in self.populated:
            start, stop = max(first, offset), min(end, offset + length)
            if start < stop:
                yield start, stop
