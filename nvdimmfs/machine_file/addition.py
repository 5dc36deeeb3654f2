"""DIMMs and ranges that are plugged into a machine that is described: the text that adds them, read and checked.

Two forms.  A text in TOML has the words of a machine file:

    [[bus.dimm]]
    size = "1G"
    [[bus.range]]
    dimms = ["0x3"]

One line adds a DIMM with a range over all of it, as QEMU's `device_add nvdimm` does: `dimm size=1G label=128K node=0`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from nvdimmfs.machine_file.checks import problems
from nvdimmfs.machine_file.defaults import completed
from nvdimmfs.machine_file.errors import MachineFileError
from nvdimmfs.machine_file.files import error_lines
from nvdimmfs.machine_file.model import (
    BusDescription,
    DimmDescription,
    MachineDescription,
    MappingDescription,
    RangeDescription,
    section,
)
from nvdimmfs.machine_file.ram import installed_ram, nodes_of
from nvdimmfs.machine_file.reader import NotAMachine, read_table, structured
from nvdimmfs.machine_file.values import TO_BE_CHOSEN, parse_size
from nvdimmfs.mm.pc_memory_map import installed_memory

#: The first word of a text that is one line.
_DIMM = "dimm"

#: What the errors name as the file.
_PLUG = "plug"


@attrs.frozen
class BusAddition:
    """What is added to a bus.

    Attributes:
        provider: the provider of the bus; by default the first bus.
        dimms: its new DIMMs.
        ranges: its new ranges.
    """

    provider: str = ""
    dimms: tuple[DimmDescription, ...] = section("dimm")
    ranges: tuple[RangeDescription, ...] = section("range")


@attrs.frozen
class Addition:
    """The whole text."""

    bus: BusAddition = BusAddition()


for _class in (BusAddition, Addition):
    attrs.resolve_types(_class, globals(), include_extras=True)

#: The other words of a line, and where their values belong.
_DIMM_WORDS = ("name", "handle", "size", "serial")
_RANGE_WORDS = ("start", "range_index")
#: Those of the label area, and its keys: `label=128K`, and `initialised=1.1` for empty index blocks.
_LABEL_KEYS = {"label": "size", "initialised": "initialised"}
_NODE = "node"
_WORDS = (*_DIMM_WORDS, *_LABEL_KEYS, *_RANGE_WORDS, _NODE)


@attrs.frozen
class Extended:
    """A machine with more DIMMs and ranges.

    Attributes:
        machine: the machine.
        before: the bus as it was.
        bus: the bus as it is.
    """

    machine: MachineDescription
    before: BusDescription
    bus: BusDescription

    @property
    def new_ranges(self) -> tuple[RangeDescription, ...]:
        """The ranges that were added."""
        return self.bus.ranges[len(self.before.ranges) :]

    @property
    def new_dimms(self) -> tuple[DimmDescription, ...]:
        """The DIMMs that were added."""
        return self.bus.dimms[len(self.before.dimms) :]


def extended(machine: MachineDescription, text: str) -> Extended:
    """Add what a text describes to a completed machine.  Values that the text omits are chosen as in a machine file.

    Raises:
        MachineFileError: with all errors of the text.
    """
    is_line = text.split()[:1] == [_DIMM]
    try:
        addition = structured(_document_of_line(text) if is_line else _document(text), Addition).bus
    except NotAMachine as error:
        raise MachineFileError(error_lines(_PLUG, error.problems)) from None
    bus = _bus_of(machine, addition.provider)
    dimms = tuple(_with_handles(addition.dimms, bus))
    ranges = addition.ranges
    if is_line:
        ranges = (attrs.evolve(ranges[0], mappings=(MappingDescription(dimms[0].name),)),)
    result = _completed(machine, bus, dimms, ranges)
    found = [*_problems(result), *_memory_problems(machine, result), *problems(result.machine)]
    if found:
        raise MachineFileError(error_lines(_PLUG, found))
    return result


def _document(text: str) -> dict[str, Any]:
    """The content of a text in TOML, in which [[bus]] may stand for [bus].  NotAMachine."""
    document = read_table(text)
    bus = document.get("bus")
    if isinstance(bus, list) and len(bus) == 1:
        document["bus"] = bus[0]
    return document


def _document_of_line(text: str) -> dict[str, Any]:
    """The content of `dimm KEY=VALUE ...` as a machine file has it.  NotAMachine."""
    values: dict[str, str] = {}
    for word in text.split()[1:]:
        key, separator, value = word.partition("=")
        if key not in _WORDS or not separator:
            raise NotAMachine([("", f'"{word}" is not one of the words {", ".join(f"{each}=..." for each in _WORDS)}')])
        if key in values:
            raise NotAMachine([("", f'"{key}" is there twice')])
        values[key] = value
    if "size" not in values:
        raise NotAMachine([("", "the size of the DIMM is missing; write for example: dimm size=1G")])
    if parse_size(values["size"]) == 0:
        raise NotAMachine([("", "a DIMM of size 0 has nothing to plug in; write for example: dimm size=1G")])
    label = {key: values[word] for word, key in _LABEL_KEYS.items() if values.get(word)}
    dimm = {key: values[key] for key in _DIMM_WORDS if key in values} | ({"label": label} if label else {})
    range_: dict[str, object] = {"start": values["start"]} if "start" in values else {}
    for word, keys in {"range_index": ("range_index",), _NODE: ("numa_node", "target_node")}.items():
        if word in values:
            number = int(values[word]) if values[word].isdecimal() else values[word]
            range_ |= dict.fromkeys(keys, number)
    return {"bus": {"dimm": [dimm], "range": [range_]}}


def _bus_of(machine: MachineDescription, provider: str) -> BusDescription:
    """The bus of that provider; the first one for no name."""
    for bus in machine.buses:
        if bus.has_nfit and provider in ("", bus.provider):
            return bus
    problem = f'the machine has no bus with the provider "{provider}"' if provider else "the machine has no NFIT bus"
    raise MachineFileError(error_lines(_PLUG, [("bus", f"{problem}; its machine file needs a [[bus]]")]))


def _with_handles(dimms: tuple[DimmDescription, ...], bus: BusDescription) -> Iterator[DimmDescription]:
    """Give DIMMs without a handle the numbers after the largest one, as the slots of QEMU."""
    largest = max((dimm.handle for dimm in bus.dimms), default=0)
    for dimm in dimms:
        handle = largest + 1 if dimm.handle == TO_BE_CHOSEN else dimm.handle
        largest = max(largest, handle)
        yield attrs.evolve(dimm, handle=handle, name=dimm.name or f"{handle:#x}")


def _completed(
    machine: MachineDescription,
    bus: BusDescription,
    dimms: tuple[DimmDescription, ...],
    ranges: tuple[RangeDescription, ...],
) -> Extended:
    """Fill in omitted values.  Addresses are chosen above those of all buses, so the bus comes last meanwhile."""
    place = machine.buses.index(bus)
    longer = attrs.evolve(bus, dimms=(*bus.dimms, *dimms), ranges=(*bus.ranges, *ranges))
    others = (*machine.buses[:place], *machine.buses[place + 1 :])
    *others_completed, new = completed(attrs.evolve(machine, buses=(*others, longer))).buses
    buses = (*others_completed[:place], new, *others_completed[place:])
    return Extended(attrs.evolve(machine, buses=buses), bus, new)


def _memory_problems(machine: MachineDescription, result: Extended) -> Iterator[tuple[str, str]]:
    """Errors of new ranges that are in the way of the RAM of the running machine, or of a node that it cannot have."""
    ram = installed_memory(installed_ram(machine))
    nodes = nodes_of(machine).possible
    for index, range_ in enumerate(result.new_ranges):
        path = f"bus.range[{index}]"
        for span in ram:
            if range_.start < span.end and span.start < range_.end:
                where = f"{range_.start:#x}-{range_.end - 1:#x} overlaps RAM ({span.start:#x}-{span.end - 1:#x})"
                yield f"{path}.start", f"{where}; omit start"
        for key in ("numa_node", "target_node"):
            node: int = getattr(range_, key)
            if node >= 0 and node not in nodes:
                yield f"{path}.{key}", f"the machine has no node {node}; its tables name nodes 0-{max(nodes)}"


def _problems(result: Extended) -> Iterator[tuple[str, str]]:
    """Errors that a text for a running machine has, and a machine file has not."""
    new = {dimm.name for dimm in result.new_dimms}
    for index, dimm in enumerate(result.new_dimms):
        if dimm.label.file:
            yield f"bus.dimm[{index}].label.file", "a running machine reads no files; write hex or text"
    for index, range_ in enumerate(result.new_ranges):
        if range_.namespaces and not {mapping.dimm for mapping in range_.mappings} <= new:
            yield (
                f"bus.range[{index}].namespace",
                "its DIMMs must be plugged together with it: others have labels already",
            )
    if not result.new_dimms and not result.new_ranges:
        yield "", "nothing to add; write for example: dimm size=1G"
