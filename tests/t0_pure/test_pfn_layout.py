import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.pfn import PfnMode
from nvdimmfs.kernels.kernel import KERNEL_6_1, KERNELS
from nvdimmfs.kernels.layout_rules import CapacityCheck
from nvdimmfs.mm.pfn_layout import Neighbourhood, altmap_for, lay_out
from nvdimmfs.mm.resource import Resource, ResourceFlag, iomem_root
from nvdimmfs.units import GIB, KIB, MIB, PAGE_SIZE, PIB, SECTION_SIZE, TIB

RAM, PMEM = PfnMode.RAM, PfnMode.PMEM

# What a real 6.1 kernel showed in `resource` and `size` of bound pfn and dax devices.
BOUND_ON_A_REAL_KERNEL = [
    # start, size, align, mode, resource, size attribute
    (4 * GIB, 512 * MIB, 2 * MIB, PMEM, 0x100A00000, 526385152),
    (4 * GIB, 512 * MIB, 4 * KIB, PMEM, 0x100A00000, 526385152),
    (4 * GIB, 512 * MIB, 2 * MIB, RAM, 0x100200000, 534773760),
    (4 * GIB, 512 * MIB, 4 * KIB, RAM, 0x100200000, 534773760),
    (6 * GIB, 256 * MIB, 2 * MIB, PMEM, 0x180600000, 262144000),
    (6 * GIB, 256 * MIB, 2 * MIB, RAM, 0x180200000, 266338304),
    (4 * GIB, 256 * MIB, 4 * KIB, RAM, 0x100200000, 266338304),
    (5 * GIB, 256 * MIB, 4 * KIB, PMEM, 0x140600000, 262144000),
    (4 * GIB, 64 * MIB, 2 * MIB, PMEM, 0x100200000, 65011712),
    (0x104000000, 64 * MIB, 2 * MIB, RAM, 0x104200000, 65011712),
    (0x108000000, 96 * MIB, 2 * MIB, PMEM, 0x108200000, 98566144),
    (0x106800000, 130 * MIB, 2 * MIB, PMEM, 0x106C00000, 132120576),
    (0x151800000, 258 * MIB, 4 * KIB, PMEM, 0x151E00000, 264241152),
    (0x40000000, 0x3FFDE000, 2 * MIB, RAM, 0x40200000, 1069547520),
    (0x40000000, 0x3FFDE000, 2 * MIB, PMEM, 0x41200000, 1052770304),
    (12 * GIB, 10 * GIB, 2 * MIB, PMEM, 0x30A200000, 10567548928),
    (0x108000000, 64 * MIB, 4 * KIB, PMEM, 0x108200000, 65011712),
    (0x1A1E00000, 32 * MIB, 2 * MIB, PMEM, 0x1A2000000, 31457280),
    (0x1A2E00000, 96 * MIB, 4 * KIB, PMEM, 0x1A3000000, 98566144),
    (4 * GIB, 32 * MIB, 2 * MIB, PMEM, 0x100200000, 31457280),
    (0x108000000, 16 * MIB, 2 * MIB, PMEM, 0x108200000, 14680064),
    (6 * GIB, 16 * MIB, 4 * KIB, PMEM, 0x180200000, 14680064),
    (0x181000000, 96 * MIB, 2 * MIB, PMEM, 0x181200000, 98566144),
    (0x19FE00000, 128 * MIB, 2 * MIB, PMEM, 0x1A0200000, 130023424),
    (0x19FE00000, 48 * MIB, 2 * MIB, RAM, 0x1A0000000, 48234496),
]

# Worked by hand from the formula of 6.1.
WORKED = [
    # start, size, align, mode, dataoff, end_trunc, npfns, size attribute
    (4 * GIB, 16 * GIB, 2 * MIB, PMEM, 0x10200000, 0, 0x3EFE00, 0x3EFE00000),
    (4 * GIB, 16 * GIB, 2 * MIB, RAM, 0x200000, 0, 0x3FFE00, 0x3FFE00000),
    (4 * GIB, 16 * GIB, GIB, PMEM, 0x40000000, 0, 0x3C0000, 0x3C0000000),
    (4 * GIB, GIB, 2 * MIB, PMEM, 0x1200000, 0, 0x3EE00, 0x3EE00000),
    (4 * GIB, 128 * MIB, 2 * MIB, PMEM, 0x400000, 0, 0x7C00, 0x7C00000),
    (0x210000000, 4 * GIB, GIB, PMEM, 0x30000000, 0x10000000, 0xC0000, 0xC0000000),
]


@pytest.mark.parametrize(("start", "size", "align", "mode", "resource", "shown"), BOUND_ON_A_REAL_KERNEL)
def test_the_layout_is_that_of_a_real_kernel(start, size, align, mode, resource, shown):
    layout = lay_out(start, size, align, mode)
    assert (layout.data.start, layout.data_size) == (resource, shown)
    assert layout.npfns == shown // PAGE_SIZE


@pytest.mark.parametrize(("start", "size", "align", "mode", "dataoff", "end_trunc", "npfns", "shown"), WORKED)
def test_the_layout_is_the_worked_one(start, size, align, mode, dataoff, end_trunc, npfns, shown):
    layout = lay_out(start, size, align, mode)
    assert (layout.dataoff, layout.end_trunc, layout.npfns, layout.data_size) == (dataoff, end_trunc, npfns, shown)
    assert (layout.start_pad, layout.minor, layout.align) == (0, 4, align)


@pytest.mark.parametrize(
    ("start", "size", "align", "mode", "kernel", "number"),
    [
        (4 * GIB + MIB, GIB, 2 * MIB, RAM, "6.1", errno.EINVAL),
        (4 * GIB + MIB, GIB, 2 * MIB, PfnMode.NONE, "6.1", errno.EINVAL),
        (4 * GIB, GIB, 2 * MIB, PfnMode.NONE, "6.1", errno.ENXIO),
        (4 * GIB, 2 * MIB, 2 * MIB, RAM, "6.1", errno.ENXIO),
        (0x120000000, 256 * MIB, GIB, PMEM, "6.1", errno.ENXIO),  # as on a real kernel
        (4 * GIB, 64 * MIB, 0, RAM, "rfc", errno.ENODEV),
        (4 * GIB + 64 * MIB, GIB, 0, RAM, "rfc", errno.ENODEV),
        (4 * GIB + 64 * MIB, GIB, 0, RAM, "4.3", errno.ENODEV),
        (4 * GIB, GIB, 0, PMEM, "4.3", errno.ENXIO),
        (4 * GIB, GIB, 2 * MIB, PfnMode.NONE, "4.5", errno.ENXIO),
        (4 * GIB, 512 * MIB, GIB, PMEM, "4.9", errno.ENXIO),
    ],
)
def test_an_impossible_layout_has_the_kernels_errno(start, size, align, mode, kernel, number):
    with pytest.raises(KernelError) as caught:
        lay_out(start, size, align, mode, KERNELS[kernel])
    assert caught.value.errno == number


@pytest.mark.parametrize(
    ("kernel", "mode", "dataoff", "minor"),
    [
        ("rfc", RAM, 2 * MIB, 0),
        ("rfc", PMEM, 18 * MIB, 0),  # 8K + 64 * 0x3fffe bytes, to the next 2M
        ("4.3", RAM, 8 * KIB, 0),
        ("4.5", RAM, 2 * MIB, 0),
        ("4.5", PMEM, 18 * MIB, 0),
        ("4.6", RAM, 2 * MIB, 1),
        ("4.6", PMEM, 18 * MIB, 1),
        ("4.9", PMEM, 18 * MIB, 2),
        ("4.15", PMEM, 18 * MIB, 3),
        ("5.2", PMEM, 18 * MIB, 2),
        ("6.12", PMEM, 18 * MIB, 4),
    ],
)
def test_each_kernel_has_its_formula(kernel, mode, dataoff, minor):
    layout = lay_out(4 * GIB, GIB, 2 * MIB, mode, KERNELS[kernel])
    assert (layout.dataoff, layout.minor) == (dataoff, minor)
    assert layout.npfns == (GIB - dataoff) // PAGE_SIZE
    assert layout.start_pad == layout.end_trunc == 0


def test_an_align_of_4k_counts_as_2m_since_5_7_only():
    assert lay_out(4 * GIB, GIB, 4 * KIB, RAM, KERNELS["5.2"]).dataoff == 8 * KIB
    assert lay_out(4 * GIB, GIB, 4 * KIB, RAM, KERNELS["5.7"]).dataoff == 2 * MIB


def test_the_offset_is_aligned_by_itself_until_4_5_and_with_the_address_since():
    start = 4 * GIB + 3 * MIB
    assert lay_out(start, GIB, 2 * MIB, RAM, KERNELS["4.5"]).dataoff == 2 * MIB
    assert lay_out(start, GIB, 2 * MIB, RAM, KERNELS["4.6"]).dataoff == MIB


def test_dax_keeps_room_for_a_label_from_4_9_to_4_20():
    def dataoff(kernel):
        return lay_out(4 * GIB, GIB, 4 * KIB, RAM, KERNELS[kernel], dax=kernel != "4.6").dataoff

    assert [dataoff(kernel) for kernel in ("4.6", "4.9", "4.15", "4.20", "5.2")] == [
        8 * KIB,
        136 * KIB,
        136 * KIB,
        136 * KIB,
        8 * KIB,
    ]


def around(start, size):
    """A namespace with System RAM on both sides."""
    root = iomem_root((1 << 52) - 1)
    root.insert(Resource("System RAM", MIB, start - 1, ResourceFlag.SYSTEM_RAM | ResourceFlag.BUSY))
    root.insert(Resource("Persistent Memory (legacy)", start, start + size - 1))
    root.insert(Resource("System RAM", start + size, 1 << 40, ResourceFlag.SYSTEM_RAM | ResourceFlag.BUSY))
    return Neighbourhood(root)


def test_sections_shared_with_ram_are_padded_away_from_4_6_to_5_2():
    start, size = 4 * GIB + 32 * MIB, GIB
    for name in ("4.6", "4.9", "4.15", "4.20", "5.2"):
        layout = lay_out(start, size, 2 * MIB, RAM, KERNELS[name], neighbourhood=around(start, size))
        assert (layout.start_pad, layout.end_trunc) == (96 * MIB, 32 * MIB)
        assert layout.range.start % SECTION_SIZE == (layout.range.end + 1) % SECTION_SIZE == 0
        assert layout.data_size == size - 128 * MIB - layout.dataoff == layout.npfns * PAGE_SIZE
    assert lay_out(start, size, 2 * MIB, RAM, neighbourhood=around(start, size)).start_pad == 0


def test_another_region_in_the_section_counts_since_4_15():
    start, size = 4 * GIB + 32 * MIB, GIB
    root = iomem_root((1 << 52) - 1)
    root.insert(Resource("Persistent Memory (legacy)", start, start + size - 1))
    near = Neighbourhood(root, lambda low, _size: low < start)
    assert lay_out(start, size, 2 * MIB, RAM, KERNELS["4.9"], neighbourhood=near).start_pad == 0
    layout = lay_out(start, size, 2 * MIB, RAM, KERNELS["4.15"], neighbourhood=near)
    assert (layout.start_pad, layout.end_trunc) == (96 * MIB, 0)


def test_a_misaligned_end_is_cut_to_the_section_from_4_15_to_5_2_and_to_the_alignment_since():
    start, size = 4 * GIB, GIB + MIB
    assert lay_out(start, size, 2 * MIB, RAM, KERNELS["4.15"]).end_trunc == MIB
    size = GIB + 3 * MIB
    assert lay_out(start, size, 2 * MIB, RAM, KERNELS["4.15"]).end_trunc == 3 * MIB
    assert lay_out(start, size, 2 * MIB, RAM, KERNELS["6.1"]).end_trunc == MIB


def test_the_altmap_covers_what_lies_between_the_info_block_and_the_data():
    altmap = altmap_for(lay_out(4 * GIB, 16 * GIB, 2 * MIB, PMEM))
    assert altmap is not None
    assert (altmap.base_pfn, altmap.end_pfn, altmap.reserve, altmap.free) == (0x100000, 0x4FFFFF, 2, 66046)
    assert altmap_for(lay_out(4 * GIB, 16 * GIB, 2 * MIB, RAM)) is None


def test_before_5_3_the_altmap_begins_at_the_section():
    start = 4 * GIB + 32 * MIB
    altmap = altmap_for(lay_out(start, GIB, 2 * MIB, PMEM, KERNELS["5.2"]), KERNELS["5.2"])
    assert altmap is not None
    assert (altmap.base_pfn, altmap.reserve) == (0x100000, 2 + (32 * MIB) // PAGE_SIZE)


def layout_or_none(*arguments):
    try:
        return lay_out(*arguments)
    except KernelError:
        return None


def multiples(most):
    """Of a page, and of what 6.1 wants."""
    return st.one_of(st.integers(1, most // unit).map(unit.__mul__) for unit in (PAGE_SIZE, 2 * MIB))


@settings(max_examples=300)
@given(
    start=multiples(256 * GIB),
    size=st.one_of(multiples(64 * GIB), st.sampled_from([TIB, 6 * TIB, PIB])),
    align=st.sampled_from([4 * KIB, 2 * MIB, GIB]),
    mode=st.sampled_from([RAM, PMEM]),
    kernel=st.sampled_from([kernel for kernel in KERNELS.values() if kernel.name not in ("rfc", "4.3", "4.5")]),
)
def test_the_parts_fill_the_namespace_and_the_data_is_aligned(start, size, align, mode, kernel):
    layout = layout_or_none(start, size, align, mode, kernel)
    if layout is None:
        return
    if layout.end_trunc > size:
        assert kernel.layout.capacity is CapacityCheck.OFFSET_BELOW_END, "whose check wraps around"
        return
    assert layout.start_pad + layout.dataoff + layout.npfns * PAGE_SIZE + layout.end_trunc == size
    assert layout.npfns >= 0
    assert layout.data.start % align == 0
    if mode is PMEM:
        assert layout.memmap_size >= layout.npfns * 64
    if kernel is KERNEL_6_1:
        assert layout.range.start % (2 * MIB) == (layout.range.end + 1) % (2 * MIB) == 0
