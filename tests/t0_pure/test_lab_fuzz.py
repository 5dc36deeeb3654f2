"""Walks, and the shortest stories that show a difference."""

import random

import pytest

from nvdimmfs.lab.ddmin import shortest

PLENTY = 10_000


@pytest.mark.parametrize("needed", [{0}, {99}, {0, 99}, {13, 14, 57}, set(range(20, 30))])
def test_the_steps_that_suffice_remain(needed):
    assert shortest(range(100), lambda some: needed <= set(some), PLENTY) == sorted(needed)


def test_none_of_what_remains_can_be_left_out():
    """Also where what is needed depends on what else is there."""
    chance = random.Random(7)
    for _ in range(50):
        pairs = [(chance.randrange(40), chance.randrange(40)) for _ in range(5)]

        def fails(some, pairs=pairs):
            there = set(some)
            return any(one in there and other in there for one, other in pairs)

        kept = shortest(range(40), fails, PLENTY)
        assert fails(kept)
        assert not any(fails(kept[:index] + kept[index + 1 :]) for index in range(len(kept)))


def test_the_attempts_are_limited():
    tried = []
    kept = shortest(range(100), lambda some: tried.append(1) or {0, 99} <= set(some), 5)
    assert len(tried) == 5
    assert {0, 99} <= set(kept)


@pytest.mark.parametrize("items", [[], [1]])
def test_nothing_is_shorter_than_one(items):
    assert shortest(items, lambda _: pytest.fail("there is nothing to leave out"), PLENTY) == items
