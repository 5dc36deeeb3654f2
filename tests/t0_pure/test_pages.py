import errno
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.pfn import PfnMode
from nvdimmfs.kernels.kernel import KERNELS, PfnFlagBits
from nvdimmfs.mm.intervals import IntervalSet
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.memremap import DevPagemap, MemoryType
from nvdimmfs.mm.pfn_layout import altmap_for, lay_out
from nvdimmfs.mm.pfn_t import ENCODINGS, PfnFlag, PfnT
from nvdimmfs.mm.sparse import Place
from nvdimmfs.mm.translate import PageQuery, translation_text
from nvdimmfs.units import GIB, MIB, PAGE_SIZE, PIB, Range, pages

VMEMMAP = 0xFFFFEA0000000000
DIRECT_MAP = 0xFFFF888000000000


def map_pfn_device(memory, start, size, mode, align=2 * MIB):
    layout = lay_out(start, size, align, mode)
    device = DevPagemap((layout.range,), altmap=altmap_for(layout), owner="pfn")
    memory.memremap_pages(device)
    return device


@pytest.fixture
def memory():
    return Memory.boot("512M!4G,256M!6G")


def refused(call, *arguments):
    with pytest.raises(KernelError) as caught:
        call(*arguments)
    return caught.value.errno


def test_addresses_are_those_of_a_kernel_without_kaslr(memory):
    page = memory.pages.pfn_to_page(0x100000)
    assert page == VMEMMAP + 0x100000 * 64
    assert memory.pages.page_address(page) == DIRECT_MAP + 4 * GIB
    assert memory.pages.virt_to_page(DIRECT_MAP + 4 * GIB + 123) == page
    assert memory.pages.page_to_pfn(page) == 0x100000


@pytest.mark.parametrize("kernel", ["rfc", "4.3", "4.5", "6.1"])
def test_the_direct_map_moved_after_4_15(kernel):
    memory = Memory.boot(kernel=KERNELS[kernel])
    assert memory.pages.phys_to_virt(0) == (DIRECT_MAP if kernel == "6.1" else 0xFFFF880000000000)


def test_addresses_and_numbers_that_are_no_page_are_refused(memory):
    pages_of = memory.pages
    assert refused(pages_of.page_to_pfn, VMEMMAP + 1) == errno.EINVAL
    assert refused(pages_of.page_to_pfn, VMEMMAP - 64) == errno.EINVAL
    assert refused(pages_of.pfn_to_page, 1 << 34) == errno.EINVAL
    assert refused(pages_of.pfn_to_page, -1) == errno.EINVAL
    assert refused(pages_of.virt_to_page, DIRECT_MAP - 1) == errno.EINVAL
    assert refused(pages_of.virt_to_phys, DIRECT_MAP + (1 << 46)) == errno.EINVAL
    assert refused(pages_of.phys_to_virt, 1 << 46) == errno.EINVAL
    assert refused(pages_of.describe, 1 << 34) == errno.EINVAL


def test_the_pages_around_each_boundary_of_a_pfn_device(memory):
    device = map_pfn_device(memory, 4 * GIB, 512 * MIB, PfnMode.PMEM)
    first, start, end = 0x100000, 0x100A00, 0x120000
    below, info_block, memmap, data, last, above = (
        memory.pages.describe(pfn) for pfn in (first - 1, first, start - 1, start, end - 1, end)
    )
    assert (below.valid, below.pagemap, below.zone) == (False, None, None)
    for hidden in (info_block, memmap):
        assert (hidden.valid, hidden.online, hidden.initialised, hidden.zone) == (True, False, False, None)
        assert hidden.pagemap is device
    for page in (data, last):
        assert (page.valid, page.online, page.initialised, page.place) == (True, False, True, Place.PMEM)
        assert (page.zone.name, page.pagemap) == ("Device", device)
    assert (above.valid, above.online, above.place, above.zone.name) == (True, True, Place.BOOT, "Normal")
    # The blocks of the memmap begin at the first 2 MiB boundary behind the info block.
    assert data.struct_page == 0x100200000 + 0xA00 * 64
    assert last.struct_page == 0x100200000 + 0x1FFFF * 64
    assert last.struct_page < device.pfn_first() * PAGE_SIZE


def test_the_struct_pages_of_mode_ram_are_in_ram(memory):
    map_pfn_device(memory, 4 * GIB, 512 * MIB, PfnMode.RAM)
    found = memory.pages.describe(0x100000)
    assert (found.place, found.initialised) == (Place.RAM, True)
    assert memory.is_ram(pages(found.struct_page))


def test_when_the_device_goes_its_pages_do(memory):
    device = map_pfn_device(memory, 4 * GIB, 512 * MIB, PfnMode.PMEM)
    memory.memunmap_pages(device)
    gone = memory.pages.describe(0x110000)
    assert (gone.valid, gone.struct_page, gone.place, gone.zone, gone.pagemap) == (False, None, None, None, None)
    assert not list(memory.pages.segments(0x100000, 0x120000))


def test_ram_is_online_and_in_its_zones(memory):
    for pfn, zone in ((1, "DMA"), (0xFFF, "DMA32"), (0x1000, "DMA32"), (0x7FFDD, "DMA32"), (0x120000, "Normal")):
        found = memory.pages.describe(pfn)
        if pfn == 0xFFF:
            zone = "DMA"
        assert (found.online, found.zone.name, found.place) == (True, zone, Place.BOOT)


def test_a_hole_in_a_section_with_ram_is_valid_without_being_a_page():
    memory = Memory.boot("100M!5G")  # RAM goes on in the same section
    hole = pages(5 * GIB)
    found = memory.pages.describe(hole)
    assert (found.valid, found.online, found.initialised, found.zone) == (True, False, False, None)
    device = DevPagemap((Range.sized(5 * GIB, 100 * MIB),))
    memory.memremap_pages(device)
    found = memory.pages.describe(hole)
    assert (found.online, found.initialised, found.zone.name, found.place) == (False, True, "Device", Place.BOOT)
    assert memory.pages.pfn_to_online_page(hole + pages(100 * MIB)) is not None
    memory.memunmap_pages(device)
    assert memory.pages.pfn_valid(hole)
    assert memory.pages.page_zone(hole) is None


def naive_struct_pages(layout, altmap, ram_pages):
    """Where each pfn's struct page is, one section and one page at a time; RAM pages as they come from `ram_pages`."""
    found = {}
    next_frame = altmap.base_pfn + altmap.reserve if altmap else 0
    pfn, end = layout.range.first_pfn, layout.range.end_pfn
    while pfn < end:
        stop = min(end, (pfn // 0x8000 + 1) * 0x8000)
        if stop - pfn == 0x8000 and altmap:
            next_frame = -(-next_frame // 512) * 512
            for offset in range(0x8000):
                found[pfn + offset] = next_frame * PAGE_SIZE + offset * 64
            next_frame += 512
        else:
            found.update(dict.fromkeys(range(pfn, stop)))
            ram_pages.append((stop - pfn) * 64 // PAGE_SIZE)
        pfn = stop
    return found


@settings(max_examples=12)
@given(
    start=st.integers(0, 130).map(lambda n: (1 << 40) + n * 2 * MIB),
    size=st.integers(8, 200).map(lambda n: n * 2 * MIB),
    mode=st.sampled_from([PfnMode.RAM, PfnMode.PMEM]),
)
def test_runs_of_sections_are_what_section_by_section_would_give(start, size, mode):
    memory = Memory.boot("", ram=GIB)
    before = memory.ram_free
    layout = lay_out(start, size, 2 * MIB, mode)
    ram_pages = []
    naive = naive_struct_pages(layout, altmap_for(layout), ram_pages)
    device = DevPagemap((layout.range,), altmap=altmap_for(layout))
    memory.memremap_pages(device)
    assert before - memory.ram_free == sum(ram_pages) * PAGE_SIZE
    seen = set()
    for pfn, wanted in naive.items():
        struct_page = memory.pages.struct_page_location(pfn)
        seen.add(struct_page)
        if wanted is None:
            assert memory.is_ram(pages(struct_page))
        else:
            assert struct_page == wanted
    assert len(seen) == len(naive)


RANGES = "64M!4G,64M!4160M,96M!4224M,256M!5G,130M!5400M,2G!8G"
places = st.tuples(st.integers(0, 5), st.sampled_from([PfnMode.RAM, PfnMode.PMEM, None]))


@settings(max_examples=40)
@given(st.lists(places, max_size=6, unique_by=lambda place: place[0]), st.data())
def test_translations_invert_each_other_everywhere(choices, data):
    memory = Memory.boot(RANGES)
    slots = [r for r in memory.iomem.children if r.name == "Persistent Memory (legacy)"]
    for number, mode in choices:
        slot = slots[number]
        if mode:
            map_pfn_device(memory, slot.start, slot.size, mode)
        else:
            memory.memremap_pages(DevPagemap((Range(slot.start, slot.end),)))
    edges = {0, 1, memory.max_pfn} | {pages(edge) for slot in slots for edge in (slot.start, slot.end + 1)}
    edges |= {device.pfn_first() for device in memory.pagemaps}
    candidates = st.one_of(
        st.tuples(st.sampled_from(sorted(edges)), st.integers(-2, 2)).map(sum),
        st.integers(0, pages(11 * GIB)),
    )
    for pfn in data.draw(st.lists(candidates.filter(lambda n: n >= 0), min_size=1, max_size=40)):
        check_one(memory, pfn)
    check_bulk(memory)


def check_one(memory, pfn):
    translate = memory.pages
    found = translate.describe(pfn)
    assert translate.page_to_pfn(found.page) == pfn
    assert translate.virt_to_page(found.virtual) == found.page
    assert translate.page_address(found.page) == found.virtual
    assert translate.virt_to_phys(translate.phys_to_virt(found.physical)) == found.physical
    assert found.valid == (found.struct_page is not None) == (found.place is not None)
    owners = [each for each in memory.pagemaps if any(r.first_pfn <= pfn < r.end_pfn for r in each.ranges)]
    assert len(owners) <= 1
    assert found.pagemap is (owners[0] if owners else None)
    assert found.initialised == (memory.is_ram(pfn) or any(device.pfn_valid(pfn) for device in owners))
    assert not (found.online and owners)
    assert found.online or not memory.is_ram(pfn)
    assert found.initialised <= found.valid
    if found.zone:
        assert pfn in found.zone
        assert (found.zone.name == "Device") == bool(owners)


def check_bulk(memory):
    """The segments cover every initialised page once, and agree with one page at a time."""
    covered = IntervalSet()
    taken = []
    last = 0
    for segment in memory.pages.segments(0, pages(1 << 46)):
        first, end = segment.pfns.start, segment.pfns.stop
        assert last <= first < end
        last = end
        covered.add(first, end)
        taken.append((segment.struct_pages.start, segment.struct_pages.stop))
        for index in (0, len(segment.pfns) // 2, -1):
            found = memory.pages.describe(segment.pfns[index])
            assert segment.pages[index] == found.page
            assert segment.addresses[index] == found.virtual
            assert segment.struct_pages[index] == found.struct_page
            assert (segment.place, segment.pagemap) == (found.place, found.pagemap)
    assert covered.count == sum(d.pfn_len() for d in memory.pagemaps) + sum(z.present for z in memory.zones[0])
    used = IntervalSet(taken)
    assert used.count == sum(end - start for start, end in taken), "a struct page address is used twice"


def test_a_petabyte_is_translated_in_bulk_as_one_segment():
    memory = Memory.boot("1P!4G")
    device = map_pfn_device(memory, 4 * GIB, PIB, PfnMode.PMEM)
    (segment,) = memory.pages.segments(device.pfn_first(), device.range.end_pfn)
    assert segment.pagemap is device
    step = len(segment.pfns) // 1_000_000
    sample = zip(segment.pfns[::step], segment.pages[::step], segment.addresses[::step], strict=True)
    for pfn, page, address in itertools.islice(sample, 0, None, 50_000):
        assert memory.pages.pfn_to_page(pfn) == page
        assert memory.pages.page_address(page) == address
    assert segment.pages.index(memory.pages.pfn_to_page(segment.pfns[-1])) == len(segment.pfns) - 1


def test_compound_pages_are_one_segment_without_addresses_of_struct_pages():
    memory = Memory.boot("1G!8G")
    memory.memremap_pages(DevPagemap((Range.sized(8 * GIB, GIB),), type=MemoryType.GENERIC, vmemmap_shift=9))
    (segment,) = memory.pages.segments(pages(8 * GIB), pages(9 * GIB))
    assert (segment.struct_pages, segment.place) == (None, Place.RAM)
    assert memory.pages.struct_page_location(pages(8 * GIB) + 100) == memory.pages.struct_page_location(
        pages(8 * GIB) + 164
    )


def test_a_pfn_t_has_its_flags_where_each_kernel_had_them():
    device_page = PfnT(0x100000, PfnFlag.DEV | PfnFlag.MAP)
    assert device_page.encode(ENCODINGS[PfnFlagBits.LOW]) == 0x10000000C
    assert device_page.encode(ENCODINGS[PfnFlagBits.HIGH]) == 0x3000000000100000


@pytest.mark.parametrize(("kernel", "value"), [("rfc", "0x100000004"), ("4.3", "-"), ("4.5", "0x2000000000100000")])
def test_a_translation_shows_the_pfn_t_as_the_kernel_encodes_it(kernel, value):
    memory = Memory.boot("512M!4G,256M!6G", kernel=KERNELS[kernel])
    facts = translation_text(memory, PageQuery("phys", 4 * GIB)).splitlines()
    assert f"pfn_t_value: {value}" in facts


@settings(max_examples=200)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 50), st.integers(0, 20)), max_size=15))
def test_intervals_are_a_set(steps):
    intervals, members = IntervalSet(), set()
    for adds, start, length in steps:
        if adds:
            intervals.add(start, start + length)
            members |= set(range(start, start + length))
        else:
            intervals.remove(start, start + length)
            members -= set(range(start, start + length))
        assert {n for low, high in intervals for n in range(low, high)} == members
        assert intervals.count == len(members)
        assert all(high < low for (_, high), (low, _) in zip(list(intervals), list(intervals)[1:], strict=False))
        assert intervals.span == ((min(members), max(members) + 1) if members else None)
        assert intervals.first_within(10, 30) == min((n for n in members if 10 <= n < 30), default=None)
        assert {n for low, high in intervals.gaps(10, 30) for n in range(low, high)} == set(range(10, 30)) - members
        assert all((n in intervals) == (n in members) for n in range(72))
