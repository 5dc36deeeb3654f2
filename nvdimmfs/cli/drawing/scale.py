"""How sizes become lengths, and where things go that must not overlap."""

from __future__ import annotations

from collections.abc import Sequence

from nvdimmfs.units import PAGE_SIZE

#: Heights of ranges of physical addresses: what a page has, and what each doubling adds to it, pixels.  So that 4 KiB
#: and 1 PiB, which are 38 doublings apart, stand side by side.
_PAGE_HEIGHT = 16.0
_DOUBLING = 1.35


def shares(sizes: Sequence[int], width: int, least: int) -> list[int]:
    """Divide `width` into whole numbers in proportion to the sizes, none below `least`, as long as there is room.

    What the small ones get too much is taken from the large ones, in proportion again.
    """
    small: set[int] = set()
    while True:
        left = width - least * len(small)
        total = sum(size for index, size in enumerate(sizes) if index not in small) or 1
        found = {index for index, size in enumerate(sizes) if index not in small and size * left < least * total}
        if not found:
            break
        small |= found
    edges = [0]
    given = 0
    for index, size in enumerate(sizes):
        given += 0 if index in small else size
        edges.append(given * left // total)
    return [least if i in small else edges[i + 1] - edges[i] for i in range(len(sizes))]


def height_of(size: int) -> float:
    """The height of a range in the address map, which grows with the logarithm of its size."""
    return _PAGE_HEIGHT + _DOUBLING * max(0, (size // PAGE_SIZE).bit_length() - 1)


def stacked(heights: Sequence[float], wanted: Sequence[float], top: float, bottom: float, gap: float) -> list[float]:
    """Where to put boxes below each other, in order, each with its centre as near to the wanted one as there is room.

    Args:
        heights: of the boxes.
        wanted: their centres.
        top: what they must lie below.
        bottom: what they must lie above, if they fit at all.
        gap: the least between two.
    """
    places: list[float] = []
    position = top
    for height, centre in zip(heights, wanted, strict=True):
        position = max(position, centre - height / 2)
        places.append(position)
        position += height + gap
    limit = max(bottom, top + sum(heights) + gap * (len(heights) - 1))
    for index in range(len(places) - 1, -1, -1):
        places[index] = min(places[index], limit - heights[index])
        limit = places[index] - gap
    return places
