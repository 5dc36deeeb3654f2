"""What must hold on any machine after any step: the tree and the engine agree, and nothing is owned twice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from nvdimmfs.core.device import Device
from nvdimmfs.core.uevent import Action, Uevent
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Attribute, BinaryFile, Directory, Symlink
from nvdimmfs.machine.machine import Machine
from nvdimmfs.mm.resource import Resource
from nvdimmfs.nd.claim import Personality
from nvdimmfs.nd.dimm import DimmDevice
from nvdimmfs.nd.label import label_id
from nvdimmfs.nd.namespace import NamespaceDevice
from nvdimmfs.nd.namespace_pmem import NamespacePmem
from nvdimmfs.nd.region import RegionDevice


class Announced:
    """The devices that uevents announced, compared with those that there are.

    A device whose parent is removed before it is left out from then on: the kernel, too, loses sight of it.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._there = set(announced_devices(machine))
        self._left_behind: set[str] = set()
        self._silenced: set[str] = set()
        self._problems: list[str] = []
        machine.system.listen(self)

    def uevent(self, event: Uevent) -> None:
        """Keep account of a uevent.

        A written `remove` counts as the one that a kobject sends when it goes, unless it is a device
        (state_remove_uevent_sent, lib/kobject_uevent.c, Linux 6.1).
        """
        path = event.devpath
        if any(key == "SYNTH_UUID" for key, _ in event.variables):
            if event.action is Action.REMOVE:
                self._silenced.add(path)
        elif event.action is Action.ADD:
            if path in self._there - self._silenced:
                self._problems.append(f"{path} was added twice")
            self._there.add(path)
            self._silenced.discard(path)
            self._left_behind.discard(path)
        elif event.action is Action.REMOVE:
            if path not in self._there | self._left_behind:
                self._problems.append(f"{path} was removed, but never added")
            left = {other for other in self._there if other.startswith(f"{path}/")}
            self._left_behind = (self._left_behind | left) - {path}
            self._there -= left | {path}

    def differences(self) -> Iterator[str]:
        """What was announced wrongly since the last call, or not at all."""
        found, self._problems = self._problems, []
        yield from found
        before, there = self._there, set(announced_devices(self._machine)) - self._left_behind
        self._there = there
        yield from (f"no uevent announced {path}" for path in sorted(there - before))
        yield from (f"no uevent announced that {path} is gone" for path in sorted(before - there - self._silenced))


def announced_devices(machine: Machine) -> Iterator[str]:
    """The paths of everything that sends uevents: devices of buses and classes, modules, drivers, buses, classes."""
    sys = machine.system.sys
    for folder in ("bus", "class"):
        for directory in _directories(sys.find(folder)):
            yield machine.system.devpath(directory)
            members = directory.find("devices") if folder == "bus" else directory
            assert isinstance(members, Directory)
            for link in members:
                if isinstance(link, Symlink):
                    yield machine.system.devpath(link.target)  # type: ignore[arg-type]
            if folder == "bus":
                yield from (machine.system.devpath(driver) for driver in _directories(directory.find("drivers")))
    yield from (machine.system.devpath(module) for module in _directories(sys.find("module")))


def _directories(node: object) -> list[Directory]:
    assert isinstance(node, Directory)
    return [child for child in node if isinstance(child, Directory)]


def problems(machine: Machine) -> Iterator[str]:
    """Everything that does not agree in the engine; cheap enough for every few steps."""
    devices = list(_devices(machine))
    yield from _driver_problems(devices)
    yield from _claim_problems(devices)
    yield from _space_problems(devices)
    yield from _number_problems(machine)
    yield from _resource_problems(machine.memory.iomem)


def tree_problems(machine: Machine) -> Iterator[str]:
    """Read the whole tree: links lead somewhere, files can be read or refuse, parents and children agree."""
    yield from _tree_problems(machine.tree.root, _orphans(machine))


def _orphans(machine: Machine) -> tuple[str, ...]:
    """The former paths of devices whose parent went away before them: the kernel leaves links to them behind, too."""
    devices = [*_devices(machine), *machine.system.numbered.values()]
    return tuple(device.directory.path for device in devices if device.registered and device.directory.is_detached)


def _devices(machine: Machine) -> Iterator[Device]:
    buses = [machine.persistent_memory.platform_bus, machine.persistent_memory.acpi_bus]
    if machine.nd_bus:
        buses.append(machine.nd_bus)
    for bus in buses:
        yield from bus.members.values()


def _driver_problems(devices: list[Device]) -> Iterator[str]:
    for device in devices:
        if not device.registered:
            yield f"{device.name} is on a bus, and not registered"
            continue
        if device.directory.is_detached:
            continue  # its parent went away first; the kernel leaves such devices, too
        link = device.directory.get("driver")
        if device.driver is None:
            if link is not None:
                yield f"{device.name} has a link to a driver, and no driver"
            continue
        if link is None:
            yield f"{device.name} is bound, and has no link to its driver"
        if device not in device.driver.devices:  # type: ignore[attr-defined]
            yield f"{device.driver.name} does not know {device.name}"
        if device.name not in device.driver.directory:  # type: ignore[attr-defined]
            yield f"{device.driver.name} has no link to {device.name}"


def _claim_problems(devices: list[Device]) -> Iterator[str]:
    for device in devices:
        if isinstance(device, Personality):
            claimed = device.namespace
            if claimed and claimed.claim is not device:
                yield f"{device.name} claims {claimed.name}, which does not know"
            if device.driver and claimed is None:
                yield f"{device.name} is bound without a namespace"
        elif isinstance(device, NamespaceDevice) and device.claim:
            if device.claim.namespace is not device:  # type: ignore[attr-defined]
                yield f"{device.name} is held by {device.claim.name}, which does not claim it"
            if device.claim.driver and device.driver:
                yield f"{device.name} and its claim are both bound"


def _space_problems(devices: list[Device]) -> Iterator[str]:
    for device in devices:
        if isinstance(device, DimmDevice) and device.data:
            extents = list(device.data.dpa)
            for first, second in pairwise(extents):
                if first.end >= second.start:
                    yield f"{device.name}: {first} and {second} share a byte"
        elif isinstance(device, RegionDevice):
            namespaces = [child for child in device.children if isinstance(child, NamespaceDevice)]
            total = sum(namespace.size for namespace in namespaces)
            if total > device.size and not any(map(_has_extents_elsewhere, namespaces)):
                yield f"{device.name} has {device.size} bytes and namespaces of {total}"
            for namespace in namespaces:
                if namespace.driver and not device.start <= namespace.start <= namespace.end <= device.end:
                    yield f"{namespace.name} is not inside {device.name}"


def _has_extents_elsewhere(namespace: NamespaceDevice) -> bool:
    """Whether an unbound region has left extents of the same uuid on a DIMM: the kernel finds extents by uuid."""
    if not isinstance(namespace, NamespacePmem) or namespace.uuid is None:
        return False
    for mapping in namespace.region.mappings:
        window, data = namespace.region.window(mapping), mapping.dimm.data
        extents = data.dpa.named(label_id(namespace.uuid)) if data else []
        if any(extent.start < window.start or extent.end > window.end for extent in extents):
            return True
    return False


def _number_problems(machine: Machine) -> Iterator[str]:
    system = machine.system
    linked = {f"{kind} {name}" for kind, folder in system.numbers.items() for name in folder.children}
    known = {f"{number.kind} {number}" for number in system.numbered}
    yield from (f"the number {number} is linked or known, not both" for number in linked ^ known)
    nodes = {node.name for node in system.dev if isinstance(node, BinaryFile)}
    disks = {device.name for number, device in system.numbered.items() if number.kind == "block"}
    yield from (f"/dev/{name} has no disk" for name in disks - nodes)


def _resource_problems(resource: Resource) -> Iterator[str]:
    for child in resource.children:
        if child.parent is not resource or not resource.start <= child.start <= child.end <= resource.end:
            yield f"{child} is not inside {resource}"
        yield from _resource_problems(child)
    for first, second in pairwise(resource.children):
        if first.end >= second.start:
            yield f"{first} and {second} overlap"


def _tree_problems(directory: Directory, orphans: tuple[str, ...]) -> Iterator[str]:
    for node in list(directory):
        if node.parent is not directory:
            yield f"{node.path} does not know its parent"
        if isinstance(node, Directory):
            yield from _tree_problems(node, orphans)
        elif isinstance(node, Symlink):
            if node.target.parent is None and not node.target.path.startswith(orphans):
                yield f"{node.path} leads nowhere: {node.text}"
        elif isinstance(node, Attribute) and node.mode & 0o444:
            try:
                if not isinstance(node.show(), bytes):
                    yield f"{node.path} does not hold bytes"
            except KernelError:
                pass
    if directory.subdirectories != sum(isinstance(node, Directory) for node in directory):
        yield f"{directory.path} miscounts its directories"
