"""The middle column of a picture: the physical address map, and the bands that lead to it and from it."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from nvdimmfs.cli.drawing import svg_entries, svg_modules
from nvdimmfs.cli.drawing.canvas import Canvas
from nvdimmfs.cli.drawing.lettering import Styles
from nvdimmfs.cli.drawing.model import Entry, gaps_between
from nvdimmfs.cli.drawing.palette import UNKNOWN
from nvdimmfs.cli.drawing.scale import height_of
from nvdimmfs.cli.drawing.summary import gap_words, interleaving
from nvdimmfs.cli.drawing.svg_colours import Colours
from nvdimmfs.cli.drawing.svg_modules import ModuleBlock
from nvdimmfs.units import exact_size

#: Where the bar and the addresses are, in pixels from the left.
LEFT, RIGHT = 400, 464
ADDRESS_LEFT, ADDRESS_RIGHT = 472, 580

#: The part of the bar in which each way has a block of its own, before they are interleaved.
_FAN = 8

_GAP = 3
_BREAK = 25
_MOST_STRETCH = 2.2

#: How often the ways of a set take turns in the picture, if there is room.
_TURNS = 4


@attrs.frozen
class Slot:
    """Where an entry is in the picture, and how many bytes are between it and the entry before it.

    Attributes:
        top, bottom: pixels from the top.
    """

    entry: Entry
    gap: int
    top: float
    bottom: float

    @property
    def centre(self) -> float:
        return (self.top + self.bottom) / 2

    def way_edges(self, index: int) -> tuple[float, float]:
        """Where a way of the entry begins and ends."""
        share = (self.bottom - self.top) / len(self.entry.ways)
        return self.top + index * share, self.top + (index + 1) * share


def least_height(entries: Sequence[Entry]) -> float:
    """What the map needs, in pixels."""
    gaps = [gap for _, gap in gaps_between(entries)]
    return sum(height_of(entry.size) for entry in entries) + sum(_before(index, gap) for index, gap in enumerate(gaps))


def placed(entries: Sequence[Entry], top: float, bottom: float) -> list[Slot]:
    """The map between two heights: stretched as far as is reasonable, and centred."""
    fixed = sum(_before(index, gap) for index, (_, gap) in enumerate(gaps_between(entries)))
    scaled = sum(height_of(entry.size) for entry in entries) or 1
    stretch = min(_MOST_STRETCH, (bottom - top - fixed) / scaled)
    y = top + max(0, (bottom - top - fixed - scaled * stretch) / 2)
    slots = []
    for index, (entry, gap) in enumerate(gaps_between(entries)):
        y += _before(index, gap)
        height = height_of(entry.size) * stretch
        slots.append(Slot(entry, gap, y, y + height))
        y += height
    return slots


def draw_map(canvas: Canvas, slots: Sequence[Slot], colours: Colours) -> None:
    """The bar and its addresses."""
    for slot in slots:
        if slot.gap:
            _draw_break(canvas, slot)
        _draw_bar(canvas, slot, colours)
        room = ADDRESS_RIGHT - ADDRESS_LEFT
        canvas.text(ADDRESS_LEFT, slot.top + 10.5, f"{slot.entry.start:#x}", Styles.NUMBER, room)
        if slot.bottom - slot.top >= 27:
            canvas.text(ADDRESS_LEFT, slot.bottom - 4, f"{slot.entry.end - 1:#x}", Styles.NUMBER, room)


def draw_ways(canvas: Canvas, slots: Sequence[Slot], block: ModuleBlock, y: float, colours: Colours) -> None:
    """A band from each piece of a module to the range that it is a part of.

    Args:
        canvas: the picture.
        slots: the map.
        block: the module.
        y: where its top is.
        colours: those of the picture.
    """
    for piece, (top, bottom) in zip(block.module.pieces, block.edges, strict=True):
        for slot in slots:
            for index, way in enumerate(slot.entry.ways):
                if (way.module, slot.entry.name) != (block.module.name, piece.entry):
                    continue
                if not way.start <= piece.start < way.start + way.size:
                    continue
                left = (svg_modules.BAR_RIGHT, y + top, y + bottom - 1)
                colour = colours.of_piece(block.module.name, piece)
                canvas.band(left, (LEFT, *slot.way_edges(index)), "band", colour)


def draw_link(canvas: Canvas, slot: Slot, top: float, bottom: float, colours: Colours) -> None:
    """A band from a range to its description, which begins with the colours of the range."""
    canvas.rectangle((RIGHT, slot.top, ADDRESS_RIGHT - RIGHT, slot.bottom - slot.top), "tint")
    left = svg_entries.LEFT - 12
    canvas.band((ADDRESS_RIGHT, slot.top, slot.bottom), (left, top, bottom), "tint")
    ways = _colours_of(slot.entry, colours)
    for index, colour in enumerate(ways):
        share = (bottom - top) / len(ways)
        canvas.rectangle((left, top + index * share, 4, share), "tile", colour)


def _before(index: int, gap: int) -> float:
    """Pixels between an entry and the one before it."""
    return _BREAK if gap else _GAP * bool(index)


def _draw_break(canvas: Canvas, slot: Slot) -> None:
    top = slot.top - _BREAK
    canvas.zigzag(LEFT, top, RIGHT - LEFT, _BREAK, "break")
    words = " ".join(gap_words(slot.entry, slot.gap))
    canvas.text(ADDRESS_LEFT, top + 16.5, words, Styles.SMALL, ADDRESS_RIGHT + 30 - ADDRESS_LEFT)


def _draw_bar(canvas: Canvas, slot: Slot, colours: Colours) -> None:
    entry, height = slot.entry, slot.bottom - slot.top
    facts = ", ".join(fact for fact in (interleaving(entry), *entry.notes) if fact)
    tooltip = f"{entry.name} {entry.start:#x}-{entry.end - 1:#x}, {exact_size(entry.size)}{': ' * bool(facts)}{facts}"
    ways = _colours_of(entry, colours)
    if entry.without_memory:
        canvas.rectangle((LEFT + 0.5, slot.top + 0.5, RIGHT - LEFT - 1, height - 1), "free", "", tooltip)
    if len(ways) == 1:
        backed = (entry.size - entry.without_memory) / entry.size
        canvas.rectangle((LEFT, slot.top, RIGHT - LEFT, height * backed), "tile", ways[0], tooltip)
    elif ways:
        _draw_interleaving(canvas, slot, ways, tooltip)


def _colours_of(entry: Entry, colours: Colours) -> list[str]:
    """Of its ways; none where there is no memory."""
    return colours.of_ways(entry) or ([] if entry.without_memory else [UNKNOWN])


def _draw_interleaving(canvas: Canvas, slot: Slot, ways: Sequence[str], tooltip: str) -> None:
    """Each way's block, then the lines of the set in turns."""
    height = slot.bottom - slot.top
    for index, colour in enumerate(ways):
        top, bottom = slot.way_edges(index)
        canvas.rectangle((LEFT, top, _FAN, bottom - top), "tile", colour)
    turns = max(2, min(_TURNS, int(height / len(ways) / 3)))
    line = height / (turns * len(ways))
    for number in range(turns * len(ways)):
        place = (LEFT + _FAN + 1, slot.top + number * line, RIGHT - LEFT - _FAN - 1, line)
        canvas.rectangle(place, "tile", ways[number % len(ways)], tooltip)
