"""A machine drawn with letters, for a terminal of 80 columns: address map, DIMMs, and what each range is made of."""

from __future__ import annotations

import string
import textwrap
from collections.abc import Iterator, Sequence

from nvdimmfs.cli.drawing.model import RAM, Bus, Entry, EntryKind, MachineDrawing, Module, Way, gaps_between
from nvdimmfs.cli.drawing.summary import gap_words, interleaving
from nvdimmfs.cli.sizes import short_size
from nvdimmfs.errors import printable
from nvdimmfs.machine_file.values import plain_size

#: Columns that a drawing fits into.
WIDTH = 80

#: Columns in which a DIMM shows which region has which part of it; what no region has is a dot.
_BAR_WIDTH = 24
_UNMAPPED = "."
_REGION_LETTERS = string.digits + string.ascii_letters

#: Columns for a DIMM's name in the table.
_NAME_WIDTH = 18


def machine_text(drawing: MachineDrawing) -> str:
    """The machine: its memory, and bus by bus its DIMMs and its ranges with what they are interleaved over."""
    return "\n".join(printable(line).rstrip() for line in _machine(drawing)) + "\n"


def map_lines(drawing: MachineDrawing, width: int = WIDTH) -> Iterator[str]:
    """The physical address map, a line for each range and for each gap."""
    yield "physical addresses"
    rows = []
    for entry, gap in gaps_between(drawing.entries):
        if gap:
            rows.append(("", *gap_words(entry, gap)))
        facts = "  ".join(fact for fact in (entry.name, interleaving(entry)) if fact)
        rows.append((f"{entry.start:#x}-{entry.end - 1:#x}", short_size(entry.size), facts))
    addresses, sizes = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    for address, size, facts in rows:
        yield _cut(f"  {address:<{addresses}}  {size:>{sizes}}  {facts}", width)


def _machine(drawing: MachineDrawing) -> Iterator[str]:
    yield drawing.title
    yield from _wrapped(drawing.description, "  ")
    yield ""
    ram = drawing.module(RAM)
    yield from _wrapped("  ".join((f"RAM {plain_size(ram.size)}", *ram.notes)), "")
    yield from drawing.notes
    yield ""
    yield from map_lines(drawing)
    for bus in drawing.buses:
        yield ""
        yield from _bus(drawing, bus)


def _bus(drawing: MachineDrawing, bus: Bus) -> Iterator[str]:
    yield from _wrapped(", ".join((f"{bus.name}: {bus.provider}", *bus.notes[:1])), "")
    yield from _wrapped("; ".join(bus.notes[1:]), "  ")
    modules = [module for module in drawing.modules if module.bus == bus.name]
    if modules:
        yield ""
        yield f"  {'DIMM':<8} {'name':<{_NAME_WIDTH}} {'size':>8}  {'regions on it':<{_BAR_WIDTH + 2}}  label area"
    for module in modules:
        yield from _dimm(module)
    for entry in sorted(drawing.entries, key=_region_number):
        if entry.bus == bus.name and entry.kind is EntryKind.PERSISTENT:
            yield ""
            yield from _range(entry)


def _region_number(entry: Entry) -> int:
    return int(entry.name.removeprefix("region")) if entry.kind is EntryKind.PERSISTENT else -1


def _dimm(module: Module) -> Iterator[str]:
    name, bar = _cut(module.alias, _NAME_WIDTH), _bar(module)
    labels = f"{plain_size(module.label_size)} {module.labels}" if module.label_size else module.labels
    yield f"  {module.name:<8} {name:<{_NAME_WIDTH}} {plain_size(module.size):>8}  [{bar}]  {labels}"
    yield from _wrapped(", ".join(module.notes), " " * 11)


def _bar(module: Module) -> str:
    """The DIMM from its first to its last address, a letter for the region that has most of it."""
    if module.size <= 0:
        return " " * _BAR_WIDTH
    columns = [_UNMAPPED] * _BAR_WIDTH
    for piece in module.pieces:
        if not piece.entry:
            continue
        first = piece.start * _BAR_WIDTH // module.size
        end = max(piece.end * _BAR_WIDTH // module.size, first + 1)
        number = int(piece.entry.removeprefix("region"))
        columns[first:end] = _REGION_LETTERS[number % len(_REGION_LETTERS)] * (min(end, _BAR_WIDTH) - first)
    return "".join(columns)


def _range(entry: Entry) -> Iterator[str]:
    about = [f"{entry.start:#x}-{entry.end - 1:#x}", plain_size(entry.size), *entry.notes]
    ways = [way for way in entry.ways if way.module != RAM]
    about += [f"{len(ways)} ways"] if len(ways) > 1 else []
    yield from _wrapped(f"{entry.name}  {'  '.join(about)}", "  ")
    yield from _boxes([_cell(way) for way in ways])
    for bar in entry.bars:
        if not bar.is_free:
            title = bar.title.removesuffix(f" in {entry.name}")
            words = [*bar.notes, title] if bar.notes else [title]
            yield from _wrapped(f"{' '.join(words)}  {bar.start:#x}-{bar.last:#x}  {plain_size(bar.size)}", "    ")


def _cell(way: Way) -> tuple[str, str]:
    """Two lines: which DIMM, and from where to where in it."""
    return way.module, f"{plain_size(way.start)}-{plain_size(way.start + way.size)}"


def _boxes(cells: Sequence[tuple[str, str]]) -> Iterator[str]:
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


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ")
