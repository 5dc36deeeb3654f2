"""Defaults of a machine file that depend on the rest of the machine."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import attrs

from nvdimmfs.machine_file.interleave import swapped
from nvdimmfs.machine_file.model import (
    ACPI_PARENT,
    ACPI_PROVIDER,
    FIRST_PCI_SLOT,
    PCI_FOLDER,
    PLATFORM_FOLDER,
    BusDescription,
    DimmDescription,
    MachineDescription,
    MappingDescription,
    NamespaceDescription,
    RangeDescription,
)
from nvdimmfs.machine_file.ram import completed_ram, installed_ram, placed_around
from nvdimmfs.machine_file.values import NODE_TO_BE_CHOSEN, TO_BE_CHOSEN
from nvdimmfs.machine_file.words import BusPlatform
from nvdimmfs.mm.e820 import E820Entry, E820Type
from nvdimmfs.mm.nodes import FIRST_NODE, NUMA_NO_NODE
from nvdimmfs.mm.pc_memory_map import Ram, installed_memory, user_table
from nvdimmfs.units import GIB, PAGE_SIZE, align_up

#: Lowest default start of a range; device memory is below it.
_LOWEST_START = 4 * GIB

#: Serial number of QEMU's first NVDIMM (hw/mem/nvdimm.c, QEMU 7.2), whose handle is 1.
_FIRST_SERIAL = 0x123456

#: Bytes of an interleave line, the consecutive bytes of a set that are on one DIMM.
_LINE_SIZE = PAGE_SIZE


def completed(machine: MachineDescription) -> MachineDescription:
    """Return the machine with all omitted values filled in.

    A value that cannot be determined stays `TO_BE_CHOSEN`, which `checks.problems` reports.
    """
    machine = _with_ram(machine)
    if machine.node_accesses:
        from nvdimmfs.machine_file.node_access import completed_access  # which few machines have

        machine = attrs.evolve(machine, node_accesses=tuple(map(completed_access, machine.node_accesses)))
    addresses = _Addresses(machine)
    virtio = itertools.count()
    return attrs.evolve(machine, buses=tuple(_named(_bus(bus, addresses), virtio) for bus in machine.buses))


def _with_ram(machine: MachineDescription) -> MachineDescription:
    """Return the machine with its RAM placed."""
    if not machine.ram_ranges:
        return machine
    parts = tuple(completed_ram(machine.ram_ranges, _given_ranges(machine)))
    ram = sum(part.size for part in parts) if machine.ram == TO_BE_CHOSEN else machine.ram
    return attrs.evolve(machine, ram=ram, ram_ranges=parts)


def _given_ranges(machine: MachineDescription) -> tuple[RangeDescription, ...]:
    """The ranges whose start is given, with their sizes filled in."""
    given = tuple(range_ for range_ in machine.ranges if range_.start != TO_BE_CHOSEN)
    if all(range_.size != TO_BE_CHOSEN for range_ in given):
        return given
    anywhere = _Addresses(MachineDescription())
    sized = attrs.evolve(machine, buses=tuple(_bus(bus, anywhere) for bus in machine.buses)).ranges
    return tuple(after for before, after in zip(machine.ranges, sized, strict=True) if before.start != TO_BE_CHOSEN)


def abridged(machine: MachineDescription) -> MachineDescription:
    """Return a completed machine without values that `completed` would choose, except those useful to a reader."""
    whole = completed(machine)
    for change in (
        _without_parents,
        _without_names,
        _without_functions,
        _without_indexes,
        _without_offsets,
        _without_places,
    ):
        shorter = attrs.evolve(machine, buses=tuple(change(bus) for bus in machine.buses))
        if completed(shorter) == whole:
            machine = shorter
    if not machine.node_accesses:
        return machine
    from nvdimmfs.machine_file.node_access import abridged_access

    return attrs.evolve(machine, node_accesses=tuple(map(abridged_access, machine.node_accesses)))


def _without_parents(bus: BusDescription) -> BusDescription:
    ranges = tuple(map(_without_nodes, bus.ranges))
    if bus.has_nfit:
        return attrs.evolve(bus, parent="", ranges=ranges)
    usual = BusDescription()
    return attrs.evolve(bus, parent="", provider=usual.provider, commands=usual.commands, ranges=ranges)


def _without_nodes(range_: RangeDescription) -> RangeDescription:
    """Omit the nodes of a range if they are the usual ones, which `abridged` checks."""
    usual = {range_.numa_node, range_.target_node} <= {FIRST_NODE, NUMA_NO_NODE}
    return attrs.evolve(range_, numa_node=NODE_TO_BE_CHOSEN, target_node=NODE_TO_BE_CHOSEN) if usual else range_


def _without_names(bus: BusDescription) -> BusDescription:
    return attrs.evolve(bus, dimms=tuple(attrs.evolve(dimm, name="") for dimm in bus.dimms))


def _without_functions(bus: BusDescription) -> BusDescription:
    from nvdimmfs.machine_file.functions import without_functions

    return attrs.evolve(bus, dimms=tuple(map(without_functions, bus.dimms)))


def _without_indexes(bus: BusDescription) -> BusDescription:
    return attrs.evolve(bus, ranges=tuple(attrs.evolve(range_, range_index=TO_BE_CHOSEN) for range_ in bus.ranges))


def _without_offsets(bus: BusDescription) -> BusDescription:
    return _remapped(bus, lambda mapping: attrs.evolve(mapping, position=TO_BE_CHOSEN, region_offset=TO_BE_CHOSEN))


def _without_places(bus: BusDescription) -> BusDescription:
    return _remapped(bus, lambda mapping: attrs.evolve(mapping, dpa=TO_BE_CHOSEN, size=TO_BE_CHOSEN))


def _remapped(bus: BusDescription, change: Callable[[MappingDescription], MappingDescription]) -> BusDescription:
    ranges = (attrs.evolve(range_, mappings=tuple(map(change, range_.mappings))) for range_ in bus.ranges)
    return attrs.evolve(bus, ranges=tuple(ranges))


class _Addresses:
    """An allocator of physical addresses, in ascending order."""

    def __init__(self, machine: MachineDescription) -> None:
        taken = [
            _LOWEST_START,
            *(span.end for span in installed_memory(ram_before_addresses(machine))),
            *(entry.end for entry in legacy_entries(machine)),
        ]
        self._next = max(taken)

    def choose(self) -> int:
        """The next multiple of 1 GiB."""
        return align_up(self._next, GIB)

    def take(self, end: int) -> None:
        """Mark all addresses below `end` as used."""
        self._next = max(self._next, end)


def ram_before_addresses(machine: MachineDescription) -> Ram:
    """Where the RAM is, which is known before default addresses of ranges are chosen."""
    if machine.ram_ranges:
        return installed_ram(_with_ram(machine))
    return placed_around(machine.ram, _given_ranges(machine))


def legacy_entries(machine: MachineDescription) -> Iterator[E820Entry]:
    """Yield the persistent memory of memmap=; nothing if that is invalid."""
    if not machine.memmap:
        return
    try:
        table = user_table(machine.memmap, ram_before_addresses(machine))
    except ValueError:
        return
    for entry in table.entries:
        if entry.type == E820Type.PRAM:
            yield entry


def _bus(bus: BusDescription, addresses: _Addresses) -> BusDescription:
    dimms = tuple(_identified(bus.dimms))
    ranges = tuple(_on_nodes(range_, bus.platform) for range_ in _ranges(bus.ranges, dimms, addresses))
    return attrs.evolve(
        bus,
        dimms=_with_functions(bus, tuple(_sized(dimm, ranges) for dimm in dimms)),
        ranges=ranges,
    )


def _with_functions(bus: BusDescription, dimms: tuple[DimmDescription, ...]) -> tuple[DimmDescription, ...]:
    """Set the default functions and commands of the DIMMs of a bus."""
    if all(dimm.dsm_mask != TO_BE_CHOSEN for dimm in dimms):
        return dimms
    from nvdimmfs.machine_file.functions import with_functions  # which a machine without DIMMs has no need of

    return tuple(with_functions(bus, dimm) for dimm in dimms)


def _named(bus: BusDescription, virtio: Iterator[int]) -> BusDescription:
    """Set the provider, parent and commands of a bus whose ranges have addresses.  `virtio`: counts virtio devices."""
    provider, commands = bus.provider, bus.commands
    if not bus.has_nfit:
        commands = () if commands == BusDescription().commands else commands
        if provider == ACPI_PROVIDER:
            named_by_address = bus.platform is BusPlatform.DEVICE_TREE and bus.ranges
            provider = f"{bus.ranges[0].start:x}.pmem" if named_by_address else bus.platform.value
    parent = bus.parent or _default_parent(bus.platform, provider, virtio)
    return attrs.evolve(bus, provider=provider, parent=parent, commands=commands)


def _default_parent(platform: BusPlatform, provider: str, virtio: Iterator[int]) -> str:
    if platform is BusPlatform.VIRTIO_PMEM:
        number = next(virtio)
        return f"{PCI_FOLDER}/0000:00:{FIRST_PCI_SLOT + number:02x}.0/virtio{number}"
    return ACPI_PARENT if provider == ACPI_PROVIDER else f"{PLATFORM_FOLDER}/{provider}"


def _on_nodes(range_: RangeDescription, platform: BusPlatform) -> RangeDescription:
    """Set the default NUMA nodes of a range.  Those of a device tree are the same node."""
    node, target = range_.numa_node, range_.target_node
    if node == NODE_TO_BE_CHOSEN:
        node = FIRST_NODE if platform is BusPlatform.NFIT else NUMA_NO_NODE
    if target == NODE_TO_BE_CHOSEN:
        target = FIRST_NODE if platform is BusPlatform.VIRTIO_PMEM else node
    return attrs.evolve(range_, numa_node=node, target_node=target)


def _identified(dimms: Iterable[DimmDescription]) -> Iterator[DimmDescription]:
    handle = 0
    for dimm in dimms:
        handle = handle + 1 if dimm.handle == TO_BE_CHOSEN else dimm.handle
        serial = dimm.serial
        if serial == TO_BE_CHOSEN:
            serial = swapped((_FIRST_SERIAL + handle - 1) % (1 << 32), 4)
        yield attrs.evolve(dimm, handle=handle, name=dimm.name or f"{handle:#x}", serial=serial)


def _sized(dimm: DimmDescription, ranges: Iterable[RangeDescription]) -> DimmDescription:
    """Set the default size of a DIMM: the end of the last mapping in it."""
    if dimm.size != TO_BE_CHOSEN:
        return dimm
    mappings = (mapping for range_ in ranges for mapping in range_.mappings if mapping.dimm == dimm.name)
    return attrs.evolve(dimm, size=max((mapping.dpa + mapping.size for mapping in mappings), default=0))


def _ranges(
    ranges: Iterable[RangeDescription], dimms: tuple[DimmDescription, ...], addresses: _Addresses
) -> Iterator[RangeDescription]:
    used: dict[str, int] = {}
    capacity = {dimm.name: dimm.size for dimm in dimms}
    index = 0
    for range_ in ranges:
        mappings = _placed(_sized_mappings(range_, used, capacity))
        for mapping in mappings:
            used[mapping.dimm] = max(used.get(mapping.dimm, 0), mapping.dpa + mapping.size)
        start = addresses.choose() if range_.start == TO_BE_CHOSEN else range_.start
        size = _total(mappings) if range_.size == TO_BE_CHOSEN else range_.size
        addresses.take(start + size)
        chosen = 0 if range_.kind.is_virtual else index + 1
        range_index = chosen if range_.range_index == TO_BE_CHOSEN else range_.range_index
        index = max(index, range_index)
        yield attrs.evolve(
            range_,
            start=start,
            size=size,
            range_index=range_index,
            mappings=mappings,
            namespaces=tuple(_placed_namespaces(range_.namespaces, start)),
        )


def _total(mappings: tuple[MappingDescription, ...]) -> int:
    """The default size of a range: the sum of its mappings."""
    if not mappings or any(mapping.size == TO_BE_CHOSEN for mapping in mappings):
        return TO_BE_CHOSEN
    return sum(mapping.size for mapping in mappings)


def _sized_mappings(
    range_: RangeDescription, used: dict[str, int], capacity: dict[str, int]
) -> tuple[MappingDescription, ...]:
    """Return the mappings of a range with DPA and size filled in."""
    mappings = [
        attrs.evolve(mapping, dpa=used.get(mapping.dimm, 0)) if mapping.dpa == TO_BE_CHOSEN else mapping
        for mapping in range_.mappings
    ]
    share = _share(range_, mappings, capacity)
    return tuple(attrs.evolve(mapping, size=share) if mapping.size == TO_BE_CHOSEN else mapping for mapping in mappings)


def _share(range_: RangeDescription, mappings: list[MappingDescription], capacity: dict[str, int]) -> int:
    """The default size of a mapping of this range."""
    without = [mapping for mapping in mappings if mapping.size == TO_BE_CHOSEN]
    if not without:
        return TO_BE_CHOSEN
    if range_.size != TO_BE_CHOSEN:
        rest = range_.size - sum(mapping.size for mapping in mappings if mapping.size != TO_BE_CHOSEN)
        return max(rest, 0) // len(without)
    left = [capacity.get(mapping.dimm, TO_BE_CHOSEN) - mapping.dpa for mapping in without]
    return min(left) if min(left) > 0 else TO_BE_CHOSEN


def _placed(mappings: tuple[MappingDescription, ...]) -> tuple[MappingDescription, ...]:
    """Return the mappings with positions and region offsets filled in."""
    offsets = sorted(mapping.region_offset for mapping in mappings)
    positions = [
        offsets.index(mapping.region_offset) if TO_BE_CHOSEN not in offsets else order
        for order, mapping in enumerate(mappings)
    ]
    return tuple(_in_place(mapping, position) for mapping, position in zip(mappings, positions, strict=True))


def _in_place(mapping: MappingDescription, position: int) -> MappingDescription:
    position = position if mapping.position == TO_BE_CHOSEN else mapping.position
    offset = position * _LINE_SIZE if mapping.region_offset == TO_BE_CHOSEN else mapping.region_offset
    return attrs.evolve(mapping, position=position, region_offset=offset)


def _placed_namespaces(namespaces: Iterable[NamespaceDescription], start: int) -> Iterator[NamespaceDescription]:
    for namespace in namespaces:
        placed = namespace.placed(start) if namespace.start == TO_BE_CHOSEN else namespace
        start = max(start, placed.start + placed.size)
        yield placed
