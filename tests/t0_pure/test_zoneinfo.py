import re
from pathlib import Path

import pytest

from nvdimmfs.kernels.kernel import KERNELS
from nvdimmfs.mm.meminfo import meminfo_text, node_meminfo_text, node_vmstat_text
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.memremap import DevPagemap
from nvdimmfs.mm.nodes import Nodes
from nvdimmfs.mm.resource import Resource, ResourceFlag, iomem_root
from nvdimmfs.units import GIB, MIB, Range

#: /proc/zoneinfo of a real 6.1 kernel (QEMU q35 with 4 GiB, memmap=512M!4G,256M!6G, both namespaces raw).
RECORDINGS = Path(__file__).parent.parent / "recordings"
RECORDED = (RECORDINGS / "zoneinfo-e820.txt").read_text()

#: The System RAM in that machine's /proc/iomem.
RECORDED_RAM = ((0x1000, 0x9FBFF), (0x100000, 0x7FFDDFFF), (0x120000000, 0x17FFFFFFF))


@pytest.fixture
def memory():
    """The recorded machine's RAM."""
    root = iomem_root((1 << 52) - 1)
    for start, end in RECORDED_RAM:
        root.insert(Resource("System RAM", start, end, ResourceFlag.SYSTEM_RAM | ResourceFlag.BUSY))
    memory = Memory(root)
    memory.memremap_pages(DevPagemap((Range.sized(4 * GIB, 512 * MIB),)))
    memory.memremap_pages(DevPagemap((Range.sized(6 * GIB, 256 * MIB),)))
    return memory


def shape(text):
    """The text with every number replaced, so that only the format remains."""
    return re.sub(r"(?<![A-Za-z_])\d+", "#", text)


def zones(text):
    """For each zone its numbers by name."""
    found = {}
    for block in re.split(r"^(?=Node)", text, flags=re.MULTILINE)[1:]:
        name = re.match(r"Node \d+, zone +(\w+)", block)[1]
        found[name] = {
            key.strip(): value for key, value in re.findall(r"^ +([a-z_ ]+?:?) +(\d+)$", block, re.MULTILINE)
        }
    return found


def test_the_format_is_the_kernels_to_the_byte(memory):
    assert shape(memory.zoneinfo_text()) == shape(RECORDED)


@pytest.mark.parametrize(("release", "ram"), [("5.10", 8 * GIB), ("6.12", 4 * GIB)])
def test_the_files_of_another_kernel_have_its_lines(release, ram):
    memory = Memory.boot("512M!4G,256M!6G", ram=ram, kernel=KERNELS[release])
    folder = RECORDINGS / f"linux-{release}"
    assert shape(memory.zoneinfo_text()) == shape((folder / "zoneinfo-e820.txt").read_text())
    texts = re.split(r"^== (.*)\n", (folder / "node-e820.txt").read_text(), flags=re.MULTILINE)[1:]
    recorded = dict(zip(texts[::2], texts[1::2], strict=True))
    answers = {
        "vmstat": node_vmstat_text(memory, 0),
        "meminfo": node_meminfo_text(memory, 0),
        "/proc/meminfo": meminfo_text(memory),
    }
    for name, text in answers.items():
        assert names(text) == names(recorded[name]), name


def test_the_reserve_of_a_newer_kernel():
    memory = Memory.boot("512M!4G,256M!6G", ram=4 * GIB, kernel=KERNELS["6.12"])
    ours, newer = zones(memory.zoneinfo_text()), zones((RECORDINGS / "linux-6.12" / "zoneinfo-e820.txt").read_text())
    assert ours["Movable"] == newer["Movable"]
    assert ours["DMA"]["high:"] == newer["DMA"]["high:"] == "0"


def names(text):
    """What stands before the numbers."""
    return [re.sub(r" +\d+( kB)?$", "", line) for line in text.splitlines()]


def test_values_that_do_not_depend_on_the_processes_are_the_same(memory):
    ours, theirs = zones(memory.zoneinfo_text()), zones(RECORDED)
    assert ours.keys() == theirs.keys()
    for name in ours:
        for key in ("spanned", "present", "cma", "batch:", "vm stats threshold:", "start_pfn:", "boost"):
            assert ours[name].get(key) == theirs[name].get(key), (name, key)


def test_the_first_mebibyte_is_the_kernels_own(memory):
    ours, theirs = zones(memory.zoneinfo_text()), zones(RECORDED)
    assert ours["DMA"]["managed"] == theirs["DMA"]["managed"] == str((16 * MIB - MIB) // 4096)


def test_the_zones_without_pages_are_the_same_to_the_byte(memory):
    assert memory.zoneinfo_text().endswith(RECORDED[RECORDED.index("Node 0, zone  Movable") :])


def test_the_watermarks_are_what_the_kernel_reserves(memory):
    ours, theirs = zones(memory.zoneinfo_text()), zones(RECORDED)
    populated = ("DMA", "DMA32", "Normal")

    def reserved(found):
        return sum(int(found[name]["min"]) for name in populated)

    assert abs(reserved(ours) - reserved(theirs)) <= 3  # 512 pages * 3 zones * 11 blocks, rounded for each zone
    for name in populated:
        zone = {key: int(value) for key, value in ours[name].items()}
        assert zone["low"] - zone["min"] == zone["high"] - zone["low"] == max(zone["min"] // 4, zone["managed"] // 1000)


def test_free_pages_follow_what_memmaps_take(memory):
    before = zones(memory.zoneinfo_text())["Normal"]["pages free"]
    memory.memunmap_pages(memory.pagemaps[0])
    after = zones(memory.zoneinfo_text())["Normal"]["pages free"]
    assert int(after) - int(before) == 4 * 512


def test_a_machine_without_high_ram_has_an_empty_normal_zone():
    text = Memory.boot("", ram=GIB).zoneinfo_text()
    assert zones(text)["Normal"] == zones(text)["Movable"]
    assert zones(text)["DMA32"]["spanned"] == str((GIB - 136 * 1024 - 16 * MIB) // 4096)


def test_every_node_shows_its_zones():
    text = Memory.boot("512M!4G,256M!6G", nodes=Nodes.count(2)).zoneinfo_text()
    assert text.count("zone   Device") == 2
    assert text.count("per-node stats") == 1
