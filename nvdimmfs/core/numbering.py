"""Ids that are allocated lowest first and reused, like the kernel's ida."""

from __future__ import annotations

import heapq


class Numbering:
    """Allocates the lowest free number, in logarithmic time."""

    __slots__ = ("_free", "_next")

    def __init__(self) -> None:
        self._next = 0
        self._free: list[int] = []

    def allocate(self) -> int:
        """Take the lowest free number."""
        if self._free:
            return heapq.heappop(self._free)
        self._next += 1
        return self._next - 1

    def free(self, number: int) -> None:
        """Free a number that was allocated."""
        heapq.heappush(self._free, number)
