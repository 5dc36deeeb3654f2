"""A drawing as text: a bar to scale and a table of exact numbers for each range."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from nvdimmfs.cli.drawing.bars import ARENAS, MIXED_SLOTS, Bar, Segment
from nvdimmfs.cli.drawing.machine_text import map_lines
from nvdimmfs.cli.drawing.model import MachineDrawing
from nvdimmfs.cli.drawing.scale import shares
from nvdimmfs.cli.sizes import short_size
from nvdimmfs.units import exact_size

#: Columns of what is no terminal, and the most that a bar uses.
PLAIN_WIDTH = 80
MOST_WIDTH = 120

#: The character that fills a segment.
GLYPHS = {
    "idle": " ",
    "free": " ",
    "raw": "=",
    "data": "=",
    "system_ram": "R",
    "start_pad": "x",
    "info": "i",
    "memmap": "M",
    "padding": ".",
    "end_trunc": "x",
    "map": "m",
    "log": "l",
    "info_copy": "i",
    "unused": "x",
    "index": "i",
    "labels": "L",
    "free_slots": ".",
    MIXED_SLOTS: "L",
    ARENAS: "A",
}

#: The colour behind a segment, out of the terminal's own sixteen; the empty ones keep the terminal's background.
COLOURS = {
    "raw": "blue",
    "data": "green",
    "system_ram": "blue",
    "start_pad": "bright_black",
    "info": "red",
    "memmap": "yellow",
    "padding": "bright_black",
    "end_trunc": "bright_black",
    "map": "cyan",
    "log": "magenta",
    "info_copy": "red",
    "unused": "bright_black",
    "index": "red",
    "labels": "cyan",
    "free_slots": "bright_black",
    MIXED_SLOTS: "cyan",
    ARENAS: "green",
}

#: Stands for a blank at which no line may end; `textwrap` knows only the blanks of ASCII.
_NO_BREAK = "\xa0"


def draw_plain(drawing: MachineDrawing, width: int = PLAIN_WIDTH) -> str:
    """The address map and every bar in plain characters."""
    return "\n".join(_joined(lines) for lines in (map_lines(drawing, width), *_plain_bars(drawing.bars, width)))


def draw_on_terminal(drawing: MachineDrawing) -> None:
    """Print the drawing in colour, where the terminal has any and its user wants it (NO_COLOR, TERM)."""
    from rich.console import Console  # a fifteenth of a second, so it is imported only where colours are printed
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    width = min(console.width, MOST_WIDTH)
    if console.color_system is None or console.no_color:
        print(draw_plain(drawing, width), end="")
        return
    print(_joined(map_lines(drawing, width)), end="")
    for bar in drawing.bars:
        cells = _cells(bar, width - 2)
        picture = Text("|")
        for segment, count in zip(bar.segments, cells, strict=True):
            picture.append(_glyph(segment).strip()[:count].ljust(count), _style(segment))
        picture.append("|")
        swatches = [Text(f" {_glyph(segment)} ", _style(segment)) for segment in bar.segments]
        heading = _heading(bar, width)
        console.print("", Text(heading[0], "bold"), *heading[1:], picture, sep="\n")
        for swatch, row in zip(swatches, _table(bar, width - 7), strict=True):
            console.print(Text("  ") + swatch + Text(f"  {row}"), overflow="ignore", no_wrap=True)


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _plain_bars(bars: Iterable[Bar], width: int) -> Iterator[Iterator[str]]:
    for bar in bars:
        yield _plain_bar(bar, width)


def _plain_bar(bar: Bar, width: int) -> Iterator[str]:
    yield from _heading(bar, width)
    cells = _cells(bar, width - 2)
    filled = (_glyph(segment) * count for segment, count in zip(bar.segments, cells, strict=True))
    yield f"|{''.join(filled)}|"
    for segment, row in zip(bar.segments, _table(bar, width - 7), strict=True):
        yield f"   {_glyph(segment)}   {row}"


def _heading(bar: Bar, width: int) -> list[str]:
    """Title, notes, and the addresses at both ends of the bar."""
    title = f"{bar.title}: {short_size(bar.size)}"
    unbroken = "; ".join(note.replace(" ", _NO_BREAK) for note in bar.notes)
    notes = textwrap.wrap(unbroken, width, initial_indent="  ", subsequent_indent="  ")
    notes = [line.replace(_NO_BREAK, " ") for line in notes]
    first, last = f"{bar.start:#x}", f"{bar.last:#x}"
    return [title, *notes, first + last.rjust(width - len(first))]


def _glyph(segment: Segment) -> str:
    return GLYPHS.get(segment.kind, "?")


def _style(segment: Segment) -> str:
    colour = COLOURS.get(segment.kind)
    return f"black on {colour}" if colour else ""


def _table(bar: Bar, width: int) -> list[str]:
    """Address, offset and size of each segment, exact, and what it is."""
    cells = [(f"{part.start:#x}", f"+{part.start - bar.start:#x}", exact_size(part.size)) for part in bar.segments]
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    rows = [f"{start:<{widths[0]}}  {offset:<{widths[1]}}  {size:>{widths[2]}}  " for start, offset, size in cells]
    return [row + _name(segment, width - len(row)) for row, segment in zip(rows, bar.segments, strict=True)]


def _name(segment: Segment, width: int) -> str:
    """What it is; with a rough size where the exact one is hard to take in, if there is room for it."""
    size = short_size(segment.size)
    explained = f"{segment.name}, {size}"
    return segment.name if size == exact_size(segment.size) or len(explained) > width else explained


def _cells(bar: Bar, width: int) -> list[int]:
    """How many characters each segment gets: at least one, and else its share."""
    return shares([segment.size for segment in bar.segments], width, 1)
