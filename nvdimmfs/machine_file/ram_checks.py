"""The checks of a machine's RAM and nodes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from nvdimmfs.machine_file.dimm_checks import Problem
from nvdimmfs.machine_file.model import MachineDescription, RamRangeDescription
from nvdimmfs.machine_file.ram import installed_ram, nodes_of
from nvdimmfs.machine_file.values import plain_size
from nvdimmfs.mm.nodes import LOCAL_DISTANCE
from nvdimmfs.mm.pc_memory_map import (
    HIGH_RAM_START,
    LOW_RAM_LIMIT,
    MAXIMUM_RAM,
    MINIMUM_RAM,
    PHYSICAL_BITS,
    USABLE_BY_RAM,
    installed_memory,
    ram_at_zero,
)
from nvdimmfs.units import PAGE_SIZE, align_down

#: The greatest distance of a SLIT: there is no way from one node to the other.
_LARGEST_DISTANCE = 255


def ram_problems(machine: MachineDescription) -> Iterator[Problem]:
    """Yield all errors of RAM and nodes, except overlaps with persistent memory."""
    yield from _ram_ranges(machine) if machine.ram_ranges else _ram(machine)
    yield from _distances(machine)
    if machine.node_accesses:
        from nvdimmfs.machine_file.node_access import access_problems  # which few machines have

        yield from access_problems(machine)


def _ram(machine: MachineDescription) -> Iterator[Problem]:
    if machine.ram < MINIMUM_RAM:
        yield "ram", f"{plain_size(machine.ram)} is too small; the minimum is {plain_size(MINIMUM_RAM)}"
        return
    if machine.ram > MAXIMUM_RAM:
        yield "ram", f"{plain_size(machine.ram)} is too large; the maximum is {plain_size(MAXIMUM_RAM)}"
        return
    ram = installed_ram(machine)
    placed = sum(span.size for span in installed_memory(ram))
    if placed < machine.ram:
        yield "ram", f"{plain_size(machine.ram)} do not fit around the ranges; they leave {plain_size(placed)}"
    elif ram_at_zero(ram) < MINIMUM_RAM:
        yield from _low_memory("ram", ram_at_zero(ram))


def _low_memory(path: str, size: int) -> Iterator[Problem]:
    yield path, f"a PC needs {plain_size(MINIMUM_RAM)} of RAM at address 0 to boot; here it has {plain_size(size)}"


def _ram_ranges(machine: MachineDescription) -> Iterator[Problem]:
    found = False
    for index, each in enumerate(machine.ram_ranges):
        for key, problem in _ram_range(each):
            found = True
            yield f"ram_range[{index}].{key}", problem
    if found:
        return
    in_order = sorted(enumerate(machine.ram_ranges), key=lambda item: item[1].start)
    for (first, before), (second, after) in itertools.pairwise(in_order):
        if after.start < before.end:
            yield (
                f"ram_range[{second}].start",
                f"{after.start:#x} is RAM of ram_range[{first}]; start at {before.end:#x}",
            )
            return
    total = sum(each.size for each in machine.ram_ranges)
    if total != machine.ram:
        yield "ram", f"{plain_size(machine.ram)} is not the sum of ram_range, {plain_size(total)}; omit ram"
    joined = ram_at_zero(installed_ram(machine))
    if joined < MINIMUM_RAM:
        yield from _low_memory("ram_range", joined)


def _ram_range(each: RamRangeDescription) -> Iterator[Problem]:
    """Yield the key and the error of each wrong value."""
    if not each.size or each.size % PAGE_SIZE:
        right = max(align_down(each.size, PAGE_SIZE), PAGE_SIZE)
        yield "size", f"{each.size} is not a multiple of 4 KiB; write for example {right}"
    elif each.start < 0:
        yield "size", f"{plain_size(each.size)} of RAM do not fit below {1 << PHYSICAL_BITS:#x}, around the ranges"
    elif each.start % PAGE_SIZE:
        yield "start", f"{each.start:#x} is not a multiple of 4 KiB; write {align_down(each.start, PAGE_SIZE):#x}"
    elif each.end > 1 << PHYSICAL_BITS:
        yield "start", f"RAM ends at {each.end:#x}; physical addresses end at {1 << PHYSICAL_BITS:#x} (4P)"
    elif not any(first <= each.start and each.end <= end for first, end in USABLE_BY_RAM):
        places = f"below {LOW_RAM_LIMIT:#x} or from {HIGH_RAM_START:#x} on"
        yield "start", f"{each.start:#x}-{each.end - 1:#x} has addresses of devices; RAM is {places}; or omit start"
    if each.numa_node < 0:
        yield "numa_node", f"{each.numa_node} is not a node; RAM belongs to one, such as 0"


def _distances(machine: MachineDescription) -> Iterator[Problem]:
    rows = machine.distances
    if not rows:
        return
    nodes = len(nodes_of(machine).possible)
    if any(len(row) != len(rows) for row in rows):
        yield "distances", f"it is not a square; write {len(rows)} numbers in each of the {len(rows)} rows"
    elif len(rows) < nodes:
        yield "distances", f"it has {len(rows)} rows, but the machine has {nodes} nodes; write a row for each"
    for nid, row in enumerate(rows):
        for other, distance in enumerate(row):
            if nid == other and distance != LOCAL_DISTANCE:
                yield (
                    f"distances[{nid}][{other}]",
                    f"{distance} is not {LOCAL_DISTANCE}, the distance of a node to itself",
                )
            elif nid != other and not LOCAL_DISTANCE < distance <= _LARGEST_DISTANCE:
                limits = f"{LOCAL_DISTANCE + 1} to {_LARGEST_DISTANCE}"
                yield f"distances[{nid}][{other}]", f"{distance} is not a distance to another node; write {limits}"
