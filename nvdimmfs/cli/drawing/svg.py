"""A machine as a picture: memory modules on the left, the physical address map they form, and what lies where in it.

Three columns are laid out by themselves, each from top to bottom without overlap; bands connect what belongs together.
Texts have rooms of their own beside what they describe, so that none can meet another, however thin a range is.
"""

from __future__ import annotations

from collections.abc import Sequence

from nvdimmfs.cli.drawing import svg_entries, svg_map, svg_modules
from nvdimmfs.cli.drawing.canvas import Canvas
from nvdimmfs.cli.drawing.lettering import Styles, wrapped
from nvdimmfs.cli.drawing.model import MachineDrawing, gaps_between
from nvdimmfs.cli.drawing.scale import stacked
from nvdimmfs.cli.drawing.summary import summary
from nvdimmfs.cli.drawing.svg_colours import Colours
from nvdimmfs.cli.drawing.svg_entries import EntryBlock
from nvdimmfs.cli.drawing.svg_modules import Block, ModuleBlock

#: All lengths are CSS pixels.
WIDTH = 1040
MARGIN = 24

#: The height at which a column begins to leave details out.
ROOM = 560

_MODULE_GAP = 9
_ENTRY_GAP = 14

#: More modules than these are closer together.
_MANY_MODULES = 16


def draw_svg(drawing: MachineDrawing) -> str:
    """The whole drawing, as one XML document."""
    canvas = Canvas(WIDTH, f"Memory of {drawing.title}", summary(drawing))
    colours = Colours(drawing)
    modules = svg_modules.module_blocks(drawing, ROOM, _MODULE_GAP, colours)
    module_gap = _MODULE_GAP if len(modules) <= _MANY_MODULES else _MODULE_GAP / 2
    ranges = svg_entries.entry_blocks(drawing.entries, ROOM, _ENTRY_GAP)
    top = _draw_heading(canvas, drawing)
    heights = (_height(modules, module_gap), _height(ranges, _ENTRY_GAP), svg_map.least_height(drawing.entries))
    bottom = top + max(heights)
    _stretch(modules, module_gap, bottom - top)
    slots = svg_map.placed(drawing.entries, top, bottom)
    module_places = _spread(modules, module_gap, top, bottom)
    range_heights = [block.height for block in ranges]
    range_places = stacked(range_heights, [slot.centre for slot in slots], top, bottom, _ENTRY_GAP)
    for block, y in zip(modules, module_places, strict=True):
        if isinstance(block, ModuleBlock):
            svg_map.draw_ways(canvas, slots, block, y, colours)
        block.draw(canvas, y)
    for slot, entry_block, y in zip(slots, ranges, range_places, strict=True):
        svg_map.draw_link(canvas, slot, y, y + entry_block.height, colours)
        entry_block.draw(canvas, y)
    svg_map.draw_map(canvas, slots, colours)
    legend = {kind: words for block in ranges for kind, words in block.unnamed.items()}
    if legend:
        svg_entries.draw_legend(canvas, MARGIN, bottom + 14, legend)
        bottom += 18
    canvas.text(MARGIN, bottom + 30, _footnote(drawing), Styles.SMALL, WIDTH - 2 * MARGIN)
    return canvas.finish(bottom + 30 + MARGIN - 6)


def _draw_heading(canvas: Canvas, drawing: MachineDrawing) -> float:
    """Title, description and the columns' headings; returns where the columns begin."""
    room = WIDTH - 2 * MARGIN
    canvas.text(MARGIN, MARGIN + 18, drawing.title, Styles.TITLE, room)
    y = MARGIN + 18.0
    description = "; ".join(filter(None, (drawing.description, *drawing.notes)))
    for line in wrapped(description.split(), Styles.TEXT, room, most=2):
        y += 18
        canvas.text(MARGIN, y, line, Styles.TEXT, room)
    y += 28
    namespaces = " AND NAMESPACES" if any(entry.bars for entry in drawing.entries) else ""
    headings = (
        (svg_modules.TEXT_LEFT, "MEMORY MODULES", svg_map.LEFT),
        (svg_map.LEFT, "PHYSICAL ADDRESSES", svg_entries.LEFT),
        (svg_entries.LEFT, f"RANGES{namespaces}", WIDTH - MARGIN),
    )
    for left, words, right in headings:
        canvas.text(left, y, words, Styles.HEADING, right - left - 8)
    canvas.line(MARGIN, y + 8, WIDTH - MARGIN, y + 8, "rule")
    return y + 20


def _footnote(drawing: MachineDrawing) -> str:
    """How to read what is in the picture."""
    notes = ["A taller range is larger, on a logarithmic scale."]
    if any(gap for _, gap in gaps_between(drawing.entries)):
        notes.append("A break stands for addresses without memory.")
    if any(module.label_size for module in drawing.modules):
        notes.append("The strip below a DIMM is its label area, coloured as far as it is in use.")
    return " ".join(notes)


def _height(blocks: Sequence[Block] | Sequence[EntryBlock], gap: float) -> float:
    return sum(block.height for block in blocks) + gap * (len(blocks) - 1)


def _stretch(blocks: Sequence[Block], gap: float, room: float) -> None:
    """Let the bars of few modules use more of the room, as far as that looks well."""
    modules = [block for block in blocks if isinstance(block, ModuleBlock)]
    spare = room - _height(blocks, gap)
    factor = 1 + min(2.5, max(0.0, 0.75 * spare / sum(block.height for block in modules)))
    for block in modules:
        block.stretch(factor)


def _spread(blocks: Sequence[Block], least_gap: float, top: float, bottom: float) -> list[float]:
    """Blocks below each other, with what is left of the room between them, as far as that looks well, and around."""
    spare = max(0.0, bottom - top - _height(blocks, least_gap))
    gap = least_gap + min(12.0, spare / max(1, len(blocks)))
    y = top + max(0.0, bottom - top - _height(blocks, gap)) / 2
    places = []
    for block in blocks:
        places.append(y)
        y += block.height + gap
    return places
