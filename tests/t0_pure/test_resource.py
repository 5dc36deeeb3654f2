import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvdimmfs.errors import KernelError
from nvdimmfs.mm.iomem import iomem_text
from nvdimmfs.mm.resource import (
    Intersection,
    Resource,
    ResourceDescriptor,
    ResourceFlag,
    iomem_root,
)

MEM, BUSY, SYSTEM_RAM = ResourceFlag.MEM, ResourceFlag.BUSY, ResourceFlag.SYSTEM_RAM
LEGACY = ResourceDescriptor.PERSISTENT_MEMORY_LEGACY


@pytest.fixture
def iomem():
    root = iomem_root((1 << 52) - 1)
    root.insert(Resource("System RAM", 0x1000, 0x7FFFFFFF, SYSTEM_RAM | BUSY))
    root.insert(Resource("Persistent Memory (legacy)", 0x100000000, 0x11FFFFFFF, MEM, LEGACY))
    root.insert(Resource("System RAM", 0x120000000, 0x17FFFFFFF, SYSTEM_RAM | BUSY))
    return root


def refused(call, *arguments):
    with pytest.raises(KernelError) as caught:
        call(*arguments)
    return caught.value.errno


def test_a_request_descends_into_what_is_not_busy_and_inherits_its_kind(iomem):
    region = iomem.request(0x100000000, 0x20000000, "namespace0.0")
    assert region.parent is iomem.children[1]
    assert (region.flags, region.desc) == (MEM | BUSY, LEGACY)
    assert "100000000-11fffffff : Persistent Memory (legacy)\n  100000000-11fffffff : namespace0.0\n" in iomem_text(
        iomem
    )


def test_a_request_of_what_somebody_has_is_busy(iomem):
    iomem.request(0x100000000, 0x2000, "namespace0.0")
    for start, size in ((0x100000000, 0x2000), (0x100001000, 0x2000), (0x100000000, 0x20000000), (0x1000, 0x1000)):
        assert refused(iomem.request, start, size, "another") == errno.EBUSY
    iomem.request(0x100002000, 0x2000, "dax0.0")


@pytest.mark.parametrize(("start", "size"), [(0xFFFFF000, 0x2000), (0x11FFFF000, 0x2000), (0xF0000000, 0x40000000)])
def test_a_request_across_the_edge_of_a_resource_is_busy(iomem, start, size):
    assert refused(iomem.request, start, size, "across") == errno.EBUSY


def test_a_request_beyond_the_root_is_busy(iomem):
    assert refused(iomem.request, (1 << 52) - 0x1000, 0x2000, "beyond") == errno.EBUSY


def test_release_takes_back_exactly_what_was_requested(iomem):
    before = iomem_text(iomem)
    iomem.request(0x100000000, 0x2000, "namespace0.0")
    with pytest.raises(LookupError):
        iomem.release(0x100000000, 0x1000)
    iomem.release(0x100000000, 0x2000)
    assert iomem_text(iomem) == before
    with pytest.raises(LookupError):
        iomem.release(0x100000000, 0x2000)


@pytest.mark.parametrize(
    ("start", "size", "found"),
    [
        (0x100000000, 0x20000000, Intersection.DISJOINT),
        (0x120000000, 0x1000, Intersection.INTERSECTS),
        (0x11FFFF000, 0x2000, Intersection.MIXED),
        (0x17FFFF000, 0x100000000, Intersection.INTERSECTS),  # the rest is in no resource
        (0x200000000, 0x1000, Intersection.DISJOINT),
        (0x0, 0x200000000, Intersection.MIXED),
    ],
)
def test_a_range_meets_system_ram_as_the_kernel_sees_it(iomem, start, size, found):
    assert iomem.intersects(start, size) is found


def test_ram_below_another_resource_counts_as_far_as_it_covers():
    root = iomem_root(0xFFFFFFFF)
    window = root.insert(Resource("CXL Window 0", 0x10000, 0x1FFFF))
    window.insert(Resource("System RAM", 0x10000, 0x17FFF, SYSTEM_RAM | BUSY))
    assert root.intersects(0x10000, 0x8000) is Intersection.INTERSECTS
    assert root.intersects(0x10000, 0x10000) is Intersection.MIXED
    assert root.intersects(0x18000, 0x8000) is Intersection.DISJOINT


def test_insert_takes_in_what_it_covers():
    root = iomem_root(0xFFFFFFFF)
    root.insert(Resource("System ROM", 0xF0000, 0xFFFFF))
    root.insert(Resource("Reserved", 0xF0000, 0xFFFFF))
    root.insert(Resource("inner", 0xF1000, 0xF1FFF))
    assert iomem_text(root) == (
        "000f0000-000fffff : Reserved\n  000f0000-000fffff : System ROM\n    000f1000-000f1fff : inner\n"
    )
    assert refused(root.insert, Resource("across", 0xE0000, 0xF0FFF)) == errno.EBUSY


def test_the_text_hides_addresses_from_the_unprivileged_and_indents_five_levels_at_most():
    root = iomem_root(0xFFFFFFFF)
    for level in range(7):
        root.insert(Resource(f"level {level}", level, 0x100 - level))
    lines = iomem_text(root, privileged=False).splitlines()
    assert lines[0] == "00000000-00000000 : level 0"
    assert [len(line) - len(line.lstrip()) for line in lines] == [0, 2, 4, 6, 8, 10, 10]


def test_a_small_root_is_shown_four_digits_wide():
    root = iomem_root(0xFFFF)
    root.insert(Resource("dma1", 0, 0x1F))
    assert iomem_text(root) == "0000-001f : dma1\n"


def test_resources_of_a_kind_are_found_without_those_below_them(iomem):
    iomem.request(0x100000000, 0x2000, "namespace0.0")
    assert [str(r) for r in iomem.matching(MEM, LEGACY)] == ["Persistent Memory (legacy) 0x100000000-0x11fffffff"]
    assert sum(r.size for r in iomem.matching(SYSTEM_RAM)) == 0x7FFFF000 + 0x60000000


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 8)), max_size=20))
def test_busy_children_never_overlap_and_releasing_all_leaves_nothing(requests):
    root = iomem_root(63)
    held = []
    for start, size in requests:
        free = start + size <= 64 and all(start + size <= a or a + n <= start for a, n in held)
        if free:
            root.request(start, size, "x")
            held.append((start, size))
        else:
            assert refused(root.request, start, size, "x") == errno.EBUSY
    assert [(c.start, c.size) for c in root.children] == sorted(held)
    for start, size in held:
        root.release(start, size)
    assert not root.children


def test_children_of_a_removed_resource_move_up():
    root = iomem_root(0xFFFF)
    outer = root.insert(Resource("Persistent Memory", 0x1000, 0x4FFF))
    root.request(0x1000, 0x1000, "namespace0.0")
    root.request(0x3000, 0x1000, "namespace0.1")
    outer.remove()
    assert [child.name for child in root.children] == ["namespace0.0", "namespace0.1"]
    root.release(0x1000, 0x1000)
    again = root.insert(Resource("Persistent Memory", 0x1000, 0x4FFF))
    assert [child.name for child in again.children] == ["namespace0.1"]
