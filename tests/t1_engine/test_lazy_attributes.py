"""Attributes that were never looked up: the machine instantiates none of them, and misses no change."""

import pytest
from machines import boot

from nvdimmfs.core.attribute import AttributeGroup, attribute
from nvdimmfs.kernels.durations import SECOND
from nvdimmfs.kernfs import Attribute, Directory, Symlink, Tree


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


def test_what_is_about_power_management_is_kept_only_for_who_asks(machine):
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


class Subject:
    """Something with attributes."""

    def __init__(self, system):
        self.system = system
        self.visible = True


@attribute("sometimes")
def sometimes(subject):
    """Whether it is visible now."""
    return f"{subject.visible}\n"


def test_what_is_visible_is_decided_when_the_files_are_declared(machine):
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
