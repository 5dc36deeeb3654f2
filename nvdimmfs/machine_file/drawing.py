"""A machine drawn with letters, for a terminal of 80 columns."""

from __future__ import annotations

import itertools
import string
import textwrap
from collections.abc import Iterator

import attrs

from nvdimmfs.core.clock import ClockMode
from nvdimmfs.machine_file.model import (
    BusDescription,
    DimmDescription,
    LabelArea,
    MachineDescription,
    MappingDescription,
    RangeDescription,
)
from nvdimmfs.machine_file.values import plain_size, shown
from nvdimmfs.machine_file.words import PersistenceDomain, Security
from nvdimmfs.mm.e820 import E820Type
from nvdimmfs.mm.pc_memory_map import installed_memory, user_table

#: Columns that a drawing fits into.
WIDTH = 80

#: Columns in which a DIMM shows which region has which part of it; what no region has is a dot.
_BAR_WIDTH = 24
_UNMAPPED = "."
_REGION_LETTERS = string.digits + string.ascii_letters

#: Columns for a DIMM's name in the table, and in an interleave set.
_NAME_WIDTH = 18


def drawing(machine: MachineDescription) -> str:
    """A completed machine: its memory, and bus by bus its DIMMs and its ranges with what they are interleaved over."""
    return "\n".join(line.rstrip() for line in _machine(machine)) + "\n"


@attrs.define
class _Numbering:
    """What the kernel calls the devices: it counts on from bus to bus."""

    dimms: int = 0
    regions: int = 0


def _machine(machine: MachineDescription) -> Iterator[str]:
    yield machine.name
    yield from _wrapped(machine.description, "  ")
    yield ""
    yield f"RAM {plain_size(machine.ram)}"
    for start, end in installed_memory(machine.ram):
        yield f"  {start:#x}-{end - 1:#x}"
    if machine.clock is not ClockMode.REAL:
        yield f"clock {machine.clock.value}"
    numbering = _Numbering()
    for index, bus in enumerate(machine.buses):
        yield ""
        yield from _bus(bus, index, numbering)
    if machine.memmap:
        yield ""
        yield from _legacy(machine)


def _legacy(machine: MachineDescription) -> Iterator[str]:
    yield from _wrapped(f"e820: memmap={machine.memmap}", "")
    for entry in user_table(machine.memmap, machine.ram).entries:
        if entry.type == E820Type.PRAM:
            yield f"  {entry.start:#x}-{entry.end - 1:#x}  {plain_size(entry.size)}"


def _bus(bus: BusDescription, index: int, numbering: _Numbering) -> Iterator[str]:
    yield from _wrapped(f"ndbus{index}: {bus.provider}, below {bus.parent}", "")
    yield from _wrapped(_abilities(bus), "  ")
    numbers = {dimm.name: numbering.dimms + number for number, dimm in enumerate(bus.dimms_by_handle)}
    letters = {
        range_.range_index: _REGION_LETTERS[number % len(_REGION_LETTERS)]
        for number, range_ in enumerate(bus.ranges, numbering.regions)
    }
    if bus.dimms:
        yield ""
        yield f"  {'DIMM':<8} {'name':<{_NAME_WIDTH}} {'size':>8}  {'regions on it':<{_BAR_WIDTH + 2}}  label area"
        for dimm in bus.dimms_by_handle:
            yield from _dimm(dimm, numbers[dimm.name], _bar(bus, dimm, letters))
    for number, range_ in enumerate(bus.ranges, numbering.regions):
        yield ""
        yield from _range(range_, bus.is_read_only(range_), number, numbers)
    numbering.dimms += len(bus.dimms)
    numbering.regions += len(bus.ranges)


def _abilities(bus: BusDescription) -> str:
    domain = "" if bus.persistence_domain is PersistenceDomain.NONE else f"; persistent: {bus.persistence_domain.value}"
    return f"commands {' '.join(command.word for command in bus.commands) or 'none'}{domain}"


def _dimm(dimm: DimmDescription, number: int, bar: str) -> Iterator[str]:
    name = _cut(dimm.name, _NAME_WIDTH)
    yield f"  {f'nmem{number}':<8} {name:<{_NAME_WIDTH}} {plain_size(dimm.size):>8}  [{bar}]  {_label(dimm.label)}"
    remarks = [flag.value for flag in dimm.flags]
    if dimm.security is not Security.NONE:
        remarks.append(f"security {dimm.security.value}{', frozen' if dimm.frozen else ''}")
    remarks += ["locked"] if dimm.locked else []
    remarks += [] if dimm.control_region else ["no control region"]
    if remarks:
        yield from _wrapped(", ".join(remarks), " " * 11)


def _bar(bus: BusDescription, dimm: DimmDescription, letters: dict[int, str]) -> str:
    """The DIMM from its first to its last address, a letter for the region that has most of it."""
    if dimm.size <= 0:
        return " " * _BAR_WIDTH
    columns = [_UNMAPPED] * _BAR_WIDTH
    for range_ in bus.ranges:
        for mapping in range_.mappings:
            if mapping.dimm != dimm.name:
                continue
            first = mapping.dpa * _BAR_WIDTH // dimm.size
            end = max((mapping.dpa + mapping.size) * _BAR_WIDTH // dimm.size, first + 1)
            columns[first:end] = letters[range_.range_index] * (min(end, _BAR_WIDTH) - first)
    return "".join(columns)


def _label(label: LabelArea) -> str:
    if not label.size:
        return "none"
    contents = {"v" + label.initialised: label.initialised, "text": label.text, "hex": label.hex, "file": label.file}
    content = next((name for name, value in contents.items() if value), "zeros")
    return f"{plain_size(label.size)} {content}"


def _range(range_: RangeDescription, read_only: bool, number: int, numbers: dict[str, int]) -> Iterator[str]:
    about = [
        f"{range_.start:#x}-{range_.end - 1:#x}",
        plain_size(range_.size),
        range_.kind.value,
        f"index {range_.range_index}",
        f"node {range_.numa_node}",
    ]
    about += ["read-only"] if read_only else []
    about += [f"{len(range_.mappings)} ways"] if len(range_.mappings) > 1 else []
    yield from _wrapped(f"region{number}  {'  '.join(about)}", "  ")
    yield from _boxes([_cell(mapping, numbers[mapping.dimm]) for mapping in _in_order(range_.mappings)])
    for namespace in range_.namespaces:
        name = f" {shown(namespace.alt_name)}" if namespace.alt_name else ""
        end = namespace.start + namespace.size - 1
        yield from _wrapped(
            f"{namespace.uuid}{name}  {namespace.start:#x}-{end:#x}  {plain_size(namespace.size)}", "    "
        )


def _in_order(mappings: tuple[MappingDescription, ...]) -> list[MappingDescription]:
    return sorted(mappings, key=lambda mapping: mapping.position)


def _cell(mapping: MappingDescription, number: int) -> tuple[str, str]:
    """Two lines: which DIMM, and from where to where in it."""
    return f"nmem{number}", f"{plain_size(mapping.dpa)}-{plain_size(mapping.dpa + mapping.size)}"


def _boxes(cells: list[tuple[str, str]]) -> Iterator[str]:
    """Cells in a row, in as many rows as they need."""
    if not cells:
        return
    border = ""
    width = max(len(line) for cell in cells for line in cell) + 2
    per_row = max((WIDTH - 5) // (width + 1), 1)
    for first in range(0, len(cells), per_row):
        row = cells[first : first + per_row]
        border = "    +" + f"{'-' * width}+" * len(row)
        yield border
        for line in range(2):
            yield "    |" + "".join(f"{cell[line]:^{width}}|" for cell in row)
    yield border


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}~"


def _wrapped(text: str, indent: str) -> Iterator[str]:
    return itertools.chain.from_iterable(
        textwrap.wrap(line, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ") or [""]
        for line in text.splitlines()
    )
