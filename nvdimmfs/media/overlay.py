"""Bytes that are written over a medium and not in it yet."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from attrs import frozen


@frozen
class Extent:
    """Contiguous bytes.

    Attributes:
        start: offset of the first byte.
        end: offset after the last one.
        data: the bytes; None for zeros, of which there may be a terabyte.
    """

    start: int
    end: int
    data: bytes | None

    def part(self, start: int, end: int) -> Extent:
        """The bytes from `start` up to `end`, which lie in it."""
        data = None if self.data is None else self.data[start - self.start : end - self.start]
        return Extent(start, end, data)


class Overlay:
    """The last bytes that were written at each place."""

    def __init__(self) -> None:
        # In order, not empty, without overlaps; the ends are in order as well, and bisected.
        self._extents: list[Extent] = []
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._extents)

    def copy(self) -> Overlay:
        """An overlay with the same bytes, which goes its own way."""
        copied = Overlay()
        copied._extents, copied._starts, copied._ends = self._extents.copy(), self._starts.copy(), self._ends.copy()
        return copied

    def write(self, new: Extent) -> None:
        """Write bytes over those that are there."""
        if new.start == new.end:
            return
        first, end = bisect_right(self._ends, new.start), bisect_left(self._starts, new.end)
        overwritten = self._extents[first:end]
        pieces = [new]
        if overwritten and overwritten[0].start < new.start:
            pieces.insert(0, overwritten[0].part(overwritten[0].start, new.start))
        if overwritten and overwritten[-1].end > new.end:
            pieces.append(overwritten[-1].part(new.end, overwritten[-1].end))
        self._extents[first:end] = pieces
        self._starts[first:end] = [piece.start for piece in pieces]
        self._ends[first:end] = [piece.end for piece in pieces]

    def over(self, offset: int, read: bytes) -> bytes:
        """What a reader gets who has read these bytes of the medium, from `offset` on."""
        first, end = bisect_right(self._ends, offset), bisect_left(self._starts, offset + len(read))
        if first >= end:
            return read
        patched = bytearray(read)
        for extent in self._extents[first:end]:
            part = extent.part(max(extent.start, offset), min(extent.end, offset + len(read)))
            patched[part.start - offset : part.end - offset] = (
                bytes(part.end - part.start) if part.data is None else part.data
            )
        return bytes(patched)

    def extents(self) -> Iterator[Extent]:
        """All bytes, in order; what was written side by side is one extent."""
        pieces: list[bytes] = []
        start = 0
        for number, extent in enumerate(self._extents):
            if extent.data is None:
                yield extent
                continue
            if not pieces:
                start = extent.start
            pieces.append(extent.data)
            after = self._extents[number + 1] if number + 1 < len(self._extents) else None
            if after is None or after.data is None or after.start != extent.end:
                yield Extent(start, extent.end, b"".join(pieces))
                pieces.clear()
