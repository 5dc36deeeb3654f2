"""Buses that no NFIT announces.  The kernel's answers for virtio-pmem are in recordings/virtio; of_pmem follows its
source (drivers/nvdimm/of_pmem.c and drivers/of, Linux 6.1)."""

import errno

import pytest
from poke import Hands

from nvdimmfs.machine_file.errors import MachineFileError

NODE = "devices/platform/180000000.pmem"


@pytest.fixture
def hands():
    hands = Hands.described("of-pmem")
    yield hands
    hands.machine.close()


def names(hands, path):
    return set(hands.sysfs.names(path))


def test_the_device_of_a_node_is_the_parent_of_a_bus_for_all_its_ranges(hands):
    assert hands.read(f"{NODE}/ndbus0/provider") == "180000000.pmem\n"
    assert [hands.read(f"{NODE}/ndbus0/region{number}/size") for number in (0, 1)] == ["536870912\n", "268435456\n"]
    assert hands.read(f"{NODE}/ndbus0/commands") == "\n"
    assert hands.read(f"{NODE}/modalias") == "of:NpmemT(null)Cpmem-region\n"
    assert names(hands, NODE) == {
        "driver",
        "driver_override",
        "modalias",
        "ndbus0",
        "of_node",
        "power",
        "subsystem",
        "uevent",
    }


def test_attributes_that_the_regions_lack(hands):
    region = names(hands, f"{NODE}/ndbus0/region0")
    assert region.isdisjoint({"deep_flush", "persistence_domain", "set_cookie", "available_size", "mapping0", "nfit"})
    assert region >= {"numa_node", "of_node", "resource", "badblocks", "max_available_extent"}
    assert "target_node" not in region  # the node of the tree is in no NUMA node
    assert hands.read(f"{NODE}/ndbus0/region0/namespace0.0/mode") == "memory\n"


def test_a_volatile_node_has_volatile_regions(hands):
    region = "devices/platform/200000000.pmem/ndbus1/region2"
    assert hands.read(f"{region}/devtype") == "nd_volatile\n"
    assert "volatile" in names(hands, "firmware/devicetree/base/pmem@200000000")
    assert "volatile" not in names(hands, "firmware/devicetree/base/pmem@180000000")


def test_the_properties_of_a_node_are_its_files(hands):
    node = hands.machine.system.sys.find("firmware/devicetree/base/pmem@180000000")
    files = {file.name: file.data.read(0, file.size) for file in node}
    assert files == {
        "compatible": b"pmem-region\0",
        "name": b"pmem\0",
        "reg": bytes.fromhex("0000000180000000 0000000020000000 00000001c0000000 0000000010000000"),
    }


def test_uevents_name_the_node(hands):
    assert hands.read(f"{NODE}/uevent") == (
        "DRIVER=of_pmem\nOF_NAME=pmem\nOF_FULLNAME=/pmem@180000000\nOF_COMPATIBLE_0=pmem-region\nOF_COMPATIBLE_N=1\n"
        "MODALIAS=of:NpmemT(null)Cpmem-region\n"
    )
    assert "OF_FULLNAME=/pmem@180000000\n" in hands.read(f"{NODE}/ndbus0/region1/uevent")
    assert "OF_" not in hands.read(f"{NODE}/ndbus0/region1/namespace1.0/uevent")


def test_the_driver_can_be_unbound_and_bound(hands):
    hands.write("bus/platform/drivers/of_pmem/unbind", "180000000.pmem")
    assert names(hands, "bus/nd/devices") == {"btt2.0", "dax2.0", "namespace2.0", "ndbus1", "pfn2.0", "region2"}
    assert hands.refused("bus/platform/drivers/of_pmem/bind", "e820_pmem") == errno.ENODEV
    hands.write("bus/platform/drivers/of_pmem/bind", "180000000.pmem")
    assert hands.read(f"{NODE}/ndbus0/region1/size") == "268435456\n"


def test_the_module_takes_its_buses_with_it(hands):
    for number in range(3):
        hands.write("bus/nd/drivers/nd_region/unbind", f"region{number}")
    hands.write("kernel/debug/nvdimmfs/modules", "unload of_pmem")
    assert names(hands, "bus/nd/devices") == set()
    hands.write("kernel/debug/nvdimmfs/modules", "load of_pmem")
    assert {"ndbus0", "ndbus1"} < names(hands, "bus/nd/devices")


def test_other_platform_drivers_leave_the_device_alone():
    text = (
        '[[bus]]\nprovider = "nfit_test.0"\n[[bus.dimm]]\n'
        '[[bus]]\nplatform = "device-tree"\n[[bus.range]]\nsize = "1G"\n'
    )
    hands = Hands.described(text)
    device = next(iter(names(hands, "bus/platform/drivers/of_pmem") - {"bind", "unbind", "module", "uevent"}))
    assert device.endswith(".pmem")
    assert hands.refused("bus/platform/drivers/nfit_test/bind", device) == errno.ENODEV
    hands.machine.close()


def test_nothing_is_plugged_into_a_bus_without_an_nfit(hands):
    with pytest.raises(MachineFileError, match="the machine has no NFIT bus"):
        hands.machine.plug("dimm size=64M")


def test_bad_sectors_and_read_only_ranges_are_those_of_the_file():
    text = (
        '[[bus]]\nplatform = "virtio-pmem"\n[[bus.range]]\nsize = "64M"\nread_only = true\n'
        "badblocks = [{ sector = 8, count = 3 }]\n"
    )
    hands = Hands.described(text)
    region = "devices/pci0000:00/0000:00:03.0/virtio0/ndbus0/region0"
    assert hands.read(f"{region}/badblocks") == "8 3\n"
    assert hands.read(f"{region}/read_only") == "1\n"
    hands.machine.close()
