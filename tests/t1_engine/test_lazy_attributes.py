"""Attributes that were never looked up: the machine instantiates none of them, and misses no change."""

import errno

import pytest
from machines import boot

from nvdimmfs.core.attribute import AttributeGroup, attribute
from nvdimmfs.core.memory_block import MemorySubsystem
from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.durations import SECOND
from nvdimmfs.kernfs import Attribute, Directory, Member, Node, Symlink, Tree
from nvdimmfs.machine.machine import Machine
from nvdimmfs.mm.hotplug import LARGE_BLOCK, MemoryBlocks
from nvdimmfs.mm.memory import Memory
from nvdimmfs.units import GIB

PIB = 1 << 50


@pytest.fixture
def machine():
    return boot({"machine": "nfit_test"})


class Witness:
    """Writes down what is notified."""

    def __init__(self):
        self.notified_paths = []

    def added(self, directory, node):
        pass

    instantiated = removed = added

    def notified(self, attribute):
        self.notified_paths.append(attribute.path)


def test_a_device_that_nobody_looks_at_has_no_attributes_made(machine):
    devices = [link.target for link in machine.system.sys.find("bus/nd/devices") if isinstance(link, Symlink)]
    assert devices
    for device in devices:
        assert "uevent" in device
        assert not [node for node in device.instantiated if isinstance(node, Attribute)]


def test_attributes_of_power_management_are_kept_only_where_they_are_used(machine):
    power = machine.system.sys.find("devices/platform").find("power")
    assert power.find("control").show() == b"auto\n"
    assert power.find("control").store(b"on\n") == 3
    assert power.find("runtime_enabled").show() == b"disabled & forbidden\n"


def test_a_file_that_nobody_looked_at_is_notified():
    """Both buses scrub from the start; the scrubs end, and a process that polls from then on must see it."""
    machine = boot({"machine": "nfit_test"})
    witness = Witness()
    machine.tree.subscribe(witness)
    machine.system.clock.advance(60 * SECOND)
    scrubs = [path for path in witness.notified_paths if path.endswith("/scrub")]
    assert sorted(path.rpartition("/ndbus")[2] for path in scrubs) == ["0/nfit/scrub", "1/nfit/scrub"]


def test_a_petabyte_has_half_a_million_blocks_of_which_only_those_are_made_that_are_looked_at():
    sys = Machine.legacy("512M!4G", PIB, clock="steps").system.sys
    memory, links, node = (
        sys.find(path) for path in ("devices/system/memory", "bus/memory/devices", "devices/system/node/node0")
    )
    last = PIB // LARGE_BLOCK
    assert not [entry for directory in (memory, links, node) for entry in directory.instantiated if "y1" in entry.name]
    assert memory.subdirectories == last + 1  # power/ is one more; 2 GiB at address 0 are moved to 4 GiB
    assert links.find(f"memory{last}").text == f"../../../devices/system/memory/memory{last}"
    assert node.find(f"memory{last}").text == f"../../memory/memory{last}"
    block = memory.find(f"memory{last}")
    assert node.find(f"memory{last}").target is block
    assert [entry.name for entry in memory.instantiated if entry.name.startswith("memory")] == [block.name]
    assert block.find("phys_index").show() == b"%08x\n" % last
    assert block.find("state").show() == b"online\n"
    assert block.find("valid_zones").show() == b"Normal\n"
    assert block.find("node0").text == "../../node/node0"
    assert [entry.name for entry in block][-1] == "node0"


@pytest.mark.parametrize("path", ["devices/system/memory", "bus/memory/devices", "devices/system/node/node0"])
def test_stat_shows_of_a_block_that_is_not_made_what_it_shows_afterwards(path):
    directory = Machine.legacy("512M!4G", PIB, clock="steps").system.sys.find(path)
    assert isinstance(directory.peek("memory32"), Node), "the first one is made, and shows what all are like"
    for name in ("memory33", "memory4000", "memory524288"):
        member = directory.peek(name)
        assert isinstance(member, Member)
        assert name not in {node.name for node in directory.instantiated}
        node = directory.find(name)
        subdirectories = node.subdirectories if isinstance(node, Directory) else 0
        assert (member.ino, member.mode, member.subdirectories) == (node.ino, node.mode, subdirectories)
        assert directory.peek(name) is node


def test_devices_of_a_bus_are_found_by_name_before_they_are_made():
    """A write to drivers_probe names one; ENODEV without the device."""
    system = Machine.legacy("512M!4G", PIB, clock="steps").system
    probe = system.sys.find("bus/memory/drivers_probe")
    assert isinstance(probe, Attribute)
    assert probe.store(b"memory524288") == len("memory524288")
    with pytest.raises(KernelError) as refusal:
        probe.store(b"memory524289")
    assert refusal.value.errno == errno.ENODEV


def test_a_listener_at_boot_gets_a_uevent_of_each_block():
    class Listener:
        def __init__(self):
            self.names = []

        def uevent(self, event):
            self.names.append(event.devpath.rpartition("/")[2])

    system, listener = System(), Listener()
    system.listen(listener)
    blocks = MemoryBlocks(Memory.boot("64M!4G", 3 * GIB))
    MemorySubsystem(system, blocks)
    names = [name for name in listener.names if name.startswith("memory") and name != "memory"]
    assert names == [f"memory{number}" for number in blocks.blocks]


class Subject:
    """Something with attributes."""

    def __init__(self, system):
        self.system = system
        self.visible = True


@attribute("sometimes")
def sometimes(subject):
    """Whether it is visible now."""
    return f"{subject.visible}\n"


def test_visibility_is_decided_when_the_files_are_declared(machine):
    """As in the kernel, where is_visible is asked when a device is registered, and never again."""
    group = AttributeGroup((sometimes,), visible=lambda subject, candidate: candidate.permissions * subject.visible)
    subject = Subject(machine.system)
    shown, hidden = (Tree().root.add(Directory("device")) for _ in range(2))
    group.create(shown, subject)
    subject.visible = False
    group.create(hidden, subject)
    subject.visible = True
    assert [node.name for node in shown] == ["sometimes"]
    assert shown.find("sometimes").show() == b"True\n"
    assert hidden.is_empty
