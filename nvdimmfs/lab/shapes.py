"""Machines of random shapes, within what QEMU can give: a walk over each finds what the usual machines do not have."""

from __future__ import annotations

import enum
import itertools
import random
from collections.abc import Iterator

import attrs

from nvdimmfs.formats.ndctl import DIMM_FAMILY_INTEL, DIMM_FAMILY_UNKNOWN
from nvdimmfs.lab.qemu_machine import RANGE_ALIGNMENT, SLOTS, memory_base, with_qemu_numbers
from nvdimmfs.machine_file.model import (
    BusDescription,
    DimmDescription,
    LabelAreaDescription,
    MachineDescription,
    MappingDescription,
    NamespaceDescription,
    PersonalityDescription,
    RamRangeDescription,
    RangeDescription,
)
from nvdimmfs.machine_file.words import BusPlatform, DimmFlag, MemmapLocation, PersistenceDomain, PersonalityKind
from nvdimmfs.units import GIB, KIB, MIB, PAGE_SIZE, align_down

#: Where the RAM of a PC goes on, above the hole for devices.
_HIGH_RAM = 4 * GIB

#: Where ranges are below the hole: the kernel is loaded to the beginning of that RAM and to its end.
_LOW_RANGES = (GIB, GIB + 512 * MIB)

#: Sizes of ranges, and what is added to some of them: a region need not end where a page or a section of memory does.
_SIZES = (16, 24, 32, 43, 64, 96, 128, 130, 192, 256, 510, 512, 640)
_ODD_BYTES = (0, 0, 0, PAGE_SIZE, 3 * PAGE_SIZE, 64 * KIB, MIB)

#: Gaps in front of ranges, in MiB.
_GAPS = (0, 0, 0, 2, 6, 16, 64, 128)

_LABEL_AREAS = (
    LabelAreaDescription(128 * KIB),
    LabelAreaDescription(128 * KIB, "1.1"),
    LabelAreaDescription(128 * KIB, "1.1"),
    LabelAreaDescription(128 * KIB, "1.2"),
    LabelAreaDescription(128 * KIB, "1.2"),
    LabelAreaDescription(132 * KIB, "1.1"),
    LabelAreaDescription(256 * KIB, "1.2"),
    LabelAreaDescription(MIB, "1.1"),
    LabelAreaDescription(0),
)

#: The share of machines that have a range of memmap= as well.
_BESIDE = 0.15

_MOST_DIMMS = 6
_MOST_VIRTIO = 4

#: The sizes of virtio-pmem devices, in multiples of their alignment.
_LEAST_VIRTIO, _LARGEST_VIRTIO = 8, 320

#: The share of DIMMs that are not armed.
_NOT_ARMED = 0.1

_USUAL_RAM = 4 * GIB

#: The share of initialised label areas that define namespaces, how many at most, and the units of their sizes: most are
#: a multiple of what the kernel allows (memremap_compat_align), the others are refused when they are bound.
_WITH_NAMESPACES = 0.6
_MOST_NAMESPACES = 3
_UNITS = (16 * MIB, 16 * MIB, 16 * MIB, 2 * MIB, 6 * MIB)

#: The share of namespaces that have an info block, of those that are large enough; sectors of BTTs, and alignments of
#: pfn and dax devices.
_WITH_INFO_BLOCK = 0.6
_ROOM_OF_INFO_BLOCK = 32 * MIB
_SECTORS = (512, 520, 4096, 4104)
_ALIGNS = (PAGE_SIZE, 2 * MIB, 2 * MIB)

#: The distance of a node to itself, and the largest one to another that walks have.
_TO_ITSELF = 10
_FARTHEST = 30


class Shape(enum.Enum):
    """What announces the memory of a machine."""

    E820 = "e820"
    NFIT = "nfit"
    VIRTIO = "virtio"


def shaped(shape: Shape, seed: int) -> MachineDescription:
    """Return a machine of a random shape, not completed.

    Args:
        shape: what announces its memory.
        seed: the same seed makes the same machine.
    """
    chance = random.Random(f"{shape.value} {seed}")  # noqa: S311  # a machine is to be the same each time
    return {Shape.E820: _e820, Shape.NFIT: _nfit, Shape.VIRTIO: _virtio}[shape](chance)


def _e820(chance: random.Random) -> MachineDescription:
    """One to five ranges, some of them in the low RAM or beyond the end of all RAM."""
    ram = chance.choice((5, 6, 8)) * GIB
    ranges = list(_ranges_from(chance, _HIGH_RAM, chance.choice((1, 1, 2, 3, 4))))
    if chance.random() < 0.2:
        start = chance.choice(_LOW_RANGES) + chance.choice(_ODD_BYTES)
        ranges.append((start, chance.choice((16, 43, 64, 128)) * MIB))
    memmap = ",".join(f"{size:#x}!{start:#x}" for start, size in ranges)
    return MachineDescription(ram=ram, memmap=memmap)


def _ranges_from(chance: random.Random, start: int, count: int) -> Iterator[tuple[int, int]]:
    """So many ranges, one after the other: the start and the size of each."""
    for _ in range(count):
        start += chance.choice(_GAPS) * MIB + chance.choice(_ODD_BYTES)
        size = chance.choice(_SIZES) * MIB + chance.choice(_ODD_BYTES)
        yield start, size
        start += size


def _nfit(chance: random.Random) -> MachineDescription:
    """One to six DIMMs in any slots, with label areas of any kind, on one to three nodes."""
    memmap = f"{chance.choice(_SIZES)}M!{5 * GIB:#x}" if chance.random() < _BESIDE else ""
    machine = attrs.evolve(_with_nodes(chance), memmap=memmap)
    start = memory_base(attrs.evolve(machine, ram_ranges=()))
    dimms, ranges = [], []
    for handle in chance.sample(range(1, SLOTS + 1), chance.randint(1, _MOST_DIMMS)):
        start += chance.choice(_GAPS) * MIB
        size = align_down(chance.choice(_SIZES) * MIB, RANGE_ALIGNMENT)
        dimm = _dimm(chance, handle)
        namespaces = tuple(_namespaces(chance, dimm, size))
        dimms.append(dimm)
        ranges.append(attrs.evolve(_range(chance, machine, handle), start=start, size=size, namespaces=namespaces))
        start += size
    chance.shuffle(ranges)
    bus = BusDescription(
        persistence_domain=chance.choice(tuple(PersistenceDomain)),
        dimms=tuple(sorted(dimms, key=lambda dimm: dimm.handle)),
        ranges=tuple(ranges),
    )
    numbered = with_qemu_numbers(attrs.evolve(machine, buses=(bus,)))
    return numbered if memmap else attrs.evolve(numbered, personalities=tuple(_personalities(chance, numbered)))


def _namespaces(chance: random.Random, dimm: DimmDescription, room: int) -> Iterator[NamespaceDescription]:
    """Namespaces that the labels of a DIMM define, one after the other."""
    if not dimm.label.initialised or chance.random() >= _WITH_NAMESPACES:
        return
    for number in range(chance.randint(1, _MOST_NAMESPACES)):
        unit = chance.choice(_UNITS)
        if room < unit:
            return
        size = unit * chance.randint(1, room // unit)
        yield NamespaceDescription(
            uuid=f"0000{dimm.handle:04x}-1111-2222-3333-{number:012x}",
            size=size,
            alt_name=chance.choice(("", "", "first", "x" * 63)),
            sector_size=chance.choice((0, 512, 512, 4096)) if dimm.label.initialised == "1.2" else 0,
        )
        room -= size


def _personalities(chance: random.Random, machine: MachineDescription) -> Iterator[PersonalityDescription]:
    """Info blocks on some of the namespaces."""
    not_armed = {f"{dimm.handle:#x}" for bus in machine.buses for dimm in bus.dimms if dimm.flags}
    for region, range_ in enumerate(machine.ranges):
        # Their numbers are not in the order of their addresses, so each must have room.
        has_room = all(namespace.size >= _ROOM_OF_INFO_BLOCK for namespace in range_.namespaces)
        if not has_room or range_.mappings[0].dimm in not_armed:
            continue
        for number, namespace in enumerate(range_.namespaces):
            if chance.random() < _WITH_INFO_BLOCK:
                uuid = namespace.uuid.replace("-1111-2222-3333-0", "-1111-2222-3333-1")
                yield _personality(chance, f"namespace{region}.{number}", uuid)


def _personality(chance: random.Random, namespace: str, uuid: str) -> PersonalityDescription:
    kind = chance.choice(tuple(PersonalityKind))
    if kind is PersonalityKind.BTT:
        return PersonalityDescription(namespace, kind, uuid, sector_size=chance.choice(_SECTORS))
    memmap, align = chance.choice(tuple(MemmapLocation)), chance.choice(_ALIGNS)
    return PersonalityDescription(namespace, kind, uuid, memmap, align)


def _virtio(chance: random.Random) -> MachineDescription:
    """One to four virtio-pmem devices, in the order of their addresses, perhaps beside a range of memmap=."""
    memmap = f"{chance.choice(_SIZES)}M!{5 * GIB:#x}" if chance.random() < _BESIDE else ""
    machine = MachineDescription(ram=chance.choice((4, 5, 6, 8)) * GIB, memmap=memmap)
    start, buses = memory_base(machine), []
    for _ in range(chance.randint(1, _MOST_VIRTIO)):
        start += chance.choice(_GAPS) * MIB
        size = chance.randint(_LEAST_VIRTIO, _LARGEST_VIRTIO) * RANGE_ALIGNMENT
        ranges = (RangeDescription(start=start, size=size),)
        buses.append(BusDescription(platform=BusPlatform.VIRTIO_PMEM, ranges=ranges))
        start += size
    return attrs.evolve(machine, buses=tuple(buses))


def _with_nodes(chance: random.Random) -> MachineDescription:
    """RAM of one node, or of two, and perhaps a third node without RAM, at any distances."""
    count = chance.choice((1, 1, 2, 3))
    if count == 1:
        return MachineDescription(ram=_USUAL_RAM)
    of_first = chance.choice((GIB, 2 * GIB, 3 * GIB))
    sizes = (of_first, _USUAL_RAM - of_first)
    distances = [[_TO_ITSELF] * count for _ in range(count)]
    for one, other in itertools.combinations(range(count), 2):
        distances[one][other] = distances[other][one] = chance.randint(_TO_ITSELF + 1, _FARTHEST)
    return MachineDescription(
        ram_ranges=tuple(RamRangeDescription(size=size, numa_node=node) for node, size in enumerate(sizes)),
        distances=tuple(map(tuple, distances)),
    )


def _dimm(chance: random.Random, handle: int) -> DimmDescription:
    flags = (DimmFlag.NOT_ARMED,) if chance.random() < _NOT_ARMED else ()
    label = chance.choice(_LABEL_AREAS)
    family = DIMM_FAMILY_INTEL if label.size else DIMM_FAMILY_UNKNOWN
    return DimmDescription(handle=handle, label=label, flags=flags, family=family)


def _range(chance: random.Random, machine: MachineDescription, handle: int) -> RangeDescription:
    """The range of a DIMM, of a random node.  It is near to the nearest node with RAM, as QEMU has it."""
    mappings = (MappingDescription(f"{handle:#x}"),)
    if not machine.distances:
        return RangeDescription(mappings=mappings)
    node = chance.randrange(len(machine.distances))
    near = min((ram.numa_node for ram in machine.ram_ranges), key=lambda other: machine.distances[node][other])
    return RangeDescription(numa_node=near, target_node=node, mappings=mappings)
