"""What the ranges of a machine must be like to make sense."""

from __future__ import annotations

import difflib
import uuid
from collections.abc import Iterable, Iterator

from nvdimmfs.formats.label import LABEL_NAME_SIZE, LBASIZES
from nvdimmfs.machine_file.dimm_checks import Problem
from nvdimmfs.machine_file.model import (
    MAXIMUM_MAPPINGS,
    BusDescription,
    DimmDescription,
    MappingDescription,
    NamespaceDescription,
    RangeDescription,
)
from nvdimmfs.machine_file.words import RangeKind
from nvdimmfs.mm.pc_memory_map import PHYSICAL_BITS
from nvdimmfs.units import PAGE_SIZE, align_down, align_up

#: What `holder_class` takes (drivers/nvdimm/namespace_devs.c, Linux 6.1).
HOLDER_CLASSES = ("", "btt", "pfn", "dax")

_SECTOR = 512
_LARGEST_INDEX = (1 << 16) - 1


def choice_problem(value: int, choices: Iterable[int], path: str) -> Iterator[Problem]:
    """That a number is none of those that there are."""
    if value not in choices:
        yield path, f"{value} is none of {', '.join(map(str, choices))}"


def uuid_problem(text: str, path: str) -> Iterator[Problem]:
    """That a text is not a UUID, 8-4-4-4-12 digits, as the kernel reads it."""
    try:
        correct = str(uuid.UUID(text)) == text.lower()
    except ValueError:
        correct = False
    if not correct:
        yield path, f'"{text}" is not a UUID such as 01234567-89ab-cdef-0123-456789abcdef'


def range_problems(bus: BusDescription, path: str) -> Iterator[Problem]:
    """Everything that is wrong with the ranges of a bus, apart from where they lie in memory."""
    dimms = {dimm.name: dimm for dimm in bus.dimms}
    indexes: dict[int, str] = {}
    taken: dict[str, list[tuple[int, int, str]]] = {}
    for number, range_ in enumerate(bus.ranges):
        own = f"{path}.range[{number}]"
        yield from _extent(range_, own)
        yield from _range_index(range_, own, indexes)
        yield from _mappings(range_, own, dimms)
        yield from _capacity(range_, own, dimms, taken)
        yield from _namespaces(range_, own, dimms)
        for index, bad in enumerate(range_.badblocks):
            if not bad.count or (bad.sector + bad.count) * _SECTOR > range_.size:
                yield f"{own}.badblocks[{index}]", f"it is not within the range's {range_.size // _SECTOR} sectors"


def _extent(range_: RangeDescription, path: str) -> Iterator[Problem]:
    if range_.size < 0:
        yield f"{path}.size", "it is missing; give the range a size, or its DIMMs"
    elif not range_.size or range_.size % PAGE_SIZE:
        right = max(align_down(range_.size, PAGE_SIZE), PAGE_SIZE)
        yield f"{path}.size", f"{range_.size} is not a multiple of 4 KiB; write for example {right}"
    elif range_.start % PAGE_SIZE:
        right = min(align_up(range_.start, PAGE_SIZE), (1 << PHYSICAL_BITS) - PAGE_SIZE)
        yield f"{path}.start", f"{range_.start:#x} is not a multiple of 4 KiB; write for example {right:#x}"
    elif range_.end > 1 << PHYSICAL_BITS:
        yield f"{path}.start", f"it ends at {range_.end:#x}; physical addresses end at {1 << PHYSICAL_BITS:#x} (4P)"


def _range_index(range_: RangeDescription, path: str, indexes: dict[int, str]) -> Iterator[Problem]:
    index = range_.range_index
    if range_.kind.is_virtual:
        if index:
            yield f"{path}.range_index", f"{index} is for ranges with DIMMs; a {range_.kind.value} has 0"
    elif not 0 < index <= _LARGEST_INDEX:
        yield f"{path}.range_index", f"{index} does not name a range; write 1 to {_LARGEST_INDEX}"
    elif indexes.setdefault(index, path) != path:
        yield f"{path}.range_index", f"{index} is that of {indexes[index]}, too; no two of a bus may have the same"


def _mappings(range_: RangeDescription, path: str, dimms: dict[str, DimmDescription]) -> Iterator[Problem]:
    mappings = range_.mappings
    if mappings and range_.kind.is_virtual:
        yield f"{path}.dimms", f"a {range_.kind.value} is made by the firmware and has no DIMMs; leave them out"
        return
    if len(mappings) > MAXIMUM_MAPPINGS:
        yield f"{path}.dimms", f"{len(mappings)} are too many; the kernel takes {MAXIMUM_MAPPINGS}"
    for index, mapping in enumerate(mappings):
        yield from _mapping(mapping, f"{path}.dimms[{index}]", dimms)
    if not mappings or any(mapping.size < 0 for mapping in mappings):
        return
    total = sum(mapping.size for mapping in mappings)
    if range_.size >= 0 and total != range_.size:
        yield f"{path}.size", f"{range_.size} bytes are not what its DIMMs have, {total}; leave size out, or write that"
    yield from _order(mappings, path)
    yield from _identities(mappings, path, dimms)


def _mapping(mapping: MappingDescription, path: str, dimms: dict[str, DimmDescription]) -> Iterator[Problem]:
    dimm = dimms.get(mapping.dimm)
    if dimm is None:
        yield path, f'there is no DIMM "{mapping.dimm}" on this bus{_suggestion(mapping.dimm, dimms)}'
        return
    if not dimm.control_region:
        yield path, f'the DIMM "{dimm.name}" has no control region, so that no range can use it'
    if mapping.size < 0:
        full = dimm.size >= 0 and mapping.dpa >= dimm.size
        why = f'nothing is left of the DIMM "{dimm.name}"' if full else f'how large is the DIMM "{dimm.name}"?'
        yield f"{path}.size", f"{why}; give the DIMM or the range a size"
        return
    for key in ("dpa", "size"):
        value: int = getattr(mapping, key)
        if value % PAGE_SIZE or (key == "size" and not value):
            right = max(align_down(value, PAGE_SIZE), PAGE_SIZE)
            yield f"{path}.{key}", f"{value:#x} is not a multiple of 4 KiB; write for example {right:#x}"


def _suggestion(name: str, dimms: dict[str, DimmDescription]) -> str:
    close = difflib.get_close_matches(name, dimms, 1)
    if close:
        return f'; do you mean "{close[0]}"?'
    return f"; there are {', '.join(dimms)}" if dimms else "; add a [[bus.dimm]]"


def _order(mappings: tuple[MappingDescription, ...], path: str) -> Iterator[Problem]:
    """The kernel finds the positions by sorting the region offsets."""
    if len({mapping.region_offset for mapping in mappings}) < len(mappings):
        yield f"{path}.dimms", "two have the same region_offset; it is what orders them, so give each another"
        return
    offsets = sorted(mapping.region_offset for mapping in mappings)
    for index, mapping in enumerate(mappings):
        right = offsets.index(mapping.region_offset)
        if mapping.position != right:
            yield (
                f"{path}.dimms[{index}].position",
                f"{mapping.position} is not its place by region_offset, {right}; leave one of the two out",
            )


def _identities(
    mappings: tuple[MappingDescription, ...], path: str, dimms: dict[str, DimmDescription]
) -> Iterator[Problem]:
    """Labels and the kernel tell the DIMMs of a set apart by what identifies them."""
    seen: dict[tuple[int, ...], int] = {}
    for index, mapping in enumerate(mappings):
        dimm = dimms.get(mapping.dimm)
        if dimm is None:
            continue
        identity = (dimm.serial, dimm.vendor, dimm.manufacturing_date, dimm.manufacturing_location)
        first = seen.setdefault(identity, index)
        if mapping.dimm == mappings[first].dimm and first != index:
            yield f"{path}.dimms[{index}]", f'the DIMM "{dimm.name}" is in this range twice'
        elif first != index:
            yield (
                f"{path}.dimms[{index}]",
                f'the DIMMs "{mappings[first].dimm}" and "{dimm.name}" have the same serial number; give each its own',
            )


def _capacity(
    range_: RangeDescription,
    path: str,
    dimms: dict[str, DimmDescription],
    taken: dict[str, list[tuple[int, int, str]]],
) -> Iterator[Problem]:
    """What a range takes of a DIMM must be there, and no other range's."""
    for index, mapping in enumerate(range_.mappings):
        dimm, own = dimms.get(mapping.dimm), f"{path}.dimms[{index}]"
        if dimm is None or mapping.size < 0:
            continue
        end = mapping.dpa + mapping.size
        if end > dimm.size:
            yield own, f'it ends at {end:#x}, and the DIMM "{dimm.name}" at {dimm.size:#x}; take less, or a larger DIMM'
        others = taken.setdefault(mapping.dimm, [])
        for first, last, other in others:
            if first < end and mapping.dpa < last:
                yield own, f'it overlaps {other} on the DIMM "{dimm.name}"; dpa {last:#x} is free of that'
        others.append((mapping.dpa, end, own))


def _namespaces(range_: RangeDescription, path: str, dimms: dict[str, DimmDescription]) -> Iterator[Problem]:
    if not range_.namespaces:
        return
    members = [dimms[mapping.dimm] for mapping in range_.mappings if mapping.dimm in dimms]
    if range_.kind is not RangeKind.PMEM or not members:
        yield f"{path}.namespace", "only a pmem range over DIMMs has labels that define namespaces"
        return
    blank = [dimm.name for dimm in members if not dimm.label.initialised]
    if blank:
        yield (
            f"{path}.namespace",
            f'the label area of the DIMM "{blank[0]}" is not initialised; write label = {{ initialised = "1.1" }}',
        )
    unit = PAGE_SIZE * len(members)
    end = range_.start
    for index, namespace in sorted(enumerate(range_.namespaces), key=lambda item: item[1].start):
        own = f"{path}.namespace[{index}]"
        yield from _namespace(namespace, own)
        if not namespace.size or namespace.size % unit or (namespace.start - range_.start) % unit:
            yield f"{own}.size", f"start in the range, and size, are to be multiples of {unit} bytes, a page a DIMM"
        elif namespace.start < end:
            yield f"{own}.start", f"{namespace.start:#x} is not free; the next that is free is {end:#x}"
        elif namespace.start + namespace.size > range_.end:
            yield f"{own}.size", f"it does not fit; there are {max(range_.end - namespace.start, 0)} bytes"
        end = max(end, namespace.start + namespace.size)


def _namespace(namespace: NamespaceDescription, path: str) -> Iterator[Problem]:
    yield from uuid_problem(namespace.uuid, f"{path}.uuid")
    yield from choice_problem(namespace.sector_size, (0, *LBASIZES), f"{path}.sector_size")
    if len(namespace.alt_name.encode()) >= LABEL_NAME_SIZE:  # a NUL ends it
        yield f"{path}.alt_name", f"it is too long for a label; the most is {LABEL_NAME_SIZE - 1} bytes"
    if namespace.holder_class not in HOLDER_CLASSES:
        yield f"{path}.holder_class", f'"{namespace.holder_class}" is none of btt, pfn, dax'
