"""The drawing of a machine file."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from nvdimmfs.cli.drawing.bars import Bar, Segment
from nvdimmfs.cli.drawing.model import (
    RAM,
    Bus,
    Entry,
    EntryKind,
    MachineDrawing,
    Module,
    Way,
    marked_entry,
    pieces_of,
    with_ram,
)
from nvdimmfs.core.clock import ClockMode
from nvdimmfs.formats.label import LABEL_SIZES_BY_VERSION
from nvdimmfs.machine_file.model import (
    DimmDescription,
    LabelAreaDescription,
    MachineDescription,
    NamespaceDescription,
    RangeDescription,
)
from nvdimmfs.machine_file.ram import installed_ram
from nvdimmfs.machine_file.words import PersistenceDomain, PersonalityKind, SecurityState
from nvdimmfs.mm.e820 import E820Entry, E820Type
from nvdimmfs.mm.pc_memory_map import Ram, installed_memory, user_table

#: The provider of the bus of what memmap= marks; its module is loaded before those of the firmware's buses.
LEGACY_PROVIDER = "e820"


def drawing_of(machine: MachineDescription) -> MachineDrawing:
    """The drawing of a completed machine.  Devices have the numbers that the kernel gives them at boot."""
    machine = attrs.evolve(machine, buses=tuple(bus for bus in machine.buses if bus.has_table))
    numbered = _Numbered(machine)
    ram = [(entry.start, entry.end) for entry in numbered.table if entry.type == E820Type.RAM]
    entries = with_ram(ram, [*_marked(numbered), *_regions(numbered)])
    dimms = [
        _dimm(dimm, numbered.bus_name(index), numbered.dimm_names[index, dimm.name], entries)
        for index, bus in enumerate(machine.buses)
        for dimm in bus.dimms_by_handle
    ]
    return MachineDrawing(
        title=machine.name,
        description=machine.description,
        buses=tuple(_buses(numbered)),
        modules=(_ram(machine, entries), *dimms),
        entries=entries,
        notes=() if machine.clock is ClockMode.REAL else (f"clock {machine.clock.value}",),
    )


class _Numbered:
    """A machine with what the kernel calls its devices: it counts on from bus to bus.

    Attributes:
        machine: the machine.
        table: its memory map, with what memmap= marks.
        legacy: how many ranges of that are persistent memory; their bus comes first.
        dimm_names: nmemN, by bus and name in the file.
    """

    def __init__(self, machine: MachineDescription) -> None:
        self.machine = machine
        self.table = user_table(machine.memmap, installed_ram(machine)).entries
        self.legacy = sum(entry.type == E820Type.PRAM for entry in self.table)
        dimms = [(index, dimm.name) for index, bus in enumerate(machine.buses) for dimm in bus.dimms_by_handle]
        self.dimm_names = {key: f"nmem{number}" for number, key in enumerate(dimms)}

    def bus_name(self, index: int) -> str:
        """Of a bus of the file."""
        return f"ndbus{index + bool(self.legacy)}"


def _buses(numbered: _Numbered) -> Iterator[Bus]:
    if numbered.legacy:
        yield Bus("ndbus0", LEGACY_PROVIDER)
    for index, bus in enumerate(numbered.machine.buses):
        notes = [f"commands {' '.join(command.word for command in bus.commands) or 'none'}"]
        if bus.persistence_domain is not PersistenceDomain.NONE:
            notes.append(f"persistent: {bus.persistence_domain.value}")
        yield Bus(numbered.bus_name(index), bus.provider, (f"below {bus.parent}", *notes))


def _ram(machine: MachineDescription, entries: tuple[Entry, ...]) -> Module:
    size = max(machine.ram, sum(way.size for entry in entries for way in entry.ways if way.module == RAM))
    notes = (f"memmap={machine.memmap}",) if machine.memmap else ()
    return Module(RAM, "", "", size, pieces_of(RAM, size, entries), notes=notes)


def _dimm(dimm: DimmDescription, bus: str, name: str, entries: tuple[Entry, ...]) -> Module:
    notes = [flag.value for flag in dimm.flags]
    if dimm.security is not SecurityState.NONE:
        notes.append(f"security {dimm.security.value}{', frozen' if dimm.frozen else ''}")
    notes += ["locked"] if dimm.locked else []
    notes += [] if dimm.control_region else ["no control region"]
    labels = sum(len(entry.bars) for entry in entries for way in entry.ways if way.module == name)
    return Module(
        name,
        dimm.name,
        bus,
        dimm.size,
        pieces_of(name, dimm.size, entries),
        dimm.label.size,
        _labels(dimm.label),
        _labels_used(dimm.label, labels),
        tuple(notes),
    )


def _labels_used(label: LabelAreaDescription, labels: int) -> float:
    """The share of the slots that hold labels when the machine is new."""
    return labels * LABEL_SIZES_BY_VERSION[label.initialised] / label.size if label.initialised and label.size else 0.0


def _labels(label: LabelAreaDescription) -> str:
    contents = {f"v{label.initialised}": label.initialised, "text": label.text, "hex": label.hex, "file": label.file}
    return next((name for name, value in contents.items() if value), "zeros") if label.size else "none"


def _regions(numbered: _Numbered) -> Iterator[Entry]:
    number = numbered.legacy
    for index, bus in enumerate(numbered.machine.buses):
        for range_ in bus.ranges:
            yield _region(numbered, index, range_, number)
            number += 1


def _region(numbered: _Numbered, bus: int, range_: RangeDescription, number: int) -> Entry:
    name = f"region{number}"
    mappings = sorted(range_.mappings, key=lambda mapping: mapping.position)
    index = (f"index {range_.range_index}",) if numbered.machine.buses[bus].has_nfit else ()
    notes = [range_.kind.value, *index, f"node {range_.numa_node}"]
    notes += ["read-only"] if numbered.machine.buses[bus].is_read_only(range_) else []
    return Entry(
        name,
        range_.start,
        range_.size,
        EntryKind.PERSISTENT,
        numbered.bus_name(bus),
        tuple(Way(numbered.dimm_names[bus, each.dimm], each.dpa, each.size) for each in mappings),
        (*notes, *_personalities(numbered.machine, number)),
        tuple(_bars(name, range_)),
    )


def _personalities(machine: MachineDescription, region: int) -> Iterator[str]:
    """What claims the namespaces of a region from the beginning."""
    for personality in machine.personalities:
        if not personality.namespace.startswith(f"namespace{region}."):
            continue
        if personality.kind is PersonalityKind.BTT:
            yield f"{personality.namespace}: btt, sectors of {personality.sector_size} bytes"
        else:
            yield f"{personality.namespace}: {personality.kind.value}, memmap in {personality.memmap.value}"


def _bars(region: str, range_: RangeDescription) -> Iterator[Bar]:
    """The namespaces that labels define, and what they leave."""
    position = range_.start
    namespaces = sorted(range_.namespaces, key=lambda namespace: namespace.start)
    for namespace in namespaces:
        if position < namespace.start:
            yield _free(region, position, namespace.start)
        yield _namespace(region, namespace)
        position = namespace.start + namespace.size
    if namespaces and position < range_.end:
        yield _free(region, position, range_.end)


def _free(region: str, start: int, end: int) -> Bar:
    return Bar(region, ("no namespace",), start, end - start, (Segment("free", "no namespace", start, end - start),))


def _namespace(region: str, namespace: NamespaceDescription) -> Bar:
    segment = Segment("idle", "namespace", namespace.start, namespace.size)
    name = f'"{namespace.alt_name}"' if namespace.alt_name else namespace.uuid
    notes = (namespace.uuid,) if namespace.alt_name else ()
    return Bar(f"{name} in {region}", notes, namespace.start, namespace.size, (segment,))


def _marked(numbered: _Numbered) -> Iterator[Entry]:
    """What memmap= makes of the machine's memory."""
    number = 0
    for entry in numbered.table:
        absent = _without_memory(entry, installed_ram(numbered.machine))
        if entry.type == E820Type.PRAM:
            notes = ("marked by memmap=", *_personalities(numbered.machine, number))
            yield marked_entry(f"region{number}", entry.start, entry.size, "ndbus0", notes, absent)
            number += 1
        elif entry.type == E820Type.SOFT_RESERVED:
            drawn = marked_entry("soft reserved", entry.start, entry.size, "", ("for the dax bus",), absent)
            yield attrs.evolve(drawn, kind=EntryKind.SOFT_RESERVED)


def _without_memory(entry: E820Entry, ram: Ram) -> int:
    """Bytes of a range at which the machine has no memory."""
    parts = [(max(span.start, entry.start), min(span.end, entry.end)) for span in installed_memory(ram)]
    return entry.size - sum(end - first for first, end in parts if first < end)
