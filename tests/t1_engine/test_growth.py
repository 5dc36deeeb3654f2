"""What a machine keeps of things that are gone: nothing."""

from __future__ import annotations

import contextlib
import gc
from collections import deque

import pytest
from engine_cycles import KINDS

#: Cycles before the first count, which fill the slots of a label area and the free lists, and between the two.
WARM_UP, CYCLES = 40, 30


def weight() -> int:
    """The objects that the process holds, and the elements of their containers."""
    gc.collect()
    objects = gc.get_objects()
    return len(objects) + sum(len(thing) for thing in objects if type(thing) in (dict, list, set, frozenset, deque))


@pytest.mark.no_cover  # many times what other tests cover
@pytest.mark.parametrize("kind", KINDS)
def test_cycles_leave_nothing_behind(kind: str) -> None:
    with contextlib.ExitStack() as stack:
        cycle = KINDS[kind](stack)
        for _ in range(WARM_UP):
            cycle()
        before = weight()
        for _ in range(CYCLES):
            cycle()
        assert weight() - before < CYCLES
