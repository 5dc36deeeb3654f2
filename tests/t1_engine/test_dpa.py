import contextlib

from hypothesis import given, settings
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


@settings(deadline=None)
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
