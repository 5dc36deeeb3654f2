import contextlib
import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvdimmfs.errors import KernelError
from nvdimmfs.nd.dpa import DpaSpace, DpaWindow

NAMES = st.sampled_from("abc")
SIZES = st.integers(1, 12)
STEPS = st.one_of(
    st.tuples(st.just("allocate"), NAMES, st.integers(0, 90), SIZES),
    st.tuples(st.just("grow"), st.builds(DpaWindow, st.integers(0, 40), st.just(48), st.just(4)), NAMES, SIZES),
    st.tuples(st.just("shrink"), NAMES, SIZES),
    st.tuples(st.just("rename"), NAMES, NAMES),
)


@given(st.lists(STEPS, max_size=25))
def test_what_is_kept_of_a_dimm_is_what_counting_anew_finds(steps):
    window = DpaWindow(8, 64, 4)
    space = DpaSpace()
    for step, *arguments in steps:
        with contextlib.suppress(KernelError):
            getattr(space, step)(*arguments)
        anew = DpaSpace()
        for resource in space:
            anew.allocate(resource.name, resource.start, resource.size)
        assert space.available(window) == anew.available(window)
        assert space.largest_extent(window) == anew.largest_extent(window)
        for name in "abc":
            extents = [resource for resource in space if resource.name == name]
            assert space.named(name) == extents
            assert space.allocated(name) == sum(extent.size for extent in extents)
    assert len(space) == len(list(space))


def space_with(*extents: tuple[str, int, int]) -> DpaSpace:
    space = DpaSpace()
    for name, start, size in extents:
        space.allocate(name, start, size)
    return space


def test_an_empty_window_is_free_as_far_as_its_alignment_goes():
    assert DpaSpace().largest_extent(DpaWindow(0, 70, 16)) == 64


def test_an_extent_takes_all_that_the_alignment_covers():
    space = space_with(("a", 8, 8), ("b", 24, 8), ("c", 40, 8))
    window = DpaWindow(0, 64, 16)
    assert (space.available(window), space.largest_extent(window)) == (16, 16)
    space.allocate("d", 60, 4)
    assert (space.available(window), space.largest_extent(window)) == (0, 0)


def test_two_extents_below_the_first_multiple_of_the_alignment_hide_the_free_space():
    """The gap between them ends before address 0, which is the last address of all."""
    space = space_with(("a", 0, 4), ("b", 4, 40))
    assert space.largest_extent(DpaWindow(0, 128, 4)) == 84
    assert space.available(DpaWindow(0, 128, 16)) == 64
    assert space.largest_extent(DpaWindow(0, 128, 16)) == 0
    with pytest.raises(KernelError) as refusal:
        space.grow(DpaWindow(0, 128, 16), "c", 16)
    assert refusal.value.errno == errno.ENXIO


def test_space_after_them_can_be_had_where_nothing_is_in_the_way():
    space = space_with(("a", 0, 4), ("b", 4, 8))
    window = DpaWindow(0, 128, 16)
    assert space.largest_extent(window) == space.available(window) == 96
    space.grow(window, "c", 16)
    assert [(resource.name, resource.start) for resource in space] == [("a", 0), ("b", 4), ("c", 16)]


def test_an_extent_at_the_start_cannot_grow_over_its_neighbour():
    space = space_with(("a", 0, 4), ("b", 4, 40))
    with pytest.raises(KernelError) as refusal:
        space.grow(DpaWindow(0, 128, 16), "a", 16)
    assert refusal.value.errno == errno.ENXIO
    assert space.allocated("a") == 4
