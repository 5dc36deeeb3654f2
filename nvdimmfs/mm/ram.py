"""The allocator of physical RAM for memmaps."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.mm.intervals import IntervalSet
from nvdimmfs.mm.nodes import FIRST_NODE, Nodes
from nvdimmfs.units import PAGE_SIZE, PMD_SIZE, align_down, align_up


@attrs.frozen
class Piece:
    """`size` bytes of physical memory from address `start` on."""

    start: int
    size: int

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.start + self.size


class RamPool:
    """The free RAM of a machine, in whole pages, allocated from the highest address down."""

    def __init__(self, ranges: Iterable[tuple[int, int]], nodes: Nodes | None = None) -> None:
        """`ranges` are (start, end), with `end` not included; partial pages are dropped.

        Without nodes, there is one.
        """
        self._free = IntervalSet((align_up(start, PAGE_SIZE), align_down(end, PAGE_SIZE)) for start, end in ranges)
        self._nodes = nodes

    @property
    def free_bytes(self) -> int:
        return self._free.count

    def free_within(self, start: int, end: int) -> int:
        """Free bytes from address `start` to before `end`."""
        return sum(high - low for low, high in self._free.within(start, end))

    def free_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the free parts, as first and end addresses, from address `start` to before `end`."""
        return self._free.within(start, end)

    def reserve(self, start: int, end: int) -> None:
        """Exclude the addresses from `start` to before `end` from allocation."""
        self._free.remove(align_down(start, PAGE_SIZE), align_up(end, PAGE_SIZE))

    def release(self, start: int, end: int) -> None:
        """Undo `reserve`."""
        self._free.add(start, end)

    def take(self, size: int, nid: int = FIRST_NODE) -> tuple[Piece, ...]:
        """Allocate `size` bytes, a multiple of the page size: 2 MiB blocks while available, then single pages.

        Those of the node come first, then those of the nodes nearest to it.  ENOMEM, without allocating anything, when
        fewer bytes are free.
        """
        if size > self._free.count:
            raise KernelError(errno.ENOMEM, f"{size} bytes of RAM needed, {self._free.count} free")
        pieces: list[Piece] = []
        for block in (PMD_SIZE, PAGE_SIZE):
            for low, high in self._highest_first(nid):
                low, high = align_up(low, block), align_down(high, block)
                taken = min(align_down(size, block), high - low)
                if taken > 0:
                    pieces.append(Piece(high - taken, taken))
                    self._free.remove(high - taken, high)
                    size -= taken
        return tuple(pieces)

    def _highest_first(self, nid: int) -> list[tuple[int, int]]:
        """The free RAM, in the order in which it is allocated for a node."""
        if self._nodes is None:
            return list(self._free)[::-1]
        nodes = self._nodes
        parts = [part for low, high in self._free for part in nodes.split(low, high)]
        parts.sort(key=lambda part: (nodes.distance(nid, part.nid), part.nid, -part.start))
        return [(part.start, part.end) for part in parts]

    def give_back(self, pieces: Iterable[Piece]) -> None:
        """Free pieces that `take` returned."""
        for piece in pieces:
            self._free.add(piece.start, piece.end)
