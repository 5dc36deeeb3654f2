"""Huge pages that user space reserves on a node (mm/hugetlb.c, Linux 6.1).

No process uses one, so all of them are free, and they are dissolved when their memory goes offline.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

from nvdimmfs.units import GIB, PAGE_SHIFT, PMD_SIZE

#: The sizes of huge pages, bytes: of a PMD and of a PUD.
HUGE_PAGE_SIZES = (PMD_SIZE, GIB)


class HugePages:
    """The huge pages of a machine."""

    def __init__(
        self,
        places: Callable[[int, int], Iterable[int]],
        take: Callable[[int, int], None],
        give_back: Callable[[int, int], None],
    ) -> None:
        """Allocate from page frames.

        Args:
            places: yields the free places of a node that are so many page frames long, each by its first pfn, in the
                order in which the page allocator gives them.
            take: removes page frames, given as first and end pfn, from the page allocator.
            give_back: returns them.
        """
        self._places = places
        self._take = take
        self._give_back = give_back
        self._pages: dict[tuple[int, int], list[int]] = {}

    def count(self, nid: int, size: int) -> int:
        """The huge pages of a size on a node."""
        return len(self._pages.get((nid, size), ()))

    def bytes_of(self, nid: int) -> int:
        """Bytes of all huge pages on a node."""
        return sum(size * self.count(nid, size) for size in HUGE_PAGE_SIZES)

    def resize(self, nid: int, size: int, count: int) -> None:
        """Have so many huge pages on a node, or as many as there is memory for (set_max_huge_pages)."""
        pages = self._pages.setdefault((nid, size), [])
        length = size >> PAGE_SHIFT
        while len(pages) > count:
            first = pages.pop()
            self._give_back(first, first + length)
        for first in list(itertools.islice(self._places(nid, length), count - len(pages))):
            self._take(first, first + length)
            pages.append(first)

    def dissolve(self, first: int, end: int) -> None:
        """Give back those with page frames from `first` to before `end` (dissolve_free_huge_pages)."""
        for (_, size), pages in self._pages.items():
            length = size >> PAGE_SHIFT
            for page in [page for page in pages if page < end and first < page + length]:
                pages.remove(page)
                self._give_back(page, page + length)
