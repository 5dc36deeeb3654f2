"""The recorder's part for RAM: where it is and of which node, as the memory blocks in sysfs show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from nvdimmfs.formats.acpi import MemoryAffinity
from nvdimmfs.formats.hmat import Values
from nvdimmfs.machine_file.model import (
    BusDescription,
    MachineDescription,
    NodeAccessDescription,
    RamRangeDescription,
    RangeDescription,
)
from nvdimmfs.machine_file.node_access import KEYS, access_of
from nvdimmfs.machine_file.ram import nodes_of, placed_around
from nvdimmfs.machine_file.record_tables import access_of_nodes, ram_of_nodes, slit_distances
from nvdimmfs.machine_file.sysfs import AttributeReader
from nvdimmfs.mm.hotplug import SMALL_BLOCK
from nvdimmfs.mm.intervals import IntervalSet
from nvdimmfs.mm.nodes import Nodes
from nvdimmfs.mm.pc_memory_map import DEFAULT_RAM, HIGH_RAM_START, LOW_RAM_LIMIT, MINIMUM_RAM, installed_memory
from nvdimmfs.units import MIB, align_down

_MEMORY = "devices/system/memory"
_NODES = "devices/system/node"


@attrs.frozen
class RecordedRam:
    """The RAM of a machine.

    Attributes:
        ram: bytes.
        ram_ranges: where it is, if the machine would have it elsewhere or on another node without them.
        is_cut: RAM at the addresses of devices (2 GiB to 4 GiB) was left out.
    """

    ram: int
    ram_ranges: tuple[RamRangeDescription, ...] = ()
    is_cut: bool = False


def recorded_ram(
    reader: AttributeReader, buses: Iterable[BusDescription], legacy: Iterable[RangeDescription]
) -> RecordedRam:
    """Record RAM, and what memmap= marks in it."""
    ranges = tuple(range_ for bus in buses for range_ in bus.ranges)
    found = _blocks(reader)
    if not found:
        return RecordedRam(DEFAULT_RAM)
    found = _with_table(found, ram_of_nodes(reader))
    first = min(found)
    found.setdefault(0, IntervalSet())
    for range_ in legacy:
        found[0].add(range_.start, range_.end)
    for spans in found.values():
        for range_ in ranges:
            if range_.start >= 0 and range_.size > 0:
                spans.remove(range_.start, range_.end)
    total = max(align_down(sum(spans.count for spans in found.values()), MIB), MINIMUM_RAM)
    high = [(start, end) for nid, spans in found.items() for start, end in spans.within(HIGH_RAM_START, 1 << 64)]
    plain = installed_memory(placed_around(LOW_RAM_LIMIT + sum(end - start for start, end in high), ranges))
    usual = IntervalSet((span.start, span.end) for span in plain if span.start >= HIGH_RAM_START)
    if IntervalSet(high) == usual and not any(nid for nid, spans in found.items() if spans.count):
        return RecordedRam(total)
    low = min(sum(sum(b - a for a, b in spans.within(0, HIGH_RAM_START)) for spans in found.values()), LOW_RAM_LIMIT)
    parts = [RamRangeDescription(max(low, MINIMUM_RAM), 0, first)]
    for nid, spans in found.items():
        parts += [RamRangeDescription(b - a, a, nid) for a, b in spans.within(HIGH_RAM_START, 1 << 64)]
    parts.sort(key=lambda part: part.start)
    ram = sum(part.size for part in parts)
    return RecordedRam(ram, tuple(parts), is_cut=ram < total)


def recorded_distances(reader: AttributeReader, machine: MachineDescription) -> tuple[tuple[int, ...], ...]:
    """The distances of all nodes of a recorded machine; none if they are the usual ones, or some are unknown."""
    names = reader.sysfs.numbered(_NODES, "node")
    shown = tuple(tuple(_numbers(reader.words(f"{_NODES}/{name}/distance"))) for name in names)
    rows = slit_distances(reader) or shown
    nodes = nodes_of(machine).possible
    usual = tuple(tuple(Nodes().distance(nid, other) for other in nodes) for nid in nodes)
    is_square = all(len(row) == len(nodes) for row in (rows, *rows))
    return rows if is_square and rows != usual else ()


def recorded_accesses(reader: AttributeReader) -> tuple[NodeAccessDescription, ...]:
    """How fast the memory of each node is, by the firmware's table, or by sysfs for the nodes that are online."""
    known = access_of_nodes(reader) or _shown_accesses(reader)
    return tuple(access_of(node, values) for node, values in sorted(known.items()))


def _shown_accesses(reader: AttributeReader) -> Mapping[int, Values]:
    shown: dict[int, Values] = {}
    for name in reader.sysfs.numbered(_NODES, "node"):
        folder = f"{_NODES}/{name}/access0/initiators"
        texts = {kind: reader.text(f"{folder}/{file}") for kind, (file, _) in KEYS.items()}
        values = {kind: int(text) for kind, text in texts.items() if text and text.isdecimal()}
        if values:
            shown[int(name.removeprefix("node"))] = values
    return shown


def _with_table(found: dict[int, IntervalSet], table: list[MemoryAffinity]) -> dict[int, IntervalSet]:
    """Divide RAM among nodes as the SRAT does: a memory block can have RAM of several nodes.

    The table has proximity domains; where these are not the numbers of nodes, it is ignored.
    """
    if not table or not {entry.domain for entry in table} <= found.keys():
        return found
    rest = {nid: spans.copy() for nid, spans in found.items()}
    divided = {nid: IntervalSet() for nid in found}
    for entry in table:
        for spans in found.values():
            for part in spans.within(entry.start, entry.start + entry.length):
                divided[entry.domain].add(*part)
        for spans in rest.values():
            spans.remove(entry.start, entry.start + entry.length)
    for nid, spans in rest.items():
        for first, end in spans:
            if first < MIB or end - first >= SMALL_BLOCK:  # else the hole at the end of a block
                divided[nid].add(first, end)
    return divided


def _numbers(words: list[str]) -> list[int]:
    return [int(word) for word in words if word.isdecimal()]


def _blocks(reader: AttributeReader) -> dict[int, IntervalSet]:
    """The RAM of each node according to the memory blocks in sysfs; empty when sysfs has none."""
    try:
        size = int(reader.text(f"{_MEMORY}/block_size_bytes") or "", 16)
    except ValueError:
        return {}
    nodes = {
        name: nid
        for node in reader.sysfs.numbered(_NODES, "node")
        for nid in [int(node.removeprefix("node"))]
        for name in reader.sysfs.numbered(f"{_NODES}/{node}", "memory")
    }
    found: dict[int, IntervalSet] = {}
    for name in reader.sysfs.numbered(_MEMORY, "memory"):
        number = int(name.removeprefix("memory"))
        found.setdefault(nodes.get(name, 0), IntervalSet()).add(number * size, (number + 1) * size)
    return found
