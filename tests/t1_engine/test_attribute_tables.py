"""Where the tables of attributes say that a file is, the machine has it."""

import pytest
from machines import boot

from nvdimmfs.core.attribute import KernelAttribute
from nvdimmfs.kernfs import Attribute, Directory
from nvdimmfs.lab.attribute_tables import attribute_at
from nvdimmfs.lab.trees import InProcess

#: Machines as recordings name them, and writes that put a btt and a dax device into service.
MACHINES = {
    **{name: {"machine": name} for name in ("qemu-speeds", "nfit_test", "virtio-pmem", "of-pmem", "intel-dimm")},
    "legacy": {"memmap": "512M!4G,256M!6G", "memory": "8G"},
    "soft-reserved": {"memmap": "1G%0x140000000-1+0xefffffff", "memory": "4G"},
}
WRITES = {
    "legacy": [
        ("bus/nd/drivers/nd_pmem/unbind", "namespace0.0"),
        ("bus/nd/devices/btt0.0/sector_size", "4096"),
        ("bus/nd/devices/btt0.0/uuid", "00000001-1111-2222-3333-000000000001"),
        ("bus/nd/devices/btt0.0/namespace", "namespace0.0"),
        ("bus/nd/drivers/nd_pmem/bind", "btt0.0"),
        ("bus/nd/drivers/nd_pmem/unbind", "namespace1.0"),
        ("bus/nd/devices/dax1.0/mode", "pmem"),
        ("bus/nd/devices/dax1.0/uuid", "00000001-1111-2222-3333-000000000002"),
        ("bus/nd/devices/dax1.0/namespace", "namespace1.0"),
        ("bus/nd/drivers/dax_pmem/bind", "dax1.0"),
    ],
}


def attributes(directory):
    for node in directory:
        if isinstance(node, Directory):
            yield from attributes(node)
        elif isinstance(node, Attribute) and isinstance(node.ops, KernelAttribute):
            yield node


@pytest.mark.parametrize("kernel", ["6.1", "6.12"])
@pytest.mark.parametrize("name", MACHINES)
def test_each_file_of_a_machine_is_found_by_its_path(name, kernel):
    machine = boot({**MACHINES[name], "kernel": kernel})
    for path, data in WRITES.get(name, ()):
        InProcess(machine).write(path, data.encode())
    found = 0
    for node in attributes(machine.system.sys):
        path = node.path.removeprefix("/sys/")
        if path.startswith("module/") and "/parameters/" in path:
            continue  # parameters have no table
        subject = attribute_at(path)
        assert subject is not None, path
        assert node.ops in subject.declared, path
        found += 1
    machine.close()
    assert found > 100
