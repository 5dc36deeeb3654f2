"""The kernel's sort, which is not stable: the heap decides the order of equal items."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TypeVar

Item = TypeVar("Item")


def kernel_sorted(items: Iterable[Item], key: Callable[[Item], bytes]) -> list[Item]:
    """The items in the order that sort() gives them: bottom-up heap sort (lib/sort.c, Linux 6.1)."""
    heap = [(key(item), item) for item in items]
    if len({value for value, _ in heap}) == len(heap):  # without equal items, any sort gives the same order
        return [item for _, item in sorted(heap, key=operator.itemgetter(0))]
    for root in reversed(range(len(heap) // 2)):
        _sift_down(heap, root, len(heap))
    for end in reversed(range(1, len(heap))):
        heap[0], heap[end] = heap[end], heap[0]
        _sift_down(heap, 0, end)
    return [item for _, item in heap]


def _sift_down(heap: list[tuple[bytes, Item]], root: int, end: int) -> None:
    """Move the root to its place among the items before `end`; all others are in heap order."""
    sinking = heap[root]
    path = [root]
    while (left := 2 * path[-1] + 1) < end:
        right = left + 1
        path.append(left if right == end or heap[left][0] >= heap[right][0] else right)
    while len(path) > 1 and sinking[0] >= heap[path[-1]][0]:
        path.pop()
    for above, below in pairwise(path):
        heap[above] = heap[below]
    heap[path[-1]] = sinking
