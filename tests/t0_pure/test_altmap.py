import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvdimmfs.mm.altmap import VmemAltmap
from nvdimmfs.units import GIB, PAGES_PER_PMD, PIB, pages


class NaiveAltmap:
    """One block at a time, frame by frame, as the text of mm/sparse-vmemmap.c reads."""

    def __init__(self, base_pfn, reserve, free, skips_reserve=True):
        self.frames = [base_pfn + (reserve if skips_reserve else 0) + i for i in range(free)]
        self.used = self.lost = 0

    def allocate(self, nr_pfns):
        alignment = 1
        while nr_pfns % (alignment * 2) == 0:
            alignment *= 2
        lost = 0
        while self.used + self.lost + lost < len(self.frames):
            if self.frames[self.used + self.lost + lost] % alignment == 0:
                break
            lost += 1
        first = self.used + self.lost + lost
        if first + nr_pfns > len(self.frames):
            return None
        self.lost += lost
        self.used += nr_pfns
        return self.frames[first]


bases = st.integers(1, 1 << 20)
reserves = st.integers(0, 600)
block_sizes = st.one_of(st.sampled_from([1, 2, 8, PAGES_PER_PMD]), st.integers(1, 100))


@settings(max_examples=200)
@given(
    bases,
    reserves,
    st.integers(0, 4000),
    st.lists(st.tuples(block_sizes, st.integers(1, 6)), max_size=8),
    st.booleans(),
)
def test_many_blocks_at_once_are_where_one_after_the_other_would_be(base, reserve, free, requests, skips_reserve):
    altmap = VmemAltmap(base, base + reserve + free, reserve, free, skips_reserve=skips_reserve)
    naive = NaiveAltmap(base, reserve, free, skips_reserve)
    for nr_pfns, times in requests:
        times = min(times, altmap.fitting(nr_pfns))
        if times:
            first = altmap.allocate(nr_pfns, times)
            assert [naive.allocate(nr_pfns) for _ in range(times)] == [first + i * nr_pfns for i in range(times)]
        assert (altmap.alloc, altmap.align) == (naive.used, naive.lost)
        assert altmap.alloc + altmap.align + altmap.available == altmap.free


@settings(max_examples=200)
@given(bases, reserves, st.integers(0, 4000), block_sizes)
def test_as_many_fit_as_can_be_allocated(base, reserve, free, nr_pfns):
    naive = NaiveAltmap(base, reserve, free)
    count = 0
    while naive.allocate(nr_pfns) is not None:
        count += 1
    assert VmemAltmap(base, base + reserve + free, reserve, free).fitting(nr_pfns) == count


def test_sixteen_gibibytes_use_every_free_frame():
    altmap = VmemAltmap(base_pfn=0x100000, end_pfn=0x4FFFFF, reserve=2, free=66046)
    assert altmap.offset == 66048
    assert altmap.fitting(PAGES_PER_PMD) == 128
    assert altmap.allocate(PAGES_PER_PMD, 128) == 0x100200
    assert (altmap.align, altmap.alloc, altmap.available) == (510, 65536, 0)


def test_pages_given_back_leave_the_alignment_lost():
    altmap = VmemAltmap(0x100000, 0x1FFFFF, 2, 4606)
    altmap.allocate(PAGES_PER_PMD, 8)
    altmap.give_back(8 * PAGES_PER_PMD)
    assert (altmap.alloc, altmap.align) == (0, 510)
    altmap.allocate(PAGES_PER_PMD)
    altmap.reset()
    assert (altmap.alloc, altmap.align) == (0, 510)


def test_the_rfc_began_at_the_base():
    assert VmemAltmap(0x100000, 0x1FFFFF, 2, 4606, skips_reserve=False).allocate(PAGES_PER_PMD) == 0x100000
    assert VmemAltmap(0x100000, 0x1FFFFF, 2, 4606).allocate(PAGES_PER_PMD) == 0x100200


def test_more_than_there_is_is_a_mistake_of_the_caller():
    altmap = VmemAltmap(0x100000, 0x1FFFFF, 2, 512)
    with pytest.raises(AssertionError):
        altmap.allocate(PAGES_PER_PMD)
    with pytest.raises(AssertionError):
        altmap.give_back(1)


def test_a_petabyte_of_blocks_is_one_sum():
    sections = PIB // (128 << 20)
    altmap = VmemAltmap(pages(4 * GIB), pages(4 * GIB + PIB) - 1, 2, 510 + sections * PAGES_PER_PMD)
    assert altmap.fitting(PAGES_PER_PMD) == sections
    altmap.allocate(PAGES_PER_PMD, sections)
    assert altmap.available == 0
