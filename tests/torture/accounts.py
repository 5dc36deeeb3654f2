"""Accounts that must balance on any machine: of claims and holders, bytes of namespaces, RAM, and removals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import attrs

from nvdimmfs.core.device import Device
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Attribute, Directory, Node, Symlink
from nvdimmfs.machine.machine import Machine
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.sparse import Memmap, Place
from nvdimmfs.nd.claim import Personality
from nvdimmfs.nd.dimm import DimmDevice
from nvdimmfs.nd.namespace import NamespaceDevice
from nvdimmfs.units import PAGE_SHIFT


def holder_problems(machine: Machine) -> Iterator[str]:
    """What /sys shows of holders is what claims; a claim has a holder that is on the bus."""
    members = machine.nd_bus.members if machine.nd_bus else {}
    claimed = {device.namespace.name: name for name, device in members.items() if _claims(device)}
    for name, device in members.items():
        if not isinstance(device, NamespaceDevice) or not device.registered:
            continue
        holder = _shown(device, "holder")
        if holder is not None and holder != claimed.get(name, ""):
            yield f"{name} shows the holder {holder!r}, and {claimed.get(name)} claims it"
        if device.claim and members.get(device.claim.name) is not device.claim:
            yield f"{name} is held by {device.claim.name}, which is not on the bus"


def _claims(device: Device) -> bool:
    return isinstance(device, Personality) and device.namespace is not None


def _shown(device: Device, name: str) -> str | None:
    """What a read of an attribute of a device gives, without its newline; None when it refuses, or is not there."""
    if device.directory.is_detached:
        return None
    node = device.directory.get(name)
    try:
        return node.show().decode("latin-1").rstrip("\n") if isinstance(node, Attribute) else None
    except KernelError:
        return None


def byte_problems(machine: Machine) -> Iterator[str]:
    """No byte belongs to two namespaces: neither on a DIMM, nor in memory, nor by the labels on the media."""
    members = machine.nd_bus.members.values() if machine.nd_bus else ()
    bound = [each for each in members if isinstance(each, NamespaceDevice) and each.driver]
    bound += [each.namespace for each in members if isinstance(each, Personality) and each.driver and each.namespace]
    yield from _overlaps("memory", ((each.start, each.start + each.size, each.name) for each in bound if each.size))
    for dimm in members:
        if isinstance(dimm, DimmDevice) and dimm.data and dimm.data.labels:
            labels = [label for label in dimm.data.labels.active() if label.rawsize]
            extents = ((label.dpa, label.dpa + label.rawsize, str(label.uuid)) for label in labels)
            yield from _overlaps(f"the labels of {dimm.name}", extents)


def _overlaps(where: str, ranges: Iterable[tuple[int, int, str]]) -> Iterator[str]:
    for (_, end, one), (start, _, other) in pairwise(sorted(ranges)):
        if start < end and one != other:
            yield f"{one} and {other} share bytes in {where}"


@attrs.frozen
class RamAccount:
    """The RAM of a machine: what is free and what is used stay the same in sum.

    Attributes:
        total: bytes, after the boot.
    """

    total: int

    @classmethod
    def of(cls, memory: Memory) -> RamAccount:
        return cls(_ram(memory))

    def problems(self, memory: Memory) -> Iterator[str]:
        if (now := _ram(memory)) != self.total:
            yield f"{self.total - now} bytes of RAM are missing"


def _ram(memory: Memory) -> int:
    """Bytes of RAM that are free, or are used for what came after the boot.

    That is struct pages of devices, of RAM that was added, and of what failed half way; huge pages, pages that failed,
    and frames that went offline.  RAM that was added is not counted: no struct pages are in it.
    """
    memmaps = [memmap for pagemap in memory.pagemaps for memmap in pagemap.memmaps]
    memmaps += [*memory.hot_memmaps.values(), Memmap(tuple(memory.sparse.left))]
    used = sum(
        piece.size for memmap in memmaps for run in memmap.runs if run.place is Place.RAM for piece in run.pieces
    )
    frames = 0
    for ram in memory.node_ram.values():
        for first, end in ram:
            frames += sum(high - low for low, high in memory._huge.within(first, end))
            frames += sum(high - low for low, high in memory._taken_off.within(first, end))
            frames += sum(high - low for low, high in memory.ram.gaps(first, end))
    return memory.ram_free + used + (frames << PAGE_SHIFT)


@attrs.frozen
class Removal:
    """What was below a device before it was unbound.

    Attributes:
        device: the device.
        nodes: the nodes below its directory, and its own.
        children: the devices below it.
    """

    device: Device
    nodes: tuple[Node, ...]
    children: tuple[Device, ...]

    @classmethod
    def before(cls, device: Device) -> Removal:
        return cls(device, tuple(_below(device.directory)), tuple(_descendants(device)))

    def problems(self, machine: Machine) -> Iterator[str]:
        """What is gone cannot be reached: neither by name, number, link or file, nor from a bus, driver or resource."""
        gone = [child for child in self.children if not child.registered]
        for node in self.nodes:
            if isinstance(node, Attribute) and node.parent is None:
                yield from _answers(node)
        buses = [bus for bus in (machine.nd_bus, machine.persistent_memory.platform_bus) if bus]
        for device in gone:
            if any(member is device for bus in buses for member in bus.members.values()):
                yield f"{device.name} is gone, and still on a bus"
            if device in machine.system.numbered.values():
                yield f"{device.name} is gone, and still has a number"
            if device.driver is not None:
                yield f"{device.name} is gone, and still bound to {device.driver.name}"
            yield from _resources_of(machine, device.name)
        lost = {id(node) for node in self.nodes if node.parent is None and node.name}
        yield from (f"{link.path} leads to what is gone" for link in _links(machine) if id(link.target) in lost)


def _answers(node: Attribute[object]) -> Iterator[str]:
    """ENODEV is the only answer of a file whose device is gone."""
    try:
        node.show()
    except KernelError as refusal:
        if refusal.code == "ENODEV":
            return
    yield f"{node.name} of a device that is gone answers"


def _below(directory: Directory) -> Iterator[Node]:
    yield directory
    for node in directory:
        if isinstance(node, Directory):
            yield from _below(node)
        else:
            yield node


def _descendants(device: Device) -> Iterator[Device]:
    for child in device.children:
        yield child
        yield from _descendants(child)


def _resources_of(machine: Machine, name: str) -> Iterator[str]:
    pending = list(machine.memory.iomem.children)
    while pending:
        resource = pending.pop()
        pending += resource.children
        if resource.name == name:
            yield f"{name} is gone, and still has {resource}"


def _links(machine: Machine) -> Iterator[Symlink]:
    return (node for node in _below(machine.system.sys) if isinstance(node, Symlink))
