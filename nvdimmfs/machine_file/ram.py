"""Where a machine's RAM is, and the NUMA nodes that a machine file describes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from nvdimmfs.machine_file.model import (
    MachineDescription,
    RamRangeDescription,
    RangeDescription,
)
from nvdimmfs.machine_file.values import TO_BE_CHOSEN
from nvdimmfs.mm.intervals import IntervalSet
from nvdimmfs.mm.nodes import FIRST_NODE, NUMA_NO_NODE, NodeAccess, Nodes, RamSpan, place_ram
from nvdimmfs.mm.pc_memory_map import USABLE_BY_RAM, Ram, installed_memory


def installed_ram(machine: MachineDescription) -> Ram:
    """Where the RAM of a completed machine is."""
    if machine.ram_ranges:
        spans = (RamSpan(each.start, each.end, each.numa_node) for each in machine.ram_ranges)
        return tuple(sorted(spans, key=lambda span: span.start))
    return placed_around(machine.ram, machine.ranges)


def placed_around(ram: int, ranges: tuple[RangeDescription, ...]) -> Ram:
    """Place RAM around the ranges whose start and size are known; a number where they are not in its way."""
    plain = installed_memory(ram)
    end = plain[-1].end if plain else 0
    if not any(0 <= range_.start < end and range_.size > 0 for range_ in ranges):
        return ram
    taken = _taken(ranges)
    if not any(list(taken.within(span.start, span.end)) for span in plain):
        return ram
    return tuple(place_ram(ram, 0, FIRST_NODE, USABLE_BY_RAM, taken))


def completed_ram(
    ram_ranges: Iterable[RamRangeDescription], ranges: Iterable[RangeDescription]
) -> Iterator[RamRangeDescription]:
    """Yield RAM with its start filled in; what has to be placed around something else is in several parts.

    `ranges` are those of the machine; the ones whose start or size is unknown are not in the way.
    """
    given = list(ram_ranges)
    taken = _taken(ranges)
    for each in given:
        if each.start != TO_BE_CHOSEN:
            taken.add(each.start, each.end)
    next_start = 0
    for each in given:
        if each.start != TO_BE_CHOSEN:
            next_start = each.end
            yield each
            continue
        spans = list(place_ram(each.size, next_start, each.numa_node, USABLE_BY_RAM, taken))
        if sum(span.size for span in spans) < each.size or not spans:
            yield each  # there is no room for it, which `checks.problems` reports
            continue
        next_start = spans[-1].end
        for span in spans:
            taken.add(span.start, span.end)
            yield attrs.evolve(each, start=span.start, size=span.size)


def nodes_of(machine: MachineDescription) -> Nodes:
    """The nodes of a completed machine.

    A node with processors, or that a range is near to, is online at boot, as is one with RAM that memmap= leaves it
    (`Memory`); one that a range belongs to is possible.  The kernel numbers nodes without gaps.
    """
    ram = installed_ram(machine)
    spans = () if isinstance(ram, int) else ram
    ranges = machine.ranges
    near = {range_.numa_node for range_ in ranges}
    online = {FIRST_NODE, *near} - {NUMA_NO_NODE}
    with_memory = (*(span.nid for span in spans), *(range_.target_node for range_ in ranges))
    last = max((*online, *with_memory, len(machine.distances) - 1))
    return Nodes(
        spans if any(span.nid for span in spans) else (),
        frozenset(online),
        frozenset(range(last + 1)),
        machine.distances,
        tuple(NodeAccess(*attrs.astuple(each)) for each in machine.node_accesses),
    )


def _taken(ranges: Iterable[RangeDescription]) -> IntervalSet:
    return IntervalSet((range_.start, range_.end) for range_ in ranges if range_.start >= 0 and range_.size > 0)
