import errno
import itertools
import re
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rules import parse_rule

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.pfn import PfnMode
from nvdimmfs.kernels.kernel import KERNEL_6_1, KERNELS
from nvdimmfs.media.memory import MemoryMedia
from nvdimmfs.mm.altmap import VmemAltmap
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.memremap import DevPagemap, MemoryType, PagemapState
from nvdimmfs.mm.nodes import Nodes
from nvdimmfs.mm.pfn_layout import altmap_for, lay_out
from nvdimmfs.mm.sparse import Memmap, Place
from nvdimmfs.units import GIB, KIB, MIB, PAGE_SIZE, PIB, SECTION_SIZE, TIB, Range, pages

MEMMAP_OF_A_SECTION = 2 * MIB


def pagemap(start, size, **attributes):
    return DevPagemap((Range.sized(start, size),), **attributes)


def bound(layout, kernel=KERNEL_6_1):
    """The page map of a pfn device with that layout."""
    return DevPagemap((layout.range,), altmap=altmap_for(layout, kernel), owner="pfn0.0")


def left_of(media, start, size):
    """The stretches of a range of a medium that still hold what it was filled with, as offsets from its start."""
    return [found.span() for found in re.finditer(b"\xff+", media.read(start, size))]


def refused(call, *arguments):
    with pytest.raises(KernelError) as caught:
        call(*arguments)
    return caught.value.errno


def state(memory):
    """All that a failure must not change."""
    return (memory.ram_free, list(memory.sparse.hot), memory.pagemaps, memory.zoneinfo_text(), memory.iomem_text())


@pytest.fixture
def memory():
    return Memory.boot("512M!4G,256M!6G")


def test_a_range_gets_struct_pages_and_the_zone_grows(memory):
    before = memory.ram_free
    raw = pagemap(4 * GIB, 512 * MIB, owner="namespace0.0")
    assert memory.memremap_pages(raw) == 0xFFFF888100000000
    assert before - memory.ram_free == raw.ram_bytes == 4 * MEMMAP_OF_A_SECTION == pages(512 * MIB) * 64
    zone = memory.device_zone()
    assert (zone.start_pfn, zone.spanned, zone.present, zone.managed) == (0x100000, 0x20000, 0, 0)
    assert memory.max_pfn == 0x180000
    assert (raw.state, raw.refs) == (PagemapState.LIVE, 1 + 0x20000)
    assert memory.memunmap_pages(raw)
    assert (raw.state, raw.refs, memory.ram_free, memory.pagemaps) == (PagemapState.IDLE, 0, before, [])


def test_a_memmap_in_the_range_itself_overwrites_what_was_there(memory):
    """All struct pages but those of the two frames of the info block."""
    layout = lay_out(4 * GIB, 512 * MIB, 2 * MIB, PfnMode.PMEM)
    media = MemoryMedia(512 * MIB)
    media.write(0, b"\xff" * 12 * MIB)
    device = DevPagemap((layout.range,), altmap=altmap_for(layout), media=media, media_start=4 * GIB)
    memory.memremap_pages(device)
    assert left_of(media, 0, 12 * MIB) == [(0, 2 * MIB + 2 * 64), (10 * MIB, 12 * MIB)]


def test_a_memmap_in_ram_overwrites_nothing(memory):
    layout = lay_out(4 * GIB, 512 * MIB, 2 * MIB, PfnMode.RAM)
    media = MemoryMedia(512 * MIB)
    media.write(0, b"\xff" * 12 * MIB)
    memory.memremap_pages(DevPagemap((layout.range,), media=media, media_start=4 * GIB))
    assert left_of(media, 0, 12 * MIB) == [(0, 12 * MIB)]


def test_the_memmap_of_mode_pmem_lies_in_the_range_itself(memory):
    before = memory.ram_free
    device = bound(lay_out(4 * GIB, 512 * MIB, 2 * MIB, PfnMode.PMEM))
    memory.memremap_pages(device)
    assert memory.ram_free == before
    assert (device.altmap.alloc, device.altmap.align) == (4 * 512, 510)
    assert device.pfn_first() == 0x100A00
    assert device.refs == 1 + 0x20000 - 0xA00
    memory.memunmap_pages(device)
    assert device.altmap.alloc == 0


# spanned pages of ZONE_DEVICE that a real 6.1 kernel showed with every range of memmap= mapped
SPANNED = {
    ("512M!4G,256M!6G", ((0x100000000, 0x20000000), (0x180000000, 0x10000000))): 589824,
    ("1G!4G,1G!4608M,64M!1G", ((0x40000000, 64 * MIB), (0x100000000, 512 * MIB), (0x140000000, 512 * MIB))): 1179648,
    ("64M!4G,64M!4160M,96M!4224M", ((0x108000000, 96 * MIB), (0x104000000, 64 * MIB), (0x100000000, 64 * MIB))): 57344,
    ("130M!4200M,3M!5G,258M!5400M,1023K!5800M", ((0x106800000, 130 * MIB), (0x151800000, 258 * MIB))): 373248,
}


@pytest.mark.parametrize(("memmap", "ranges"), SPANNED)
def test_the_zone_spans_what_a_real_kernel_said(memmap, ranges):
    memory = Memory.boot(memmap)
    for start, size in ranges:
        memory.memremap_pages(pagemap(start, size))
    assert memory.device_zone().spanned == SPANNED[memmap, ranges]


def test_the_zone_of_6_1_never_shrinks_and_that_of_older_kernels_does():
    for kernel, spans in (
        (KERNELS["6.1"], [0x50000, 0x50000, 0x50000, 0x50000]),
        (KERNELS["5.2"], [0x50000, 0x30000, 0x10000, 0]),
    ):
        memory = Memory.boot("256M!4G,256M!4608M,256M!5G", kernel=kernel)
        maps = [pagemap(start, 256 * MIB) for start in (4 * GIB, 4608 * MIB, 5 * GIB)]
        found = []
        for each in maps:
            memory.memremap_pages(each)
        for each in (None, *reversed(maps)):
            if each:
                memory.memunmap_pages(each)
            found.append(memory.device_zone().spanned)
        assert found == spans


def test_each_node_has_a_device_zone():
    memory = Memory.boot("1G!4G,1G!6G", nodes=Nodes.count(2))
    memory.memremap_pages(pagemap(4 * GIB, GIB), -1)
    memory.memremap_pages(pagemap(6 * GIB, GIB), 1)
    assert [(memory.device_zone(nid).start_pfn, memory.device_zone(nid).spanned) for nid in (0, 1)] == [
        (0x100000, 0x40000),
        (0x180000, 0x40000),
    ]


REFUSALS = {
    "no range": (DevPagemap(()), errno.EINVAL),
    "its start is mapped": (pagemap(4 * GIB + 16 * MIB, 2 * MIB), errno.ENOMEM),
    "its end is mapped, and it is RAM too": (pagemap(3 * GIB, GIB + 2 * MIB), errno.ENOMEM),
    "System RAM": (pagemap(5 * GIB, 2 * MIB), errno.ENXIO),
    "System RAM in part, and misaligned": (pagemap(6 * GIB - PAGE_SIZE, 2 * MIB), errno.ENXIO),
    "beyond what can be addressed": (pagemap(1 << 46, 2 * MIB), errno.EINVAL),
    "across the end of what can be addressed": (pagemap((1 << 46) - 2 * MIB, 4 * MIB), errno.EINVAL),
    "nothing": (pagemap(6 * GIB, 0), errno.EINVAL),
    "misaligned start": (pagemap(6 * GIB + MIB, 2 * MIB), errno.EINVAL),
    "misaligned end": (pagemap(6 * GIB, MIB), errno.EINVAL),
    "an altmap of another base": (
        pagemap(6 * GIB, 128 * MIB, altmap=VmemAltmap(0x180001, 0x187FFF, 2, 1022)),
        errno.EINVAL,
    ),
    "an altmap larger than the range": (
        pagemap(6 * GIB, 128 * MIB, altmap=VmemAltmap(0x180000, 0x187FFF, 2, 32767)),
        errno.EINVAL,
    ),
    "an altmap without room": (
        pagemap(6 * GIB, 128 * MIB, altmap=VmemAltmap(0x180000, 0x187FFF, 2, 1021)),
        errno.ENOMEM,
    ),
}


@pytest.mark.parametrize("why", REFUSALS)
def test_a_refused_mapping_has_its_errno_and_leaves_nothing(memory, why):
    device, number = REFUSALS[why]
    memory.memremap_pages(pagemap(4 * GIB, 512 * MIB, owner="namespace0.0"))
    before = state(memory)
    assert refused(memory.memremap_pages, device) == number
    assert state(memory) == before
    assert (device.state, device.refs, device.memmaps) == (PagemapState.IDLE, 0, [])


FIRST, SECTION = 4 * GIB >> 12, SECTION_SIZE >> 12


def test_a_failure_leaves_the_sections_below_the_one_that_failed():
    memory = Memory.boot("1G!4G")
    middle = pagemap(4 * GIB + 512 * MIB, 128 * MIB)
    memory.memremap_pages(middle)
    before = state(memory)
    assert refused(memory.memremap_pages, pagemap(4 * GIB, GIB)) == errno.EEXIST
    assert list(memory.sparse.hot) == [(FIRST, FIRST + 5 * SECTION)]
    assert memory.ram_free == before[0] - 4 * MEMMAP_OF_A_SECTION
    assert (memory.pagemaps, memory.device_zone().spanned, memory.iomem_text()) == ([middle], SECTION, before[-1])
    memory.memunmap_pages(middle)
    for offset, size in ((0, 1024), (0, 128), (384, 256)):
        assert refused(memory.memremap_pages, pagemap(4 * GIB + offset * MIB, size * MIB)) == errno.EEXIST
    memory.memremap_pages(pagemap(4 * GIB + 512 * MIB, 512 * MIB))
    assert [(run.first_pfn, run.end_pfn) for run in memory.sparse.left] == [(FIRST, FIRST + 4 * SECTION)]


def test_an_altmap_that_is_too_small_leaves_the_sections_that_fitted():
    media = MemoryMedia(512 * MIB)
    media.write(0, b"\xff" * 64)
    memory = Memory.boot("512M!4G")
    before = state(memory)
    device = pagemap(4 * GIB, 512 * MIB, altmap=VmemAltmap(FIRST, FIRST + 0x1FFFF, 2, 0x820), media=media)
    assert refused(memory.memremap_pages, device) == errno.ENOMEM
    assert list(memory.sparse.hot) == [(FIRST, FIRST + 3 * SECTION)]
    assert (memory.ram_free, *state(memory)[2:]) == (before[0], *before[2:])
    assert refused(memory.memremap_pages, bound(lay_out(4 * GIB, 512 * MIB, 2 * MIB, PfnMode.PMEM))) == errno.EEXIST
    memory.memremap_pages(pagemap(4 * GIB + 384 * MIB, 128 * MIB))
    assert memory.pages.pfn_valid(FIRST)


@pytest.mark.parametrize("compound", [0, 9, 18])
def test_a_memmap_that_is_larger_than_ram_takes_what_there_is(compound):
    memory = Memory.boot("64T!1T", ram=256 * MIB)
    device = pagemap(TIB, 64 * TIB, vmemmap_shift=compound)
    assert refused(memory.memremap_pages, device) == errno.ENOMEM
    [left] = memory.sparse.left
    step = max(SECTION, 1 << compound if compound else 0)
    cost = {0: MEMMAP_OF_A_SECTION, 9: 64 * 2 * PAGE_SIZE, 18: 2 * PAGE_SIZE}[compound]
    assert (left.end_pfn - left.first_pfn) % step == 0
    assert memory.ram_free < cost
    assert refused(memory.memremap_pages, pagemap(TIB, GIB)) == errno.EEXIST


def test_when_the_second_range_fails_the_first_goes_too(memory):
    before = state(memory)
    device = DevPagemap((Range.sized(4 * GIB, 512 * MIB), Range.sized(5 * GIB, 2 * MIB)))
    assert refused(memory.memremap_pages, device) == errno.ENXIO
    assert state(memory)[:3] == before[:3]
    assert memory.device_zone().spanned == 0x20000  # which never shrinks


def test_an_altmap_is_for_one_range(memory):
    before = state(memory)
    device = DevPagemap(
        (Range.sized(6 * GIB, 128 * MIB), Range.sized(6 * GIB + 128 * MIB, 128 * MIB)),
        altmap=VmemAltmap(0x180000, 0x187FFF, 2, 1022),
    )
    assert refused(memory.memremap_pages, device) == errno.EINVAL
    assert state(memory)[:3] == before[:3]
    assert device.altmap.alloc == 0


def test_several_ranges_make_one_registration(memory):
    device = DevPagemap((Range.sized(4 * GIB, 512 * MIB), Range.sized(6 * GIB, 256 * MIB)))
    memory.memremap_pages(device)
    assert memory.find_pagemap(0x100000) is memory.find_pagemap(0x18FFFF) is device
    assert device.refs == 1 + 0x30000
    memory.memunmap_pages(device)
    assert memory.find_pagemap(0x100000) is None


def test_enomem_or_eexist_whichever_the_lower_section_meets():
    memory = Memory.boot("1T!1T", ram=GIB)
    memory.memremap_pages(pagemap(TIB + 512 * GIB, GIB))
    assert refused(memory.memremap_pages, pagemap(TIB + 511 * GIB, 3 * GIB)) == errno.EEXIST
    assert refused(memory.memremap_pages, pagemap(TIB, TIB)) == errno.ENOMEM


def test_a_dying_page_map_keeps_its_pages_until_the_last_reference(memory):
    before = memory.ram_free
    device = pagemap(4 * GIB, 512 * MIB)
    memory.memremap_pages(device)
    assert memory.get_dev_pagemap(0x100000) is memory.get_dev_pagemap(0x11FFFF) is device
    assert memory.get_dev_pagemap(0x120000) is None
    assert not memory.memunmap_pages(device)
    assert (device.state, device.refs) == (PagemapState.DYING, 2)
    assert memory.get_dev_pagemap(0x100000) is None
    assert memory.ram_free < before
    assert refused(memory.memremap_pages, pagemap(4 * GIB, 512 * MIB)) == errno.EEXIST
    memory.put_dev_pagemap(device)
    assert memory.pages.pfn_valid(0x100000)
    memory.put_dev_pagemap(device)
    assert device.state is PagemapState.IDLE
    assert not memory.pages.pfn_valid(0x100000)
    assert memory.ram_free == before
    memory.memremap_pages(pagemap(4 * GIB, 512 * MIB))


def test_parts_of_sections_take_single_pages_of_ram_even_with_an_altmap():
    memory = Memory.boot("", ram=GIB)
    before = memory.ram_free
    start, size = TIB + 64 * MIB, 64 * MIB + 128 * MIB + 2 * MIB
    device = bound(lay_out(start, size, 2 * MIB, PfnMode.PMEM))
    memory.memremap_pages(device)
    assert [run.place for run in device.memmaps[0].runs] == [Place.RAM, Place.PMEM, Place.RAM]
    assert before - memory.ram_free == pages(66 * MIB) * 64
    assert device.altmap.alloc == 512
    memory.memunmap_pages(device)
    assert (memory.ram_free, device.altmap.alloc) == (before, 0)


def test_a_part_of_a_section_that_holds_ram_needs_no_memmap():
    memory = Memory.boot("96M!4224M")
    before = memory.ram_free
    device = pagemap(4224 * MIB, 96 * MIB)
    memory.memremap_pages(device)
    assert memory.ram_free == before
    assert [run.place for run in device.memmaps[0].runs] == [Place.BOOT]
    memory.memunmap_pages(device)
    assert memory.ram_free == before


@pytest.mark.parametrize(("align", "pages_per_gib"), [(2 * MIB, 2 * 512), (GIB, 2)])
def test_compound_pages_in_ram_share_the_memmap_of_their_tails(align, pages_per_gib):
    memory = Memory.boot("16G!4G")
    before = memory.ram_free
    shift = (align // PAGE_SIZE).bit_length() - 1
    device = pagemap(4 * GIB, 16 * GIB, type=MemoryType.GENERIC, vmemmap_shift=shift)
    memory.memremap_pages(device)
    assert before - memory.ram_free == 16 * pages_per_gib * PAGE_SIZE
    assert device.refs == 1 + 16 * GIB // align
    head = memory.pages.struct_page_location(0x100000)
    tails = {memory.pages.struct_page_location(0x100000 + n) for n in range(64, align // PAGE_SIZE)}
    assert head not in tails
    assert len(tails) == 64
    memory.memunmap_pages(device)
    assert memory.ram_free == before


def test_compound_pages_are_older_than_the_sharing():
    memory = Memory.boot("1G!4G", kernel=KERNELS["5.7"])
    before = memory.ram_free
    memory.memremap_pages(pagemap(4 * GIB, GIB, type=MemoryType.GENERIC, vmemmap_shift=9))
    assert before - memory.ram_free == 16 * MIB


def test_the_next_registration_can_be_made_to_fail(memory):
    before = state(memory)
    memory.faults.add(parse_rule("register * errno=ENOSPC times=1"))
    assert refused(memory.memremap_pages, pagemap(4 * GIB, 512 * MIB)) == errno.ENOSPC
    assert state(memory) == before
    memory.memremap_pages(pagemap(4 * GIB, 512 * MIB))


def test_the_next_altmap_allocation_can_be_made_to_fail(memory):
    memory.faults.add(parse_rule("altmap * errno=ENOMEM times=1"))
    memory.memremap_pages(pagemap(6 * GIB, 256 * MIB))
    before = state(memory)
    device = bound(lay_out(4 * GIB, 512 * MIB, 2 * MIB, PfnMode.PMEM))
    assert refused(memory.memremap_pages, device) == errno.ENOMEM
    assert state(memory) == before
    assert device.altmap.alloc == 0
    memory.memremap_pages(device)


def test_six_tebibytes_fit_a_small_machine_in_mode_pmem_only():
    memory = Memory.boot("6T!4G", ram=GIB)
    assert refused(memory.memremap_pages, bound(lay_out(4 * GIB, 6 * TIB, 2 * MIB, PfnMode.RAM))) == errno.ENOMEM
    memory = Memory.boot("6T!4G", ram=GIB)
    before = memory.ram_free
    memory.memremap_pages(bound(lay_out(4 * GIB, 6 * TIB, 2 * MIB, PfnMode.PMEM)))
    assert memory.ram_free == before


@pytest.mark.parametrize("size", [GIB, TIB, PIB])
def test_cost_does_not_grow_with_the_range(size):
    memory = Memory.boot(f"{size}!4G")
    layout = lay_out(4 * GIB, size, 2 * MIB, PfnMode.PMEM)
    tracemalloc.start()
    device = bound(layout)
    memory.memremap_pages(device)
    (segment,) = memory.pages.segments(layout.data.first_pfn, layout.data.end_pfn)
    assert len(segment.pfns) == layout.npfns
    memory.memunmap_pages(device)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * KIB


def test_a_petabyte_needs_five_levels_of_page_tables():
    assert Memory.boot("1P!4G").space.page_offset == 0xFF11000000000000
    assert Memory.boot("1T!4G").space.page_offset == 0xFFFF888000000000


def test_the_rfc_reports_every_failure_as_enomem_and_checks_nothing():
    kernel = KERNELS["rfc"]
    memory = Memory.boot("1G!4G", kernel=kernel)
    layout = lay_out(4 * GIB, GIB, 2 * MIB, PfnMode.PMEM, kernel)
    device = bound(layout, kernel)
    assert memory.memremap_pages(device) == 0xFFFF880100000000
    assert memory.pages.struct_page_location(0x100000) == 4 * GIB
    memory.memremap_pages(bound(layout, kernel))
    assert refused(memory.memremap_pages, pagemap(6 * GIB, GIB, altmap=VmemAltmap(1, 2, 3, 4))) == errno.ENOMEM


def test_4_3_takes_ram_for_mapped_and_widens_ranges_to_sections():
    memory = Memory.boot("1G!4G,64M!6G", kernel=KERNELS["4.3"])
    before = memory.ram_free
    assert memory.memremap_pages(pagemap(8 * GIB // 2 + GIB, 128 * MIB)) == 0xFFFF880140000000
    assert memory.ram_free == before
    assert refused(memory.memremap_pages, pagemap(5 * GIB - 2 * MIB, 4 * MIB)) == errno.ENXIO
    memory.memremap_pages(pagemap(4 * GIB, MIB))
    assert memory.device_zone().spanned == pages(SECTION_SIZE)
    assert before - memory.ram_free == MEMMAP_OF_A_SECTION


def test_4_5_finds_collisions_section_by_section():
    memory = Memory.boot("1G!4G", kernel=KERNELS["4.5"])
    memory.memremap_pages(pagemap(4 * GIB, 4 * MIB))
    assert refused(memory.memremap_pages, pagemap(4 * GIB + 64 * MIB, 4 * MIB)) == errno.EBUSY
    memory.memremap_pages(pagemap(4 * GIB + 128 * MIB, 4 * MIB))


class Slot:
    """A range that can be mapped in several ways."""

    def __init__(self, start, size):
        self.start, self.size = start, size
        self.device = None


# Neighbours within sections, with each other and with RAM, and apart from everything.
SLOTS = "64M!4G,64M!4160M,96M!4224M,256M!5G,130M!5400M,2G!8G,6T!1T"

ways = st.sampled_from(
    ["raw", (PfnMode.RAM, 2 * MIB), (PfnMode.PMEM, 2 * MIB), (PfnMode.PMEM, 4 * KIB), (PfnMode.PMEM, GIB), "dax"]
)


def mapped_as(slot, way):
    if way == "raw":
        return pagemap(slot.start, slot.size)
    if way == "dax":
        return pagemap(slot.start, slot.size, type=MemoryType.GENERIC, vmemmap_shift=9)
    mode, align = way
    return bound(lay_out(slot.start, slot.size, align, mode))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 6), ways), max_size=25), st.sampled_from([512 * MIB, 4 * GIB]))
def test_any_order_of_mapping_and_unmapping_keeps_the_books(steps, ram):
    memory = Memory.boot(SLOTS, ram)
    slots = [Slot(r.start, r.size) for r in memory.iomem.children if r.name == "Persistent Memory (legacy)"]
    assert len(slots) == 7
    start_free = memory.ram_free
    extent = []
    for number, way in steps:
        slot = slots[number]
        if slot.device:
            memory.memunmap_pages(slot.device)
            assert slot.device.altmap is None or slot.device.altmap.alloc == 0
            slot.device = None
        else:
            slot.device = try_to_map(memory, slot, way)
        extent += [r for s in slots if s.device for r in s.device.ranges]
        check_books(memory, [s.device for s in slots if s.device], start_free, extent)
    for slot in slots:
        if slot.device:
            memory.memunmap_pages(slot.device)
    assert memory.ram_free == start_free - left_of_failures(memory)[0]
    assert not memory.pagemaps
    assert sum(end - first for first, end in memory.sparse.hot) == left_of_failures(memory)[1]


def try_to_map(memory, slot, way):
    left = list(memory.sparse.left)
    try:
        device = mapped_as(slot, way)
        memory.memremap_pages(device)
    except KernelError as error:
        if error.errno == errno.EEXIST:
            assert any(
                run.first_pfn < pages(slot.start + slot.size) and pages(slot.start) < run.end_pfn for run in left
            )
        elif error.errno not in (errno.ENXIO, errno.ENOMEM):
            raise
        return None
    assert memory.sparse.left == left
    return device


def left_of_failures(memory):
    """What failures have left: bytes of RAM, and page frames."""
    left = memory.sparse.left
    return Memmap(tuple(left)).ram_bytes, sum(run.end_pfn - run.first_pfn for run in left)


def check_books(memory, devices, start_free, extent):
    assert set(memory.pagemaps) == set(devices)
    ram, frames = left_of_failures(memory)
    assert start_free - memory.ram_free == sum(device.ram_bytes for device in devices) + ram
    if extent:
        zone = memory.device_zone()
        assert zone.start_pfn == min(r.first_pfn for r in extent)
        assert zone.end_pfn == max(r.end_pfn for r in extent)
    assert sum(end - first for first, end in memory.sparse.hot) == sum(pages(d.range.size) for d in devices) + frames
    check_struct_pages_are_apart(memory, devices)
    for device in devices:
        first, end = device.range.first_pfn, device.range.end_pfn
        assert memory.find_pagemap(first) is memory.find_pagemap(end - 1) is device
        assert memory.find_pagemap(first - 1) is not device
        assert memory.find_pagemap(end) is not device
        if device.altmap:
            altmap = device.altmap
            assert altmap.reserve + altmap.align + altmap.alloc + altmap.available == device.pfn_first() - first


def check_struct_pages_are_apart(memory, devices):
    """No memory holds two memmaps, and none holds both a memmap and something else."""
    runs = list(memory.sparse.boot.runs) + [run for d in devices for m in d.memmaps for run in m.runs]
    pieces = sorted((piece.start, piece.end) for run in runs for piece in run.pieces)
    for (_, end), (start, _) in itertools.pairwise(pieces):
        assert end <= start
    for device in devices:
        for run in device.memmaps[0].runs:
            for piece in run.pieces:
                if run.place is Place.PMEM:
                    assert device.range.start + 8 * KIB <= piece.start
                    assert piece.end <= device.pfn_first() * PAGE_SIZE
                else:
                    assert all(memory.is_ram(pages(address)) for address in (piece.start, piece.end - 1))
