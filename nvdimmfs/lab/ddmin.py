"""Delta debugging: the few items of a list that suffice for a failure (Zeller and Hildebrandt, 2002)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def shortest(items: Sequence[_T], fails: Callable[[Sequence[_T]], bool], attempts: int) -> list[_T]:
    """Return items, in order, that fail, and of which none can be left out, if the attempts suffice for that.

    Args:
        items: a list that fails.
        fails: whether some of the items fail.
        attempts: how often to try at most.
    """
    kept = list(items)
    parts = 2
    while len(kept) > 1:
        for rest in _without_each(kept, parts):
            attempts -= 1
            if attempts < 0:
                return kept
            if fails(rest):
                kept, parts = rest, max(parts - 1, 2)
                break
        else:
            if parts >= len(kept):
                return kept
            parts = min(2 * parts, len(kept))
    return kept


def _without_each(items: list[_T], parts: int) -> list[list[_T]]:
    """The list without each of so many parts of about the same size."""
    ends = [len(items) * part // parts for part in range(parts + 1)]
    return [items[:low] + items[high:] for low, high in itertools.pairwise(ends)]
