"""Ids that are allocated lowest first and reused, like the kernel's ida."""

from __future__ import annotations

import heapq


class Numbering:
    """Allocates the lowest free number, in logarithmic time."""

    __slots__ = ("_free", "_next", "_taken")

    def __init__(self, first: int = 0) -> None:
        self._next = first
        self._free: list[int] = []
        self._taken: set[int] = set()

    def allocate(self) -> int:
        """Take the lowest free number."""
        if self._free:
            number = heapq.heappop(self._free)
        else:
            number = self._next
            self._next += 1
        self._taken.add(number)
        return number

    def free(self, number: int) -> None:
        """Free a number."""
        self._taken.remove(number)
        heapq.heappush(self._free, number)
