"""The checks of the ranges of a machine."""

from __future__ import annotations

import re
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

#: Values of `holder_class` (drivers/nvdimm/namespace_devs.c, Linux 6.1).
HOLDER_CLASSES = ("", "btt", "pfn", "dax")

_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_SECTOR = 512
_LARGEST_INDEX = (1 << 16) - 1


def choice_problem(value: int, choices: Iterable[int], path: str) -> Iterator[Problem]:
    """Yield an error if a number is not one of the choices."""
    if value not in choices:
        yield path, f"{value} is not one of {', '.join(map(str, choices))}"


def uuid_problem(text: str, path: str) -> Iterator[Problem]:
    """Yield an error if a text is not a UUID with 8-4-4-4-12 digits, which the kernel requires."""
    if not _UUID.fullmatch(text):
        yield path, f'"{text}" is not a UUID such as 01234567-89ab-cdef-0123-456789abcdef'


def range_problems(bus: BusDescription, path: str) -> Iterator[Problem]:
    """Yield all errors of the ranges of a bus, except overlaps in memory."""
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
                yield f"{own}.badblocks[{index}]", f"not within the {range_.size // _SECTOR} sectors of the range"


def _extent(range_: RangeDescription, path: str) -> Iterator[Problem]:
    if range_.size < 0:
        yield f"{path}.size", "missing; give the range a size, or DIMMs"
    elif not range_.size or range_.size % PAGE_SIZE:
        right = max(align_down(range_.size, PAGE_SIZE), PAGE_SIZE)
        yield f"{path}.size", f"{range_.size} is not a multiple of 4 KiB; write for example {right}"
    elif range_.start % PAGE_SIZE:
        right = min(align_up(range_.start, PAGE_SIZE), (1 << PHYSICAL_BITS) - PAGE_SIZE)
        yield f"{path}.start", f"{range_.start:#x} is not a multiple of 4 KiB; write for example {right:#x}"
    elif range_.end > 1 << PHYSICAL_BITS:
        yield f"{path}.start", f"range ends at {range_.end:#x}; physical addresses end at {1 << PHYSICAL_BITS:#x} (4P)"


def _range_index(range_: RangeDescription, path: str, indexes: dict[int, str]) -> Iterator[Problem]:
    index = range_.range_index
    if range_.kind.is_virtual:
        if index:
            yield f"{path}.range_index", f"{index} is for ranges with DIMMs; a {range_.kind.value} has 0"
    elif not 0 < index <= _LARGEST_INDEX:
        yield f"{path}.range_index", f"{index} is not a valid index; write 1 to {_LARGEST_INDEX}"
    elif indexes.setdefault(index, path) != path:
        yield f"{path}.range_index", f"{index} is also the index of {indexes[index]}; indexes must be unique on a bus"


def _mappings(range_: RangeDescription, path: str, dimms: dict[str, DimmDescription]) -> Iterator[Problem]:
    mappings = range_.mappings
    if mappings and range_.kind.is_virtual:
        yield f"{path}.dimms", f"the firmware creates a {range_.kind.value} without DIMMs; remove them"
        return
    if len(mappings) > MAXIMUM_MAPPINGS:
        yield f"{path}.dimms", f"{len(mappings)} DIMMs are too many; the kernel's maximum is {MAXIMUM_MAPPINGS}"
    for index, mapping in enumerate(mappings):
        yield from _mapping(mapping, f"{path}.dimms[{index}]", dimms)
    if not mappings or any(mapping.size < 0 for mapping in mappings):
        return
    total = sum(mapping.size for mapping in mappings)
    if range_.size >= 0 and total != range_.size:
        yield f"{path}.size", f"{range_.size} is not the sum of its DIMMs; write {total}, or omit size"
    yield from _order(mappings, path)
    yield from _identities(mappings, path, dimms)


def _mapping(mapping: MappingDescription, path: str, dimms: dict[str, DimmDescription]) -> Iterator[Problem]:
    dimm = dimms.get(mapping.dimm)
    if dimm is None:
        yield path, f'no DIMM "{mapping.dimm}" on this bus{_suggestion(mapping.dimm, dimms)}'
        return
    if not dimm.control_region:
        yield path, f'the DIMM "{dimm.name}" has no control region, so no range can use it'
    if mapping.size < 0:
        full = dimm.size >= 0 and mapping.dpa >= dimm.size
        why = f'the DIMM "{dimm.name}" has no free space' if full else f'the size of the DIMM "{dimm.name}" is unknown'
        yield f"{path}.size", f"{why}; give the DIMM or the range a size"
        return
    for key in ("dpa", "size"):
        value: int = getattr(mapping, key)
        if value % PAGE_SIZE or (key == "size" and not value):
            right = max(align_down(value, PAGE_SIZE), PAGE_SIZE)
            yield f"{path}.{key}", f"{value:#x} is not a multiple of 4 KiB; write for example {right:#x}"


def _suggestion(name: str, dimms: dict[str, DimmDescription]) -> str:
    import difflib  # which few machine files need

    close = difflib.get_close_matches(name, dimms, 1)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; its DIMMs are {', '.join(dimms)}" if dimms else "; add a [[bus.dimm]]"


def _order(mappings: tuple[MappingDescription, ...], path: str) -> Iterator[Problem]:
    """Check positions and region offsets; the kernel determines the positions by sorting the offsets."""
    if len({mapping.region_offset for mapping in mappings}) < len(mappings):
        yield f"{path}.dimms", "two DIMMs have the same region_offset, which determines their order; make them unique"
        return
    offsets = sorted(mapping.region_offset for mapping in mappings)
    for index, mapping in enumerate(mappings):
        right = offsets.index(mapping.region_offset)
        if mapping.position != right:
            yield (
                f"{path}.dimms[{index}].position",
                f"{mapping.position} does not match region_offset, which gives position {right}; omit one of the two",
            )


def _identities(
    mappings: tuple[MappingDescription, ...], path: str, dimms: dict[str, DimmDescription]
) -> Iterator[Problem]:
    """Check that the DIMMs of a set have different identities, which the kernel and labels rely on."""
    seen: dict[tuple[int, ...], int] = {}
    for index, mapping in enumerate(mappings):
        dimm = dimms.get(mapping.dimm)
        if dimm is None:
            continue
        identity = (dimm.serial, dimm.vendor, dimm.manufacturing_date, dimm.manufacturing_location)
        first = seen.setdefault(identity, index)
        if mapping.dimm == mappings[first].dimm and first != index:
            yield f"{path}.dimms[{index}]", f'the range lists the DIMM "{dimm.name}" twice'
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
    """Check that the mappings of a range fit into their DIMMs and do not overlap those of other ranges."""
    for index, mapping in enumerate(range_.mappings):
        dimm, own = dimms.get(mapping.dimm), f"{path}.dimms[{index}]"
        if dimm is None or mapping.size < 0:
            continue
        end = mapping.dpa + mapping.size
        if end > dimm.size:
            yield own, f'it ends at {end:#x}, but the DIMM "{dimm.name}" at {dimm.size:#x}; use less, or a larger DIMM'
        others = taken.setdefault(mapping.dimm, [])
        for first, last, other in others:
            if first < end and mapping.dpa < last:
                yield own, f'it overlaps {other} on the DIMM "{dimm.name}"; a dpa of {last:#x} or more avoids that'
        others.append((mapping.dpa, end, own))


def _namespaces(range_: RangeDescription, path: str, dimms: dict[str, DimmDescription]) -> Iterator[Problem]:
    if not range_.namespaces:
        return
    members = [dimms[mapping.dimm] for mapping in range_.mappings if mapping.dimm in dimms]
    if range_.kind is not RangeKind.PMEM or not members:
        yield f"{path}.namespace", "only a pmem range with DIMMs has labels, which define namespaces"
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
            yield (
                f"{own}.size",
                f"size, and start within the range, must be multiples of {unit} bytes, one page for each DIMM",
            )
        elif namespace.start < end:
            yield f"{own}.start", f"{namespace.start:#x} is not free; the next free address is {end:#x}"
        elif namespace.start + namespace.size > range_.end:
            yield f"{own}.size", f"too large; the range has {max(range_.end - namespace.start, 0)} bytes left"
        end = max(end, namespace.start + namespace.size)


def _namespace(namespace: NamespaceDescription, path: str) -> Iterator[Problem]:
    yield from uuid_problem(namespace.uuid, f"{path}.uuid")
    yield from choice_problem(namespace.sector_size, (0, *LBASIZES), f"{path}.sector_size")
    if "\0" in namespace.alt_name:
        yield f"{path}.alt_name", "a name ends at its first NUL; remove it"
    if len(namespace.alt_name.encode()) >= LABEL_NAME_SIZE:  # which includes the final NUL
        yield f"{path}.alt_name", f"too long for a label; the maximum is {LABEL_NAME_SIZE - 1} bytes"
    if namespace.holder_class not in HOLDER_CLASSES:
        yield f"{path}.holder_class", f'"{namespace.holder_class}" is not one of btt, pfn, dax'
