import pytest

from nvdimmfs.machine_file.defaults import abridged, completed
from nvdimmfs.machine_file.files import parse_machine
from nvdimmfs.machine_file.ram import installed_ram, nodes_of
from nvdimmfs.machine_file.reader import read_machine
from nvdimmfs.machine_file.values import TO_BE_CHOSEN
from nvdimmfs.machine_file.writer import machine_text
from nvdimmfs.mm.hotplug import MemoryBlocks, OnlineType
from nvdimmfs.mm.meminfo import buddyinfo_text, meminfo_text, node_list, node_meminfo_text
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.memremap import DevPagemap
from nvdimmfs.mm.nodes import Nodes, RamSpan
from nvdimmfs.mm.pc_memory_map import installed_memory
from nvdimmfs.units import GIB, MIB, PAGE_SIZE, Range

#: A server with two sockets: RAM and persistent memory of the first one, then of the second one.
SERVER = """
ram = "192G"
[[bus]]
[[bus.dimm]]
size = "252G"
[[bus.dimm]]
size = "252G"
[[bus.range]]
start = "98G"
size = "252G"
dimms = ["0x1"]
[[bus.range]]
start = "446G"
size = "252G"
numa_node = 1
dimms = ["0x2"]
"""


def spans(machine):
    return [(span.start // GIB, span.end // GIB, span.nid) for span in installed_memory(installed_ram(machine))]


def test_ram_goes_on_behind_persistent_memory():
    machine = parse_machine(SERVER, "server.toml")
    assert spans(machine) == [(0, 2, 0), (4, 98, 0), (350, 446, 0)]
    assert [(range_.start, range_.end) for range_ in machine.ranges] == [(98 * GIB, 350 * GIB), (446 * GIB, 698 * GIB)]


def test_ram_ranges_without_a_start_go_around_devices_and_ranges_and_have_their_nodes():
    text = SERVER.replace('ram = "192G"', 'ram_range = [{ size = "96G" }, { size = "96G", numa_node = 1 }]')
    machine = parse_machine(text, "server.toml")
    assert spans(machine) == [(0, 2, 0), (4, 98, 0), (350, 446, 1)]
    assert machine.ram == 192 * GIB
    assert nodes_of(machine).online == {0, 1}


def test_ram_can_have_holes_and_the_nodes_can_alternate():
    places = [("0", "1G", 0), ("4G", "4G", 1), ("12G", "4G", 0), ("20G", "4G", 1)]
    tables = "".join(f'[[ram_range]]\nstart = "{a}"\nsize = "{b}"\nnuma_node = {nid}\n' for a, b, nid in places)
    machine = parse_machine(tables + "[[bus]]\n[[bus.range]]\nsize = '1G'\n", "holes.toml")
    assert spans(machine) == [(0, 1, 0), (4, 8, 1), (12, 16, 0), (20, 24, 1)]
    assert machine.ranges[0].start == 24 * GIB
    memory = Memory.boot("", installed_ram(machine), nodes=nodes_of(machine))
    blocks = MemoryBlocks(memory)
    assert [blocks.blocks[number].nid for number in (0, 32, 96, 160)] == [0, 1, 0, 1]
    assert [blocks.blocks[number].zone.nid for number in (1, 32, 96, 160)] == [0, 1, 0, 1]
    normal = {nid: zones[2] for nid, zones in memory.zones.items()}
    assert (normal[0].spanned, normal[0].present) == (12 * GIB // PAGE_SIZE, 4 * GIB // PAGE_SIZE)
    assert (normal[1].spanned, normal[1].present) == (20 * GIB // PAGE_SIZE, 8 * GIB // PAGE_SIZE)


@pytest.mark.parametrize("text", [SERVER, SERVER.replace('ram = "192G"', "[[ram_range]]\nsize = '192G'")])
def test_a_completed_machine_reads_as_itself(text):
    machine = parse_machine(text, "server.toml")
    for shown in (machine, abridged(machine)):
        assert completed(read_machine(machine_text(shown))) == machine


def test_the_sum_of_ram_ranges_may_be_written_or_left_out():
    text = "[[ram_range]]\nsize = '6G'\n[[bus]]\n"
    assert read_machine(text).ram == TO_BE_CHOSEN
    assert parse_machine(text, "a.toml") == parse_machine(f"ram = '6G'\n{text}", "a.toml")


def test_the_nodes_of_a_machine_are_those_that_its_file_names():
    machine = parse_machine("[[bus]]\n[[bus.range]]\nsize = '1G'\nnuma_node = 1\ntarget_node = 3\n", "a.toml")
    nodes = nodes_of(machine)
    assert (nodes.online, nodes.possible) == ({0, 1}, {0, 1, 2, 3})
    assert (nodes.distance(1, 1), nodes.distance(1, 3)) == (10, 20)


def test_memory_near_a_node_belongs_to_it():
    machine = parse_machine("[[bus]]\n[[bus.range]]\nsize = '1G'\nnuma_node = 1\n", "a.toml")
    assert (machine.ranges[0].numa_node, machine.ranges[0].target_node) == (1, 1)


TWO_NODES = (RamSpan(0, 2 * GIB), RamSpan(4 * GIB, 6 * GIB, 1))


def two_nodes(memmap=""):
    nodes = frozenset({0, 1})
    return Memory.boot(memmap, TWO_NODES, nodes=Nodes(TWO_NODES, nodes, nodes))


def test_struct_pages_are_allocated_on_the_node_of_what_they_describe():
    memory = two_nodes("512M!1G,512M!5G")
    free = {nid: sum(map(memory.free_pages, zones)) for nid, zones in memory.zones.items()}
    for start, nid in ((GIB, 0), (5 * GIB, 1)):
        memory.memremap_pages(DevPagemap((Range.sized(start, 512 * MIB),)), nid)
        left = sum(map(memory.free_pages, memory.zones[nid]))
        assert free[nid] - left == 8 * MIB // PAGE_SIZE


def test_a_node_without_free_ram_takes_that_of_its_neighbour():
    memory = two_nodes("1900M!4G")
    memory.memremap_pages(DevPagemap((Range.sized(4 * GIB, 1900 * MIB),)), 1)
    memory.huge_pages.resize(1, 2 * MIB, 1 << 30)
    memory.hot_add(8 * GIB // PAGE_SIZE, 16 * GIB // PAGE_SIZE, 1)
    assert memory.hot_memmaps


def test_a_huge_page_leaves_the_page_allocator_and_comes_back():
    memory = two_nodes()
    before = meminfo_text(memory)
    memory.huge_pages.resize(1, 2 * MIB, 3)
    assert "Node 1 HugePages_Free:      3\n" in node_meminfo_text(memory, 1)
    assert "HugePages_Total:       3\n" in meminfo_text(memory)
    assert "Hugetlb:            6144 kB\n" in meminfo_text(memory)
    memory.huge_pages.resize(1, GIB, 1)
    assert "Hugetlb:         1054720 kB\n" in meminfo_text(memory)
    for size in (2 * MIB, GIB):
        memory.huge_pages.resize(1, size, 0)
    assert meminfo_text(memory) == before


def test_free_blocks_add_up_to_the_free_pages():
    memory = two_nodes("4100K!4097M")
    for line, zone in zip(
        buddyinfo_text(memory).splitlines(),
        [zone for zones in memory.zones.values() for zone in zones if zone.populated],
        strict=True,
    ):
        counts = [int(word) for word in line.split()[4:]]
        assert line.startswith(f"Node {zone.nid}, zone {zone.name:>8} ")
        assert sum(count << order for order, count in enumerate(counts)) == memory.free_pages(zone)


@pytest.mark.parametrize(("nodes", "text"), [((), ""), ((0,), "0"), ((2, 0, 1), "0-2"), ((0, 2, 3, 7), "0,2-3,7")])
def test_nodes_are_listed_as_ranges(nodes, text):
    assert node_list(nodes) == text


def test_a_block_that_went_online_in_another_zone_is_counted_there_alone():
    memory = Memory.boot("", 2 * GIB)
    blocks = MemoryBlocks(memory)
    for number in (5, 9):
        blocks.switch_off(blocks.blocks[number])
        blocks.switch_on(blocks.blocks[number], OnlineType.MOVABLE)
    free = {zone.name: memory.free_pages(zone) for zone in memory.zones[0]}
    assert free["Movable"] == 2 * 128 * MIB // PAGE_SIZE, "not what is between the two blocks"
    assert all(free[zone.name] <= zone.managed for zone in memory.zones[0])
    assert memory.ram_zone(5 * 128 * MIB // PAGE_SIZE).name == "Movable"
    blocks.switch_off(blocks.blocks[5])
    assert memory.free_pages(memory.zones[0][3]) == 128 * MIB // PAGE_SIZE
