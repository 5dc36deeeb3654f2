"""Dax devices that become System RAM: what the recordings leave unsaid."""

import errno
import os

import pytest
from poke import DEBUG, Hands

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs.open_file import open_node

BLOCKS = "devices/system/memory"
KMEM = "bus/dax/drivers/kmem"
TWO_NODES = """
[[bus]]
[[bus.dimm]]
size = "1G"
[[bus.range]]
dimms = ["0x1"]
numa_node = 0
target_node = {node}
"""


@pytest.fixture
def hands():
    hands = Hands.on("512M!4G,64M!5G")
    hands.write(f"{DEBUG}/modules", "load kmem\n")
    return hands


def become_ram(hands, region=0):
    """Give a region's namespace to kmem; the errno of its bind, 0 when it is bound."""
    dax = hands.bring_up(region, "dax", mode="pmem")
    hands.write("bus/dax/drivers/device_dax/unbind", dax)
    hands.write(f"{KMEM}/new_id", dax)
    return hands.refused(f"{KMEM}/bind", dax)


def test_a_device_without_a_whole_block_is_refused(hands):
    before = hands.machine.memory.iomem_text()
    assert become_ram(hands, region=1) == errno.EINVAL
    assert "kmem" not in hands.machine.memory.iomem_text()
    hands.unbind("dax1.0")
    hands.bind("dax1.0")
    assert before != hands.machine.memory.iomem_text()
    assert "dax1.0" in hands.machine.memory.iomem_text()


def test_the_bytes_cannot_be_had_from_the_device_any_more(hands):
    assert become_ram(hands) == errno.EBUSY  # new_id has bound it
    node = hands.machine.system.dev.find("dax0.0")
    with pytest.raises(KernelError) as refused:
        open_node(node, os.O_RDONLY)
    assert refused.value.errno == errno.ENXIO


def test_the_struct_pages_of_added_ram_are_counted(hands):
    before = hands.facts("ram")
    become_ram(hands)
    after = hands.facts("ram")
    assert int(after["memmap_devices"]) == 3 * (2 << 20), "2 MiB a block"
    assert after["reserved"] == before["reserved"]
    assert sum(int(count) for name, count in after.items() if name != "total") == int(after["total"])


def test_unloading_kmem_takes_back_what_is_off_line(hands):
    become_ram(hands)
    hands.write(f"{DEBUG}/modules", "unload kmem\n")
    assert "memory33" not in hands.sysfs.names(BLOCKS)
    assert "dax0.0" not in hands.sysfs.names("bus/dax/drivers/device_dax")
    hands.write("bus/dax/drivers/device_dax/bind", "dax0.0")


def test_memory_that_could_not_be_given_back_outlives_its_device(hands):
    become_ram(hands)
    hands.write(f"{BLOCKS}/memory33/state", "online_movable")
    hands.write("bus/nd/drivers/nd_region/unbind", "region0")
    hands.write(f"{DEBUG}/modules", "unload kmem\n")
    assert "memory33" in hands.sysfs.names(BLOCKS)
    hands.write(f"{BLOCKS}/memory33/state", "offline")
    hands.write("bus/nd/drivers/nd_region/bind", "region0")
    assert hands.driver_of("dax0.0") == "dax_pmem"
    assert hands.refused("bus/dax/drivers/device_dax/bind", "dax0.0") == errno.EBUSY


@pytest.mark.parametrize("node", [0, 1])
def test_the_memory_belongs_to_the_target_node(node):
    hands = Hands.described(TWO_NODES.format(node=node))
    hands.write(f"{DEBUG}/modules", "load kmem\n")
    assert become_ram(hands) == errno.EBUSY
    block = min((name for name in hands.sysfs.names("bus/memory/devices")), key=lambda name: -int(name[6:]))
    assert hands.sysfs.readlink(f"{BLOCKS}/{block}/node{node}") == f"../../node/node{node}"
    assert block in hands.sysfs.names(f"devices/system/node/node{node}")
    hands.write(f"{BLOCKS}/{block}/state", "online_movable")
    zones = [zone for zone in hands.memory.zones[node] if zone.name == "Movable"]
    assert [zone.present for zone in zones] == [1 << 15]
