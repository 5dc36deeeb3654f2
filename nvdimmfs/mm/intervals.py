"""Sets of integers stored as intervals, so that a petabyte costs no more than a page."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator


class IntervalSet:
    """A set of integers, as sorted intervals [start, end) that neither overlap nor touch."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, intervals: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in intervals:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        """Add every integer from `start` to before `end`."""
        if start >= end:
            return
        first = bisect.bisect_left(self._ends, start)
        last = bisect.bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Remove every integer from `start` to before `end`."""
        if start >= end:
            return
        first = bisect.bisect_right(self._ends, start)
        last = bisect.bisect_left(self._starts, end)
        kept = []
        for low, high in zip(self._starts[first:last], self._ends[first:last], strict=True):
            kept += [(a, b) for a, b in ((low, min(high, start)), (max(low, end), high)) if a < b]
        self._starts[first:last] = [low for low, _ in kept]
        self._ends[first:last] = [high for _, high in kept]

    def within(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of the set from `start` to before `end`, in order."""
        for index in range(bisect.bisect_right(self._ends, start), bisect.bisect_left(self._starts, end)):
            yield max(start, self._starts[index]), min(end, self._ends[index])

    def count_within(self, start: int, end: int) -> int:
        """The number of members from `start` to before `end`."""
        return sum(high - low for low, high in self.within(start, end))

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of the range from `start` to before `end` that are not in the set, in order."""
        for low, high in self.within(start, end):
            if start < low:
                yield start, low
            start = high
        if start < end:
            yield start, end

    def first_within(self, start: int, end: int) -> int | None:
        """The least member from `start` to before `end`."""
        return next((low for low, _ in self.within(start, end)), None)

    @property
    def count(self) -> int:
        """Number of members."""
        return sum(self._ends) - sum(self._starts)

    @property
    def span(self) -> tuple[int, int] | None:
        """The least member and the integer after the greatest."""
        return (self._starts[0], self._ends[-1]) if self._starts else None

    def copy(self) -> IntervalSet:
        """Return an independent set with the same members."""
        other = IntervalSet()
        other._starts, other._ends = self._starts[:], self._ends[:]
        return other

    def __contains__(self, member: int) -> bool:
        index = bisect.bisect_right(self._starts, member) - 1
        return index >= 0 and member < self._ends[index]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IntervalSet):
            return NotImplemented
        return self._starts == other._starts and self._ends == other._ends

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{low:#x}-{high:#x}" for low, high in self) + "}"
