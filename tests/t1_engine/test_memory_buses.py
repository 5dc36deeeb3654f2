"""Buses that no NFIT announces.  The kernel's answers for virtio-pmem are in recordings/virtio; of_pmem follows its
source (drivers/nvdimm/of_pmem.c and drivers/of, Linux 6.1)."""

import pytest

from nvdimmfs.errors import KernelError
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.errors import MachineFileError
from nvdimmfs.machine_file.files import load_machine, parse_machine

NODE = "devices/platform/180000000.pmem"


@pytest.fixture
def machine():
    booted = Machine.described(load_machine("of-pmem"), clock="steps")
    yield booted
    booted.close()


def read(machine, path):
    return machine.system.sys.find(path).show().decode()


def write(machine, path, text):
    machine.system.sys.find(path).store(text.encode())


def names(machine, path):
    return {node.name for node in machine.system.sys.find(path)}


def test_the_device_of_a_node_is_the_parent_of_a_bus_for_all_its_ranges(machine):
    assert read(machine, f"{NODE}/ndbus0/provider") == "180000000.pmem\n"
    assert [read(machine, f"{NODE}/ndbus0/region{number}/size") for number in (0, 1)] == ["536870912\n", "268435456\n"]
    assert read(machine, f"{NODE}/ndbus0/commands") == "\n"
    assert read(machine, f"{NODE}/modalias") == "of:NpmemT(null)Cpmem-region\n"
    assert names(machine, NODE) == {
        "driver",
        "driver_override",
        "modalias",
        "ndbus0",
        "of_node",
        "power",
        "subsystem",
        "uevent",
    }


def test_what_the_regions_lack(machine):
    region = names(machine, f"{NODE}/ndbus0/region0")
    assert region.isdisjoint({"deep_flush", "persistence_domain", "set_cookie", "available_size", "mapping0", "nfit"})
    assert region >= {"numa_node", "of_node", "resource", "badblocks", "max_available_extent"}
    assert "target_node" not in region  # the node of the tree is in no NUMA node
    assert read(machine, f"{NODE}/ndbus0/region0/namespace0.0/mode") == "memory\n"


def test_a_volatile_node_has_volatile_regions(machine):
    region = "devices/platform/200000000.pmem/ndbus1/region2"
    assert read(machine, f"{region}/devtype") == "nd_volatile\n"
    assert "volatile" in names(machine, "firmware/devicetree/base/pmem@200000000")
    assert "volatile" not in names(machine, "firmware/devicetree/base/pmem@180000000")


def test_the_properties_of_a_node_are_its_files(machine):
    node = machine.system.sys.find("firmware/devicetree/base/pmem@180000000")
    files = {file.name: file.data.read(0, file.size) for file in node}
    assert files == {
        "compatible": b"pmem-region\0",
        "name": b"pmem\0",
        "reg": bytes.fromhex("0000000180000000 0000000020000000 00000001c0000000 0000000010000000"),
    }


def test_uevents_name_the_node(machine):
    assert read(machine, f"{NODE}/uevent") == (
        "DRIVER=of_pmem\nOF_NAME=pmem\nOF_FULLNAME=/pmem@180000000\nOF_COMPATIBLE_0=pmem-region\nOF_COMPATIBLE_N=1\n"
        "MODALIAS=of:NpmemT(null)Cpmem-region\n"
    )
    assert "OF_FULLNAME=/pmem@180000000\n" in read(machine, f"{NODE}/ndbus0/region1/uevent")
    assert "OF_" not in read(machine, f"{NODE}/ndbus0/region1/namespace1.0/uevent")


def test_the_driver_can_be_unbound_and_bound(machine):
    write(machine, "bus/platform/drivers/of_pmem/unbind", "180000000.pmem")
    assert names(machine, "bus/nd/devices") == {"btt2.0", "dax2.0", "namespace2.0", "ndbus1", "pfn2.0", "region2"}
    with pytest.raises(KernelError, match="ENODEV"):
        write(machine, "bus/platform/drivers/of_pmem/bind", "e820_pmem")
    write(machine, "bus/platform/drivers/of_pmem/bind", "180000000.pmem")
    assert read(machine, f"{NODE}/ndbus0/region1/size") == "268435456\n"


def test_the_module_takes_its_buses_with_it(machine):
    for number in range(3):
        write(machine, "bus/nd/drivers/nd_region/unbind", f"region{number}")
    write(machine, "kernel/debug/nvdimmfs/modules", "unload of_pmem")
    assert names(machine, "bus/nd/devices") == set()
    write(machine, "kernel/debug/nvdimmfs/modules", "load of_pmem")
    assert {"ndbus0", "ndbus1"} < names(machine, "bus/nd/devices")


def test_other_platform_drivers_leave_the_device_alone():
    text = (
        '[[bus]]\nprovider = "nfit_test.0"\n[[bus.dimm]]\n'
        '[[bus]]\nplatform = "device-tree"\n[[bus.range]]\nsize = "1G"\n'
    )
    machine = Machine.described(parse_machine(text, "test.toml"), clock="steps")
    device = next(iter(names(machine, "bus/platform/drivers/of_pmem") - {"bind", "unbind", "module", "uevent"}))
    assert device.endswith(".pmem")
    with pytest.raises(KernelError, match="ENODEV"):
        write(machine, "bus/platform/drivers/nfit_test/bind", device)
    machine.close()


def test_nothing_is_plugged_into_a_bus_without_an_nfit(machine):
    with pytest.raises(MachineFileError, match="the machine has no NFIT bus"):
        machine.plug("dimm size=64M")


def test_bad_sectors_and_read_only_ranges_are_those_of_the_file():
    text = (
        '[[bus]]\nplatform = "virtio-pmem"\n[[bus.range]]\nsize = "64M"\nread_only = true\n'
        "badblocks = [{ sector = 8, count = 3 }]\n"
    )
    machine = Machine.described(parse_machine(text, "test.toml"), clock="steps")
    region = "devices/pci0000:00/0000:00:03.0/virtio0/ndbus0/region0"
    assert read(machine, f"{region}/badblocks") == "8 3\n"
    assert read(machine, f"{region}/read_only") == "1\n"
    machine.close()
