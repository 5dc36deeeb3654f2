"""A medium that is there only in part: addresses at which a machine has no memory."""

from __future__ import annotations

from collections.abc import Iterator

from nvdimmfs.media.base import Media


class PopulatedMedia(Media):
    """Bytes where there is memory, and nothing between: reads give zeros there and writes are lost, as on a bus.

    Attributes:
        media: what holds the bytes.
        populated: (first, end) offsets at which there is memory, in bytes, sorted, none touching another.
    """

    def __init__(self, media: Media, populated: tuple[tuple[int, int], ...]) -> None:
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
        return bytes(result)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self.require_range(offset, len(data))
        for start, end in self._parts(offset, len(data)):
            self.media.write(start, data[start - offset : end - offset])

    def zero(self, offset: int, length: int) -> None:
        self.require_range(offset, length)
        for start, end in self._parts(offset, length):
            self.media.zero(start, end - start)

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
