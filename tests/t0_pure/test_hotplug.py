"""System RAM that comes and goes in blocks: what the recordings leave unsaid."""

import contextlib
import errno
import re

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.kernel import KERNELS
from nvdimmfs.mm.hotplug import LARGE_BLOCK, SMALL_BLOCK, MemoryBlocks, OnlineType, whole_blocks
from nvdimmfs.mm.meminfo import meminfo_text
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.memory_failure import memory_failure, soft_offline_page
from nvdimmfs.mm.memremap import DevPagemap
from nvdimmfs.units import GIB, MIB, PAGE_SHIFT, PAGE_SIZE, PMD_SIZE, Range, pages

NAME = "System RAM (kmem)"
#: Behind all RAM, in blocks; and how many there are to play with.
FIRST, COUNT = (16 * GIB) // SMALL_BLOCK, 6

ACTIONS = st.tuples(
    st.sampled_from(["add", "remove", *OnlineType]),
    st.integers(min_value=0, max_value=COUNT - 1),
    st.integers(min_value=1, max_value=3),
)


class Listener:
    """Counts notifications."""

    def __init__(self):
        self.there, self.online = set(), set()

    def block_added(self, block):
        self.there.add(block.number)

    def block_removed(self, block):
        self.there.remove(block.number)

    def block_switched(self, block):
        (self.online.add if block.online else self.online.remove)(block.number)


def machine(memmap="512M!4G", ram=4 * GIB, kernel="6.1"):
    memory = Memory.boot(memmap, ram, KERNELS[kernel])
    return memory, MemoryBlocks(memory)


def state(memory):
    """All that hotplug may change, but what is never taken back."""
    return memory.iomem_text(), memory.zoneinfo_text(), memory.ram_free, list(memory.ram)


def attempt(function, *arguments):
    """Whether it was done, and not refused with EBUSY."""
    try:
        function(*arguments)
    except KernelError as refused:
        if refused.errno != errno.EBUSY:
            raise
        return False
    return True


def refusal(function, *arguments):
    with pytest.raises(KernelError) as refused:
        function(*arguments)
    return refused.value.errno


@given(st.lists(ACTIONS, max_size=25))
def test_whatever_is_done_can_be_undone_and_the_sums_are_right(actions):
    memory, blocks = machine()
    blocks.listener = listener = Listener()
    before, boot = state(memory), set(blocks.blocks)
    added = {}
    for what, index, length in actions:
        start, block = (FIRST + index) * SMALL_BLOCK, blocks.blocks.get(FIRST + index)
        if what == "add":
            if attempt(blocks.add, start, length * SMALL_BLOCK, 0, NAME):
                added[start] = length * SMALL_BLOCK
        elif what == "remove":
            if start in added and attempt(blocks.remove, start, added[start]):
                del added[start]
        elif block and what is OnlineType.OFFLINE and block.online:
            blocks.switch_off(block)
        elif block and what is not OnlineType.OFFLINE and not block.online:
            blocks.switch_on(block, what)
        hot = [block for number, block in blocks.blocks.items() if number not in boot]
        online = [block for block in hot if block.online]
        assert listener.there == {block.number for block in hot}
        assert listener.online == {block.number for block in online}
        movable = memory.node_zones(0)[-2]
        assert movable.present == sum(block.size for block in online if block.zone is movable)
        assert all(block.zone.start_pfn <= block.first_pfn < block.end_pfn <= block.zone.end_pfn for block in online)
        assert all(memory.is_ram(block.first_pfn) == block.online for block in hot)
        assert {memory.pages.page_zone(block.end_pfn - 1) for block in online} == {block.zone for block in online}
    for block in list(blocks.blocks.values()):
        if block.number not in boot and block.online:
            blocks.switch_off(block)
    for start, size in added.items():
        blocks.remove(start, size)
    assert state(memory) == before
    assert set(blocks.blocks) == boot


@pytest.mark.parametrize(("ram", "size"), [(4 * GIB, SMALL_BLOCK), (60 * GIB, SMALL_BLOCK), (64 * GIB, LARGE_BLOCK)])
def test_much_ram_comes_in_large_blocks(ram, size):
    memory, blocks = machine(ram=ram)
    assert blocks.size == size
    assert sum(block.size for block in blocks.blocks.values()) >= sum(end - first for first, end in memory.ram)


def test_memory_that_is_on_line_stays():
    _, blocks = machine()
    blocks.auto_online = OnlineType.MOVABLE
    start = FIRST * SMALL_BLOCK
    blocks.add(start, SMALL_BLOCK, 0, NAME)
    assert refusal(blocks.remove, start, SMALL_BLOCK) == errno.EBUSY
    assert FIRST in blocks.blocks


def test_memory_that_is_present_is_not_added_again():
    memory, blocks = machine()
    blocks.add(FIRST * SMALL_BLOCK, SMALL_BLOCK, 0, NAME)
    before = state(memory)
    assert refusal(blocks.add, FIRST * SMALL_BLOCK, 2 * SMALL_BLOCK, 0, NAME) == errno.EBUSY
    assert refusal(blocks.add, 0, SMALL_BLOCK, 0, NAME) == errno.EBUSY
    assert state(memory) == before


def test_without_room_for_struct_pages_no_block_comes_and_the_sections_that_had_room_stay():
    memory, blocks = machine("", 512 * MIB)
    iomem, present = memory.iomem_text(), list(blocks.blocks)
    assert refusal(blocks.add, 1 << 40, 1 << 40, 0, NAME) == errno.ENOMEM
    assert (memory.iomem_text(), list(blocks.blocks)) == (iomem, present)
    assert memory.ram_free < 2 * MIB
    assert refusal(blocks.add, 1 << 40, 128 * MIB, 0, NAME) == errno.EEXIST


def test_ram_of_the_boot_goes_off_line_where_nobody_uses_it():
    memory, blocks = machine()
    free, total = memory.ram_free, memory.node_zones(0)[2].managed
    mixed, holed, used, unused = (blocks.blocks[number] for number in (0, 15, 47, 40))
    assert refusal(blocks.switch_off, mixed) == errno.EINVAL
    assert refusal(blocks.switch_off, holed) == errno.EINVAL
    assert refusal(blocks.switch_off, used) == errno.EBUSY
    blocks.switch_off(unused)
    assert memory.ram_free == free - SMALL_BLOCK
    assert memory.node_zones(0)[2].managed == total - pages(SMALL_BLOCK)
    blocks.switch_on(unused, OnlineType.ONLINE)
    assert (memory.ram_free, memory.node_zones(0)[2].managed) == (free, total)


def test_a_node_without_ram_gets_its_zones_with_the_first_block():
    memory, blocks = machine()
    blocks.add(FIRST * SMALL_BLOCK, SMALL_BLOCK, 1, NAME)
    block = blocks.blocks[FIRST]
    assert [zone.name for zone in blocks.allowed_zones(block)] == ["Normal", "Movable"]
    blocks.switch_on(block, OnlineType.ONLINE)
    assert memory.node_zones(1)[2].present == block.size
    assert memory.pages.page_zone(block.first_pfn) is memory.node_zones(1)[2]


def test_between_movable_blocks_a_block_becomes_movable():
    _, blocks = machine()
    blocks.add(FIRST * SMALL_BLOCK, 3 * SMALL_BLOCK, 0, NAME)
    low, middle, high = (blocks.blocks[FIRST + index] for index in range(3))
    for block in (low, high):
        blocks.switch_on(block, OnlineType.MOVABLE)
    assert [zone.name for zone in blocks.allowed_zones(middle)] == ["Movable", "Normal"]


def test_a_page_of_added_ram_is_described_as_one():
    memory, blocks = machine()
    blocks.add(FIRST * SMALL_BLOCK, SMALL_BLOCK, 0, NAME)
    pfn = FIRST * SMALL_BLOCK >> PAGE_SHIFT
    assert not memory.pages.describe(pfn).online
    blocks.switch_on(blocks.blocks[FIRST], OnlineType.MOVABLE)
    info = memory.pages.describe(pfn)
    assert (info.online, info.initialised, info.zone.name) == (True, True, "Movable")


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [(0, 4, (0, 4)), (1, 8, (4, 8)), (1, 7, (4, 4)), (5, 7, (8, 4))],
)
def test_whole_blocks_lie_within_a_range(start, end, found):
    assert whole_blocks(start, end, 4) == found


def test_a_node_counts_what_became_of_its_failed_pages():
    """As a guest with Linux 6.12 counted them in the files of memory_failure."""
    memory, _ = machine()
    memory.memremap_pages(DevPagemap((Range.sized(4 * GIB, 512 * MIB),)))
    free, device, kernels, nothing = (pages(start) for start in (5 * GIB, 4 * GIB, PAGE_SIZE, 60 * GIB))

    def counted(declare, pfn):
        counts = memory.bad_pages.failures_of(0)
        before = attrs.astuple(counts)
        with contextlib.suppress(KernelError):
            declare(memory, pfn)
        difference = [after - once for after, once in zip(attrs.astuple(counts), before, strict=True)]
        return dict(zip(("ignored", "failed", "recovered"), difference, strict=True))

    none = {"ignored": 0, "failed": 0, "recovered": 0}
    assert counted(memory_failure, free) == none | {"recovered": 1}
    assert counted(memory_failure, free) == none
    assert counted(soft_offline_page, free + 1) == none
    assert counted(memory_failure, device) == none | {"failed": 1}
    assert counted(soft_offline_page, device) == none
    assert counted(memory_failure, kernels) == none | {"ignored": 1}
    assert counted(memory_failure, nothing) == none
    assert memory.bad_pages.failures_of(0).total == 3


@pytest.mark.parametrize(("kernel", "removed"), [("6.1", 5), ("6.12", 4)])
def test_hardware_corrupted_counts_failures(kernel, removed):
    """As /proc/meminfo of guests had it; 6.12 counts no page that is removed with its memory."""
    memory, blocks = machine(kernel=kernel)
    memory.memremap_pages(DevPagemap((Range.sized(4 * GIB, 512 * MIB),)))
    blocks.add(FIRST * SMALL_BLOCK, SMALL_BLOCK, 0, NAME)
    block = blocks.blocks[FIRST]
    if not block.online:
        blocks.switch_on(block, OnlineType.ONLINE)
    free, device, kernels, added = pages(5 * GIB), pages(4 * GIB), pages(PAGE_SIZE), block.first_pfn
    counted = []
    for declare, pfn in [
        (memory_failure, free),
        (memory_failure, free),
        (soft_offline_page, free + 1),
        (soft_offline_page, kernels),
        (memory_failure, kernels),
        (memory_failure, device),
        (memory_failure, added),
    ]:
        with contextlib.suppress(KernelError):
            declare(memory, pfn)
        counted.append(memory.bad_pages.counted)
    assert counted == [1, 1, 2, 2, 3, 4, 5]
    blocks.switch_off(block)
    assert memory.bad_pages.counted == 5
    blocks.remove(FIRST * SMALL_BLOCK, SMALL_BLOCK)
    assert memory.bad_pages.counted == removed
    assert re.search(rf"HardwareCorrupted: +{4 * removed} kB\n", meminfo_text(memory))


@pytest.mark.parametrize("declare", [soft_offline_page, memory_failure])
def test_a_bad_page_is_free_no_more_until_its_block_goes_off_line(declare):
    memory, blocks = machine()
    block = blocks.blocks[(5 * GIB) // SMALL_BLOCK]
    before = state(memory)
    declare(memory, block.first_pfn + 5)
    assert memory.ram_free == before[2] - PAGE_SIZE
    assert state(memory) != before
    blocks.switch_off(block)
    blocks.switch_on(block, OnlineType.ONLINE)
    assert state(memory) == before


def test_a_bad_page_of_added_ram_is_missing_in_its_zone():
    memory, blocks = machine()
    blocks.add(FIRST * SMALL_BLOCK, SMALL_BLOCK, 0, NAME)
    block = blocks.blocks[FIRST]
    blocks.switch_on(block, OnlineType.MOVABLE)
    before = state(memory)
    soft_offline_page(memory, block.first_pfn)
    assert re.search(r"pages free     32767\n", memory.zoneinfo_text())
    soft_offline_page(memory, block.first_pfn)
    blocks.switch_off(block)
    blocks.switch_on(block, OnlineType.MOVABLE)
    assert state(memory) == before


def test_no_struct_page_is_put_into_a_bad_page():
    memory, blocks = machine()
    pfn = memory.ram.span[1] - 1
    while not memory.is_free(pfn):
        pfn -= 1
    soft_offline_page(memory, pfn)
    blocks.add(FIRST * SMALL_BLOCK, SMALL_BLOCK, 0, NAME)
    (memmap,) = memory.hot_memmaps.values()
    assert not any(piece.start <= pfn << PAGE_SHIFT < piece.end for run in memmap.runs for piece in run.pieces)


@given(
    st.sampled_from([2 * GIB, 3 * GIB + SMALL_BLOCK, 12 * GIB, 80 * GIB]),
    st.lists(st.tuples(st.booleans(), st.integers(min_value=0, max_value=110)), max_size=12),
)
def test_it_makes_no_difference_whether_blocks_have_been_looked_at(ram, switches):
    """Blocks that are there at boot are created when they are looked up; zones shrink by all of them."""
    (lazy_memory, lazy), (memory, eager) = machine("64M!20G", ram), machine("64M!20G", ram)
    assert list(eager.blocks) == list(lazy.blocks)
    assert len(lazy.blocks) == len([eager.blocks[number] for number in eager.blocks])
    for online, number in switches:
        if number in eager.blocks and eager.blocks[number].online != online:
            act = [each.switch_on if online else each.switch_off for each in (lazy, eager)]
            how = (OnlineType.MOVABLE,) if online else ()
            results = []
            for function, blocks in zip(act, (lazy, eager), strict=True):
                try:
                    results.append(function(blocks.blocks[number], *how))
                except KernelError as refused:
                    results.append(refused.errno)
            assert results[0] == results[1]
            assert state(lazy_memory) == state(memory)
    described = [[(b.number, b.online, b.zone and b.zone.name) for b in each.blocks.values()] for each in (lazy, eager)]
    assert described[0] == described[1]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_huge_pages_of_added_memory_are_in_the_block_that_went_online_first(order):
    """As guests with 6.1 and 6.12 answered."""
    memory, blocks = machine()
    blocks.add(FIRST * SMALL_BLOCK, 3 * SMALL_BLOCK, 1, NAME)
    first, *others = (blocks.blocks[FIRST + number] for number in order)
    for block in (first, *others):
        blocks.switch_on(block, OnlineType.ONLINE)
    memory.huge_pages.resize(1, PMD_SIZE, 10)
    for block in others:
        blocks.switch_off(block)
        assert memory.huge_pages.count(1, PMD_SIZE) == 10
    blocks.switch_off(first)
    assert memory.huge_pages.count(1, PMD_SIZE) == 0


def test_a_huge_page_of_a_gib_lies_in_several_blocks():
    memory, blocks = machine()
    blocks.add(FIRST * SMALL_BLOCK, GIB, 1, NAME)
    for number in range(GIB // SMALL_BLOCK):
        blocks.switch_on(blocks.blocks[FIRST + number], OnlineType.ONLINE)
    memory.huge_pages.resize(1, GIB, 1)
    assert memory.huge_pages.count(1, GIB) == 1
