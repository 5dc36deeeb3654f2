"""Lists of bad sectors of newer kernels, beside a plain set of numbers."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvdimmfs.block.badblocks import MAX_ENTRIES, MAX_ENTRY_SECTORS, SortedBadblocks
from nvdimmfs.errors import KernelError

RANGES = st.tuples(st.integers(0, 5000), st.integers(1, 1500))


def entries(blocks):
    return [tuple(map(int, line.split())) for line in blocks.show().splitlines()]


@given(st.lists(st.tuples(st.booleans(), RANGES), max_size=40))
def test_a_sorted_list_has_the_sectors_that_were_set_and_not_cleared(changes):
    blocks, bad = SortedBadblocks(), set()
    for is_bad, (first, count) in changes:
        sectors = range(first, first + count)
        if is_bad:
            blocks.set(first, count)
            bad.update(sectors)
        else:
            blocks.clear(first, count)
            bad.difference_update(sectors)
        found = entries(blocks)
        assert found == sorted(found)
        assert all(length <= MAX_ENTRY_SECTORS for _, length in found)
        assert [sector for start, length in found for sector in range(start, start + length)] == sorted(bad)
        assert blocks.overlaps(first, count) == is_bad


def test_a_full_list_takes_what_fits_into_its_entries():
    blocks = SortedBadblocks()
    for number in range(MAX_ENTRIES):
        blocks.set(number * 1000, 10)
    blocks.set(5, 20)  # extends the first entry
    assert blocks.overlaps(24, 1)
    with pytest.raises(KernelError) as refusal:
        blocks.set(500, 1)
    assert refusal.value.errno == errno.ENOSPC
    blocks.clear(1002, 2)  # would be two entries
    assert blocks.overlaps(1002, 2)
