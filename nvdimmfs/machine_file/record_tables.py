"""The recorder's part for what sysfs lacks and the ACPI tables have, which only root can read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import attrs

from nvdimmfs.formats import acpi
from nvdimmfs.formats.hmat import Values, ValueType, localities
from nvdimmfs.machine_file.model import (
    AcpiTableDescription,
    BusDescription,
    DimmDescription,
    MappingDescription,
    RangeDescription,
)
from nvdimmfs.machine_file.sysfs import AttributeReader

_TABLES = "firmware/acpi/tables"

#: Intel's platform configuration attributes, and the topology of memory (ACPI 6.4, section 5.2.21.13).
_OTHER_TABLES = ("PCAT", "PMTT")

#: The most flush hint addresses that are believed of a DIMM.
_MOST_HINTS = 1 << 10


def with_nfit(bus: BusDescription, reader: AttributeReader) -> BusDescription:
    """Add to a recorded bus the region offsets, flush hints and sizes of DIMMs of its NFIT, if there is one to read."""
    try:
        entries = list(acpi.nfit_entries(_table(reader, "NFIT")))
    except acpi.AcpiTableError:
        return bus
    devices = [entry for entry in entries if isinstance(entry, acpi.MemoryDevice)]
    hints = {entry.handle: len(entry.addresses) for entry in entries if isinstance(entry, acpi.FlushHints)}
    return attrs.evolve(
        bus,
        dimms=tuple(_dimm(dimm, devices, hints) for dimm in bus.dimms),
        ranges=tuple(_range(range_, bus, devices) for range_ in bus.ranges),
    )


def slit_distances(reader: AttributeReader) -> tuple[tuple[int, ...], ...]:
    """Return the distances of all nodes, online or not; empty without a table to read."""
    try:
        return acpi.slit_distances(_table(reader, "SLIT"))
    except acpi.AcpiTableError:
        return ()


def ram_of_nodes(reader: AttributeReader) -> list[acpi.MemoryAffinity]:
    """Return where RAM is and its nodes, without memory that can be plugged in; empty without a table to read."""
    try:
        entries = list(acpi.srat_entries(_table(reader, "SRAT")))
    except acpi.AcpiTableError:
        return []
    memory = [entry for entry in entries if isinstance(entry, acpi.MemoryAffinity)]
    return [entry for entry in memory if entry.flags == acpi.MEMORY_ENABLED and entry.length]


def access_of_nodes(reader: AttributeReader) -> Mapping[int, Values]:
    """Return how fast the memory of each node is from the processors nearest to it; empty without a table to read."""
    try:
        found = localities(_table(reader, "HMAT"))
    except acpi.AcpiTableError:
        return {}
    targets: dict[int, dict[ValueType, int]] = {}
    for each in found:
        best = targets.setdefault(each.target, {})
        for kind, value in each.values.items():
            choose = min if kind.is_latency else max
            best[kind] = choose(value, best.get(kind, value))
    return targets


def other_tables(reader: AttributeReader) -> Iterator[AcpiTableDescription]:
    """Yield the tables that vendors' programs for DIMMs read, and the kernel does not, as far as they can be read.

    Who made a table is not recorded: those of a machine name the maker of QEMU's firmware.
    """
    for signature in _OTHER_TABLES:
        data = _table(reader, signature)
        with contextlib.suppress(acpi.AcpiTableError):
            body = acpi.body_of(signature, data)
            yield AcpiTableDescription(signature, acpi.revision_of(data), body.hex())


def _table(reader: AttributeReader, name: str) -> bytes:
    try:
        return reader.sysfs.read(f"{_TABLES}/{name}")
    except OSError:
        return b""


def _dimm(dimm: DimmDescription, devices: list[acpi.MemoryDevice], hints: dict[int, int]) -> DimmDescription:
    own = [device for device in devices if device.handle == dimm.handle]
    size = max((device.dpa + device.length for device in own), default=0)
    return attrs.evolve(
        dimm,
        size=max(size, dimm.size) if size else dimm.size,
        flush_hints=min(hints.get(dimm.handle, 0), _MOST_HINTS),
    )


def _range(range_: RangeDescription, bus: BusDescription, devices: list[acpi.MemoryDevice]) -> RangeDescription:
    handles = {dimm.name: dimm.handle for dimm in bus.dimms}
    offsets = {
        (device.handle, device.dpa): device.region_offset
        for device in devices
        if device.range_index == range_.range_index
    }
    found = [offsets.get((handles.get(mapping.dimm, -1), mapping.dpa)) for mapping in range_.mappings]
    if any(offset is None for offset in found) or len(set(found)) < len(found):
        return range_
    return attrs.evolve(range_, mappings=tuple(map(_with_offset, range_.mappings, found)))


def _with_offset(mapping: MappingDescription, offset: int | None) -> MappingDescription:
    return mapping if offset is None else attrs.evolve(mapping, region_offset=offset)
