"""The left column of a picture: memory modules, cut into the pieces that ranges are made of."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator
from typing import Protocol

from nvdimmfs.cli.drawing.canvas import Canvas
from nvdimmfs.cli.drawing.lettering import Styles, width_of, wrapped
from nvdimmfs.cli.drawing.model import RAM, Bus, MachineDrawing, Module, Piece
from nvdimmfs.cli.drawing.palette import PARTS
from nvdimmfs.cli.drawing.scale import shares
from nvdimmfs.cli.drawing.summary import span
from nvdimmfs.cli.drawing.svg_colours import Colours
from nvdimmfs.cli.sizes import short_size
from nvdimmfs.units import exact_size

#: Where the column's texts and bars are, in pixels from the left.
TEXT_LEFT, TEXT_RIGHT = 24, 212
BAR_LEFT, BAR_RIGHT = 220, 310

_LINE = 15
_LABEL_TAB = 6
_LABEL_GAP = 3
_LEAST_LETTERED = 16


class Detail(enum.IntEnum):
    """How many facts stand beside a module."""

    NAME = 0
    LABELS = 1
    ALL = 2


class Block(Protocol):
    """A part of a column."""

    height: float

    def draw(self, canvas: Canvas, y: float) -> None:
        """Draw it at a height."""


class BusBlock:
    """The heading over the modules of a bus."""

    height = 16.0

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def draw(self, canvas: Canvas, y: float) -> None:
        words = f"{self._bus.name} {self._bus.provider}".strip()
        canvas.text(TEXT_LEFT, y + 12, words, Styles.HEADING, BAR_RIGHT - TEXT_LEFT)


class ModuleBlock:
    """A module: its name and facts, and a bar of its pieces.

    Attributes:
        module: the module.
        height: pixels.
        edges: by number of the piece, where it begins and ends below the block's top.
    """

    def __init__(self, module: Module, detail: Detail, colours: Colours) -> None:
        self.module = module
        self._colours = colours
        self._lines = list(_lines(module, detail))
        self._least = _LEAST_LETTERED if detail else 4
        tab = _LABEL_TAB + _LABEL_GAP if module.label_size else 0
        self._tab = tab
        self.edges: list[tuple[float, float]] = []
        self.height = 0.0
        self._set_bar(max(_LINE * (1 + len(self._lines)) + 2 - tab, self._least * max(1, len(module.pieces))))

    def stretch(self, factor: float) -> None:
        """Make the bar longer."""
        self._set_bar(int((self.height - self._tab) * factor))

    def _set_bar(self, bar: int) -> None:
        pieces = self.module.pieces
        self._bar = bar
        self.height = float(bar + self._tab)
        least = min(self._least, bar // max(1, len(pieces)))
        ends = list(itertools.accumulate(shares([piece.size for piece in pieces], bar, least)))
        self.edges = list(itertools.pairwise([0, *ends]))

    def draw(self, canvas: Canvas, y: float) -> None:
        module = self.module
        size = canvas.text(TEXT_RIGHT, y + 12, short_size(module.size), Styles.TEXT, 90, at_end=True)
        name = "Installed RAM" if module.name == RAM else module.name
        room = TEXT_RIGHT - TEXT_LEFT - size - 6
        used = canvas.text(TEXT_LEFT, y + 12, name, Styles.NAME, room)
        if module.alias and _alias_beside_name(module):
            canvas.text(TEXT_LEFT + used + 6, y + 12, module.alias, Styles.SMALL, room - used - 6)
        for number, line in enumerate(self._lines, 1):
            canvas.text(TEXT_LEFT, y + 12 + _LINE * number, line, Styles.SMALL, TEXT_RIGHT - TEXT_LEFT)
        for piece, (top, bottom) in zip(module.pieces, self.edges, strict=True):
            self._draw_piece(canvas, piece, y + top, y + bottom)
        if module.label_size:
            self._draw_label_area(canvas, y + self._bar + _LABEL_GAP, module.labels_used)

    def _draw_label_area(self, canvas: Canvas, y: float, used: float) -> None:
        width = BAR_RIGHT - BAR_LEFT
        if used:
            canvas.rectangle((BAR_LEFT, y, max(3, width * used), _LABEL_TAB), "tile", PARTS["labels"])
        tooltip = f"label area of {self.module.name}, {exact_size(self.module.label_size)}: {self.module.labels}"
        canvas.rectangle((BAR_LEFT + 0.5, y + 0.5, width - 1, _LABEL_TAB - 1), "labels", "", tooltip)

    def _draw_piece(self, canvas: Canvas, piece: Piece, top: float, bottom: float) -> None:
        width = BAR_RIGHT - BAR_LEFT
        colour = self._colours.of_piece(self.module.name, piece)
        used = piece.entry or "in no range"
        tooltip = f"{self.module.name} {piece.start:#x}-{piece.end - 1:#x}, {exact_size(piece.size)}: {used}"
        inset = 0 if colour else 0.5
        place = (BAR_LEFT + inset, top + inset, width - 2 * inset, bottom - top - 1 - inset)
        canvas.rectangle(place, "tile" if colour else "free", colour, tooltip)
        if bottom - top >= _LEAST_LETTERED - 1:
            text, style = (span(piece), Styles.ON_COLOUR) if colour else ("unmapped", Styles.SMALL)
            if width_of(text, style) > width - 10:
                text = short_size(piece.size)
            canvas.text(BAR_LEFT + 6, (top + bottom) / 2 + 3.5, text, style, width - 10)


def module_blocks(drawing: MachineDrawing, room: float, gap: float, colours: Colours) -> list[Block]:
    """The column, in as much detail as there is room for."""
    for detail in sorted(Detail, reverse=True):
        blocks = list(_blocks(drawing, detail, colours))
        if sum(block.height + gap for block in blocks) <= room:
            return blocks
    return list(_blocks(drawing, Detail.NAME, colours))


def _blocks(drawing: MachineDrawing, detail: Detail, colours: Colours) -> Iterator[Block]:
    buses = {bus.name: bus for bus in drawing.buses}
    current = ""
    for module in drawing.modules:
        if module.bus != current:
            current = module.bus
            yield BusBlock(buses.get(current, Bus(current, "")))
        yield ModuleBlock(module, detail, colours)


def _lines(module: Module, detail: Detail) -> Iterator[str]:
    room = TEXT_RIGHT - TEXT_LEFT
    if detail >= Detail.LABELS and module.name != RAM:
        line = f"label area {exact_size(module.label_size)}: {module.labels}"
        fits = module.label_size and width_of(line, Styles.SMALL) <= room
        yield line if fits else f"labels: {module.labels}"
    if detail is Detail.ALL:
        facts = module.notes if _alias_beside_name(module) else (module.alias, *module.notes)
        yield from wrapped(", ".join(filter(None, facts)).split(), Styles.SMALL, room, most=3)


def _alias_beside_name(module: Module) -> bool:
    """Whether the first line has room for its name in the machine file."""
    texts = ((module.name, Styles.NAME), (module.alias, Styles.SMALL), (short_size(module.size), Styles.TEXT))
    return sum(width_of(*text) + 6 for text in texts) <= TEXT_RIGHT - TEXT_LEFT
