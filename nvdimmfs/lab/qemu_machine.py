"""What QEMU can give of a machine.

QEMU chooses numbers that a machine file may omit, and has DIMMs of one kind only.  `with_qemu_numbers` fills in the
former; `require_possible` compares a machine with the one that QEMU makes of it, and names the first key that differs.
Facts are of QEMU 7.2: hw/acpi/nvdimm.c, hw/mem/nvdimm.c, hw/i386/pc.c and pc_q35.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from nvdimmfs.formats.ndctl import DIMM_FAMILY_INTEL, DIMM_FAMILY_UNKNOWN
from nvdimmfs.lab.errors import ImpossibleMachineError
from nvdimmfs.lab.nfit_test import NFIT_TEST
from nvdimmfs.machine_file.defaults import completed
from nvdimmfs.machine_file.files import load_machine
from nvdimmfs.machine_file.model import BusDescription, DimmDescription, MachineDescription, RangeDescription
from nvdimmfs.machine_file.ram import installed_ram, nodes_of
from nvdimmfs.machine_file.reader import key_of
from nvdimmfs.machine_file.values import TO_BE_CHOSEN
from nvdimmfs.machine_file.words import BusPlatform, DimmFlag
from nvdimmfs.machine_file.writer import value_text
from nvdimmfs.mm.intervals import IntervalSet
from nvdimmfs.mm.nodes import Nodes, RamSpan, place_ram
from nvdimmfs.mm.pc_memory_map import HIGH_RAM_START, USABLE_BY_RAM, installed_memory
from nvdimmfs.units import GIB, KIB, MIB, align_down, align_up, exact_size

#: What the kernel, the programs of a guest and an archive of them need.
LEAST_RAM = 512 * MIB

#: Slots of DIMMs: a handle is the number of the slot plus 1 (nvdimm_slot_to_handle; ACPI_MAX_RAM_SLOTS).
MOST_DIMMS = 256

#: The slots for memory that a guest has: more than most machines need, so that their tables of ACPI are alike, and that
#: DIMMs can be plugged in.
SLOTS = 16

#: What sizes of ranges are rounded down to, and starts are multiples of: the alignment that the lab gives to memory.
RANGE_ALIGNMENT = 2 * MIB

#: The smallest label area (MIN_NAMESPACE_LABEL_SIZE).
LEAST_LABEL_AREA = 128 * KIB

#: The end of the physical addresses of a processor that QEMU emulates (TCG_PHYS_ADDR_BITS, target/i386/cpu.h).
ADDRESS_END = 1 << 40

#: Keys whose defaults follow from other keys, which are the ones to name.
_FOLLOWING = {"dsm_mask", "commands"}

#: A key path of the machine file, and the reason why QEMU cannot give its value.
Problem = tuple[str, str]


def with_qemu_numbers(machine: MachineDescription) -> MachineDescription:
    """Return a machine, not completed, with the range indexes that QEMU chooses where the file has none."""
    return attrs.evolve(machine, buses=tuple(map(_with_indexes, machine.buses)))


def require_possible(machine: MachineDescription) -> None:
    """ImpossibleMachineError with the key of the machine file if QEMU cannot give a completed machine."""
    for path, reason in _problems(machine):
        raise ImpossibleMachineError(f"QEMU cannot give this machine: {path}: {reason}")


def handle_of_range(bus: BusDescription, range_: RangeDescription) -> int:
    """The handle of the only DIMM of a range."""
    return bus.dimm(range_.mappings[0].dimm).handle


def memory_base(machine: MachineDescription) -> int:
    """The first address at which QEMU has DIMMs and virtio devices: the next multiple of 1 GiB above all RAM."""
    return align_up(max(HIGH_RAM_START, installed_memory(machine_ram(machine))[-1].end), GIB)


def buses_of_qemu(machine: MachineDescription) -> tuple[BusDescription, ...]:
    """The buses whose memory QEMU has: all but those that the module `nfit_test` makes."""
    return tuple(bus for bus in machine.buses if not bus.is_test_platform)


def machine_ram(machine: MachineDescription) -> tuple[RamSpan, ...]:
    """Where the RAM of a completed machine is."""
    return installed_memory(installed_ram(machine))


def ram_of_nodes(machine: MachineDescription) -> list[int]:
    """Bytes of RAM of each node, by number."""
    nodes = nodes_of(machine)
    return [sum(span.size for span in machine_ram(machine) if span.nid == node) for node in range(len(nodes.possible))]


def _index_of(handle: int) -> int:
    """The range index of the DIMM with a handle (nvdimm_slot_to_spa_index)."""
    return 2 * handle


def _with_indexes(bus: BusDescription) -> BusDescription:
    if bus.platform is not BusPlatform.NFIT or bus.is_test_platform:
        return bus
    (whole,) = completed(MachineDescription(buses=(bus,))).buses
    ranges = tuple(
        attrs.evolve(given, range_index=_index_of(handle_of_range(whole, range_)))
        if given.range_index == TO_BE_CHOSEN and range_.mappings
        else given
        for given, range_ in zip(bus.ranges, whole.ranges, strict=True)
    )
    return attrs.evolve(bus, ranges=ranges)


def _problems(machine: MachineDescription) -> Iterator[Problem]:
    for key in ("unreadable", "faults"):
        if getattr(machine, key):
            yield key.removesuffix("s"), "a real machine fails when it does, not on order"
    unknown = nodes_of(machine).possible - {access.node for access in machine.node_accesses}
    if machine.node_accesses and unknown:
        yield "node_access", f"its firmware states it of each node; add node {min(unknown)}"
    nfits = [machine.buses.index(bus) for bus in buses_of_qemu(machine) if bus.has_nfit]
    if len(nfits) > 1:
        yield f"bus[{nfits[1]}]", "the firmware has one NFIT"
    for index, bus in enumerate(machine.buses):
        yield from _bus_problems(machine, bus, f"bus[{index}]")
    yield from _ram_problems(machine)
    if machine.acpi_tables:
        yield "acpi_table", "its firmware has tables of its own, and no kernel looks at this one; omit it"


def _ram_problems(machine: MachineDescription) -> Iterator[Problem]:
    if machine.ram < LEAST_RAM:
        yield "ram", f"a guest of the lab needs {exact_size(LEAST_RAM)}"
    taken = IntervalSet()
    expected: list[RamSpan] = []
    for node, size in enumerate(ram_of_nodes(machine)):
        for span in place_ram(size, 0, node, USABLE_BY_RAM, taken):
            expected.append(span)
            taken.add(span.start, span.end)
    if tuple(expected) != machine_ram(machine):
        key = "ram_range" if machine.ram_ranges else "ram"
        yield key, "RAM begins at address 0, without gaps but that from 2 to 4 GiB, node by node, below all DIMMs"


def _bus_problems(machine: MachineDescription, bus: BusDescription, path: str) -> Iterator[Problem]:
    if bus.platform is BusPlatform.DEVICE_TREE:
        yield f"{path}.platform", "a PC has no device tree"
    if bus.is_test_platform:
        yield from _test_platform_problems(bus, path)
        return
    yield from _structure_problems(bus, path)
    base = memory_base(machine)
    for index, range_ in enumerate(bus.ranges):
        own = f"{path}.range[{index}]"
        if range_.start < base:
            yield f"{own}.start", f"{range_.start:#x} lies below the end of RAM, rounded up to 1 GiB: {base:#x}"
        if range_.end > ADDRESS_END:
            yield f"{own}.size", f"the range ends beyond the last address of the processor, {ADDRESS_END - 1:#x}"
        if range_.start % RANGE_ALIGNMENT or range_.size % RANGE_ALIGNMENT:
            yield own, f"start and size must be multiples of {exact_size(RANGE_ALIGNMENT)}"
        if range_.badblocks:
            yield f"{own}.badblocks", "memory of QEMU has no errors"
    yield from _differences(bus, _given_by_qemu(bus, nodes_of(machine)), path)


def _test_platform_problems(bus: BusDescription, path: str) -> Iterator[Problem]:
    """What differs from the bus of that name that the module `nfit_test` makes."""
    module = load_machine(NFIT_TEST)
    made = next((each for each in module.buses if each.provider == bus.provider), None)
    if made is None:
        known = " and ".join(each.provider for each in module.buses)
        yield f"{path}.provider", f"the module {NFIT_TEST} makes {known}"
    else:
        yield from _differences(bus, made, path)


def _structure_problems(bus: BusDescription, path: str) -> Iterator[Problem]:
    """What concerns DIMMs and ranges together: each DIMM has a range, and nothing is interleaved."""
    for index, range_ in enumerate(bus.ranges):
        if bus.platform is BusPlatform.NFIT and len(range_.mappings) != 1:
            yield f"{path}.range[{index}].dimms", "a range has one DIMM: QEMU does not interleave"
    mapped = [mapping.dimm for range_ in bus.ranges for mapping in range_.mappings]
    for index, dimm in enumerate(bus.dimms):
        own = f"{path}.dimm[{index}]"
        if mapped.count(dimm.name) != 1:
            yield own, f"{mapped.count(dimm.name)} ranges have it; a DIMM of QEMU has one"
        if not 0 < dimm.handle <= MOST_DIMMS:
            yield f"{own}.handle", f"{dimm.handle:#x} is not the number of a slot, from 1 to {MOST_DIMMS}"
        if 0 < dimm.label.size < LEAST_LABEL_AREA:
            yield f"{own}.label.size", f"must be 0, or at least {exact_size(LEAST_LABEL_AREA)}"


def _given_by_qemu(bus: BusDescription, nodes: Nodes) -> BusDescription:
    """The bus that QEMU makes of a description: what it has no option for is as it always is."""
    if bus.platform is not BusPlatform.NFIT or bus.is_test_platform:
        ranges = tuple(RangeDescription(start=range_.start, size=range_.size) for range_ in bus.ranges)
        usual = BusDescription(platform=bus.platform, provider=bus.provider, parent=bus.parent, ranges=ranges)
    else:
        usual = BusDescription(
            persistence_domain=bus.persistence_domain,
            dimms=tuple(map(_dimm_of_qemu, bus.dimms)),
            ranges=tuple(_range_of_qemu(bus, range_, nodes) for range_ in bus.ranges),
        )
    return completed(MachineDescription(buses=(usual,))).buses[0]


def _dimm_of_qemu(dimm: DimmDescription) -> DimmDescription:
    """The DIMM.  Without a label area, it has no function (nvdimm_dsm_device), so that the kernel knows no family."""
    flags = tuple(flag for flag in dimm.flags if flag is DimmFlag.NOT_ARMED)
    family = DIMM_FAMILY_INTEL if dimm.label.size else DIMM_FAMILY_UNKNOWN
    return DimmDescription(
        name=dimm.name, handle=dimm.handle, size=dimm.size, label=dimm.label, flags=flags, family=family
    )


def _range_of_qemu(bus: BusDescription, range_: RangeDescription, nodes: Nodes) -> RangeDescription:
    """The range of a DIMM.  It is near to the node that it belongs to, or to the nearest one that is online."""
    target = max(range_.target_node, 0)
    with_ram = sorted({span.nid for span in nodes.ram} or {0})
    near = target if target in with_ram else min(with_ram, key=lambda node: nodes.distance(target, node))
    return RangeDescription(
        start=range_.start,
        size=align_down(range_.size, RANGE_ALIGNMENT),
        range_index=_index_of(handle_of_range(bus, range_)),
        numa_node=near,
        target_node=target,
        mappings=range_.mappings,
        namespaces=range_.namespaces,
    )


def _differences(
    given: Any,  # noqa: ANN401  # any class of the model
    possible: Any,  # noqa: ANN401
    path: str,
) -> Iterator[Problem]:
    """The keys whose values differ, and both values."""
    for field in sorted(attrs.fields(type(given)), key=lambda field: field.name in _FOLLOWING):
        one, other, key = getattr(given, field.name), getattr(possible, field.name), f"{path}.{key_of(field)}"
        if one == other:
            continue
        if isinstance(one, tuple) and len(one) == len(other) and all(attrs.has(type(item)) for item in one):
            for index, (inner, its_counterpart) in enumerate(zip(one, other, strict=True)):
                yield from _differences(inner, its_counterpart, f"{key}[{index}]")
        elif attrs.has(type(one)):
            yield from _differences(one, other, key)
        else:
            yield key, f"{value_text(one, field.type)}; it is {value_text(other, field.type)} always"
