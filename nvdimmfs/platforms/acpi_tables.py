"""The ACPI tables by which a machine's firmware describes its memory.

As QEMU's firmware writes them: of each DIMM its ranges, its parts of them, and its control region.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from nvdimmfs.formats import acpi
from nvdimmfs.formats.hmat import hmat
from nvdimmfs.machine_file.model import (
    AcpiTableDescription,
    BusDescription,
    DimmDescription,
    MachineDescription,
    MappingDescription,
    RangeDescription,
)
from nvdimmfs.machine_file.node_access import values_of
from nvdimmfs.machine_file.ram import installed_ram
from nvdimmfs.machine_file.words import DimmFlag, PersistenceDomain, RangeKind
from nvdimmfs.mm.nodes import FIRST_NODE
from nvdimmfs.mm.pc_memory_map import installed_memory
from nvdimmfs.platforms.acpi_table_names import buses_with_table, table_names
from nvdimmfs.units import MIB, PAGE_SIZE

#: The state flags of a DIMM, by the words of its `flags` (include/acpi/actbl2.h, Linux 6.1).
_STATE_FLAGS = {
    DimmFlag.SAVE_FAIL: 1 << 0,
    DimmFlag.RESTORE_FAIL: 1 << 1,
    DimmFlag.FLUSH_FAIL: 1 << 2,
    DimmFlag.NOT_ARMED: 1 << 3,
    DimmFlag.SMART_EVENT: 1 << 4,
    DimmFlag.SMART_NOTIFY: 1 << 5,
    DimmFlag.MAP_FAIL: 1 << 6,
}

_KINDS = {
    RangeKind.PMEM: acpi.RangeType.PMEM,
    RangeKind.VOLATILE: acpi.RangeType.VOLATILE,
    RangeKind.VOLATILE_DISK: acpi.RangeType.VOLATILE_DISK,
    RangeKind.VOLATILE_CD: acpi.RangeType.VOLATILE_CD,
    RangeKind.PERSISTENT_DISK: acpi.RangeType.PERSISTENT_DISK,
    RangeKind.PERSISTENT_CD: acpi.RangeType.PERSISTENT_CD,
}

#: The end of the RAM below the BIOS, as QEMU's SRAT has it.
_LOWEST_RAM_END = 0xA0000

#: Where the flush hint addresses of the first DIMM are, below those of the chipset, and the bytes that each has.
_FLUSH_HINTS = 0xFEB00000
_FLUSH_HINT_SIZE = 64


def tables_of(machine: MachineDescription) -> dict[str, bytes]:
    """The tables of a completed machine, by the names of their files.

    A machine without an NFIT and with one node has none but those that its file gives.
    """
    names = iter(table_names(machine))
    tables = {next(names): acpi.nfit(_nfit(bus), bus.revision) for bus in buses_with_table(machine)}
    make: dict[str, Callable[[], bytes]] = {
        "SRAT": lambda: acpi.srat(_affinities(machine)),
        "SLIT": lambda: acpi.slit(machine.distances),
        "HMAT": lambda: hmat(FIRST_NODE, values_of(machine)),
    }
    make |= {each.signature: functools.partial(_given, each) for each in machine.acpi_tables}
    return tables | {name: make[name]() for name in names}


def memory_of_nodes(machine: MachineDescription) -> list[acpi.MemoryAffinity]:
    """The memory in the SRAT, node by node and by address, as the kernel keeps it for an HMAT (alloc_memory_target)."""
    found = [entry for entry in _affinities(machine) if isinstance(entry, acpi.MemoryAffinity)]
    order = list(dict.fromkeys(entry.domain for entry in found))
    return sorted(found, key=lambda entry: (order.index(entry.domain), entry.start))


def _given(given: AcpiTableDescription) -> bytes:
    """A table that the machine file gives."""
    return acpi.table(given.signature, bytes.fromhex(given.body), given.revision)


_Part = tuple[int, RangeDescription, MappingDescription]


def _nfit(bus: BusDescription) -> Iterator[acpi.NfitEntry]:
    parts: dict[str, list[_Part]] = {}
    for index, range_ in enumerate(bus.ranges):
        for mapping in range_.mappings:
            parts.setdefault(mapping.dimm, []).append((index, range_, mapping))
    described: set[int] = set()
    for number, dimm in enumerate(bus.dimms_by_handle, 1):
        control_region = 2 * number + 1 if dimm.control_region else 0
        own = parts.get(dimm.name, [])
        yield from (_range(range_) for index, range_, _ in own if index not in described)
        described.update(index for index, *_ in own)
        yield from _devices(dimm, own, control_region)
        if control_region:
            yield _control_region(dimm, control_region)
        if dimm.flush_hints:
            first = _FLUSH_HINTS + (number - 1) * PAGE_SIZE
            addresses = tuple(first + hint * _FLUSH_HINT_SIZE for hint in range(dimm.flush_hints))
            yield acpi.FlushHints(dimm.handle, addresses)
    yield from (_range(range_) for index, range_ in enumerate(bus.ranges) if index not in described)
    for ways in sorted({len(range_.mappings) for range_ in bus.ranges} - {0, 1}):
        for position in range(ways):
            yield acpi.Interleave(_interleave_index(ways, position), PAGE_SIZE, (position,))
    if bus.persistence_domain is not PersistenceDomain.NONE:
        yield _capabilities(bus.persistence_domain)


def _range(range_: RangeDescription) -> acpi.SystemPhysicalRange:
    node = max(range_.target_node, range_.numa_node)
    attributes = acpi.WRITE_BACK if range_.kind.is_volatile else acpi.WRITE_BACK | acpi.NON_VOLATILE
    return acpi.SystemPhysicalRange(
        range_.range_index,
        acpi.RANGE_FOR_HOT_ADD | (acpi.RANGE_HAS_DOMAIN if node >= 0 else 0),
        max(node, 0),
        _KINDS[range_.kind].value.bytes_le,
        range_.start,
        range_.size,
        attributes,
    )


def _interleave_index(ways: int, position: int) -> int:
    """The number of the interleave structure of a position; those of fewer ways come first."""
    return ways * (ways - 1) // 2 + position


def _devices(dimm: DimmDescription, parts: list[_Part], control_region: int) -> Iterator[acpi.MemoryDevice]:
    """The parts of a DIMM that are in ranges; one without a range for a DIMM that is in none."""
    state = sum(_STATE_FLAGS[flag] for flag in dimm.flags)
    for region_id, (_, range_, mapping) in enumerate(parts):
        ways = len(range_.mappings)
        yield acpi.MemoryDevice(
            dimm.handle,
            dimm.phys_id,
            region_id,
            range_.range_index,
            control_region,
            mapping.size,
            mapping.region_offset,
            mapping.dpa,
            _interleave_index(ways, mapping.position) if ways > 1 else 0,
            ways,
            state,
        )
    if not parts:
        yield acpi.MemoryDevice(dimm.handle, dimm.phys_id, 0, 0, control_region, dimm.size, 0, 0, 0, 1, state)


def _control_region(dimm: DimmDescription, index: int) -> acpi.ControlRegion:
    return acpi.ControlRegion(
        index,
        dimm.vendor.to_bytes(2, "big"),
        dimm.device.to_bytes(2, "big"),
        dimm.rev_id.to_bytes(2, "big"),
        dimm.subsystem_vendor.to_bytes(2, "big"),
        dimm.subsystem_device.to_bytes(2, "big"),
        dimm.subsystem_rev_id.to_bytes(2, "big"),
        int(dimm.has_manufacturing),
        max(dimm.manufacturing_location, 0),
        max(dimm.manufacturing_date, 0).to_bytes(2, "big"),
        dimm.serial.to_bytes(4, "big"),
        dimm.format,
    )


def _capabilities(domain: PersistenceDomain) -> acpi.PlatformCapabilities:
    capabilities = acpi.FLUSHES_MEMORY_CONTROLLER
    if domain is PersistenceDomain.CPU_CACHE:
        capabilities |= acpi.FLUSHES_CPU_CACHE
    return acpi.PlatformCapabilities(1, capabilities)


def _affinities(machine: MachineDescription) -> Iterator[acpi.Affinity]:
    yield acpi.ProcessorAffinity(FIRST_NODE, 0)
    for span in installed_memory(installed_ram(machine)):
        parts = [(span.start, span.end)] if span.start else [(0, _LOWEST_RAM_END), (MIB, span.end)]
        for start, end in parts:
            yield acpi.MemoryAffinity(span.nid, start, end - start, acpi.MEMORY_ENABLED)
    ranges = (range_ for bus in buses_with_table(machine) for range_ in bus.ranges)
    for range_ in sorted(ranges, key=lambda range_: range_.start):
        node = max(range_.target_node, range_.numa_node)
        if node >= 0 and range_.kind is RangeKind.PMEM:
            flags = acpi.MEMORY_ENABLED | acpi.MEMORY_NON_VOLATILE
            yield acpi.MemoryAffinity(node, range_.start, range_.size, flags)
