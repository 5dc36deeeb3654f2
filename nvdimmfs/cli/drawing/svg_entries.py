"""The right column of a picture: each range of the address map, its namespaces and what they are divided into."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import attrs

from nvdimmfs.cli.drawing.bars import WORDS, Bar, Segment
from nvdimmfs.cli.drawing.canvas import Canvas
from nvdimmfs.cli.drawing.lettering import Styles, width_of, wrapped
from nvdimmfs.cli.drawing.model import Entry, EntryKind
from nvdimmfs.cli.drawing.palette import PARTS
from nvdimmfs.cli.drawing.scale import shares
from nvdimmfs.cli.drawing.summary import interleaving
from nvdimmfs.cli.sizes import short_size
from nvdimmfs.units import exact_size

#: Where the column is, in pixels from the left.
LEFT, RIGHT = 620, 1016
WIDTH = RIGHT - LEFT

_LINE = 16
_BAR = 12
_THIN_BAR = 8
_SWATCH = 9
_GAP = 7


@attrs.frozen
class Detail:
    """How much of the namespaces is drawn.

    Attributes:
        arenas: the arenas of a BTT have bars of their own.
        notes: all notes are below the name of each, instead of a brief one beside it.
        parts: the parts of each are named below its bar.
        most: how many of a range are drawn; the others are counted.
    """

    arenas: bool
    notes: bool
    parts: bool
    most: int


#: From the most detail to the least.
DETAILS = (
    Detail(arenas=True, notes=True, parts=True, most=100),
    Detail(arenas=False, notes=True, parts=True, most=100),
    Detail(arenas=False, notes=False, parts=True, most=100),
    *(Detail(arenas=False, notes=False, parts=False, most=most) for most in (100, 12, 8, 6, 4, 3, 2, 1)),
)


class EntryBlock:
    """A range: heading, notes, and its bars.

    Attributes:
        entry: the range.
        height: pixels.
    """

    def __init__(self, entry: Entry, detail: Detail) -> None:
        self.entry = entry
        self._detail = detail
        self._notes = _notes(entry)
        self._bars = list(_drawn_bars(entry, detail))
        spaces = [bar for bar in entry.bars if not bar.detail]
        self._spaces = spaces if len(spaces) > 1 else []
        self._left_out = [bar for bar in spaces if bar not in self._bars]
        self.height = float(_LINE * (1 + len(self._notes))) + (_THIN_BAR + _GAP if self._spaces else 0)
        self.height += sum(_bar_height(bar, detail) for bar in self._bars) + (_LINE if self._left_out else 0)

    def draw(self, canvas: Canvas, y: float) -> None:
        name = "System RAM" if self.entry.kind is EntryKind.RAM else self.entry.name
        used = canvas.text(LEFT, y + 12, name, Styles.NAME, WIDTH - 120)
        canvas.text(LEFT + used + 8, y + 12, short_size(self.entry.size), Styles.TEXT, 112)
        y += _LINE
        for line in self._notes:
            canvas.text(LEFT, y + 11, line, Styles.SMALL, WIDTH)
            y += _LINE
        if self._spaces:
            _draw_segments(canvas, [_space(bar) for bar in self._spaces], y, _THIN_BAR)
            y += _THIN_BAR + _GAP
        for bar in self._bars:
            _draw_bar(canvas, self.entry, bar, self._detail, y)
            y += _bar_height(bar, self._detail)
        if self._left_out:
            canvas.text(LEFT, y + 11, _counted(self._left_out), Styles.SMALL, WIDTH)

    @property
    def unnamed(self) -> dict[str, str]:
        """What each kind of part is called that has a colour here and no name beside it."""
        if self._detail.parts:
            return {}
        return {part.kind: WORDS.get(part.kind, part.kind) for bar in self._bars for part in bar.segments}


def draw_legend(canvas: Canvas, left: float, y: float, kinds: dict[str, str]) -> None:
    """What the colours of parts mean, in one line; kinds of one colour have the name of the first.

    Args:
        canvas: the picture.
        left: where the line begins.
        y: its top.
        kinds: what each kind of part is called.
    """
    names = {PARTS[kind]: name for kind, name in reversed(kinds.items()) if kind in PARTS}
    for colour, name in reversed(names.items()):
        canvas.rectangle((left + 0.5, y + 4.5, _SWATCH - 1, _SWATCH - 1), "swatch", colour)
        left += _SWATCH + 16 + canvas.text(left + _SWATCH + 4, y + 12.5, name, Styles.SMALL, RIGHT - left - _SWATCH - 4)


def entry_blocks(entries: Sequence[Entry], room: float, gap: float) -> list[EntryBlock]:
    """The column, in as much detail as there is room for."""
    for detail in DETAILS:
        blocks = [EntryBlock(entry, detail) for entry in entries]
        if sum(block.height + gap for block in blocks) <= room:
            return blocks
    return [EntryBlock(entry, DETAILS[-1]) for entry in entries]


def _notes(entry: Entry) -> list[str]:
    if entry.kind is EntryKind.RAM:
        return []
    facts = [fact for fact in (interleaving(entry), *entry.notes) if fact]
    return wrapped("; ".join(facts).split(), Styles.SMALL, WIDTH, most=3)


def _drawn_bars(entry: Entry, detail: Detail) -> Iterator[Bar]:
    """Of many namespaces the largest, in address order; free space is in the bar that all share."""
    bars = [bar for bar in entry.bars if detail.arenas or not bar.detail]
    spaces = sum(not bar.detail for bar in bars)
    if spaces > 1 and not detail.parts:
        bars = [bar for bar in bars if not bar.is_free]
    if len(bars) > detail.most:
        largest = sorted(bars, key=lambda bar: -bar.size)[: detail.most]
        bars = [bar for bar in bars if bar in largest]
    yield from bars


def _space(bar: Bar) -> Segment:
    name = bar.segments[0].name if bar.is_free else bar.title
    return Segment("free" if bar.is_free else "data", name, bar.start, bar.size)


def _counted(bars: Sequence[Bar]) -> str:
    free = sum(bar.size for bar in bars if bar.is_free)
    namespaces = [bar for bar in bars if not bar.is_free]
    counted = f"{len(namespaces)} more namespaces, {short_size(sum(bar.size for bar in namespaces))}"
    parts = [counted] if namespaces else []
    return ", ".join([*parts, *([f"{short_size(free)} without a namespace"] if free else [])])


def _bar_height(bar: Bar, detail: Detail) -> float:
    captions = len(_captions(bar)) if detail.parts else 0
    thickness = _BAR if detail.parts else _THIN_BAR
    return _LINE * (1 + len(_bar_notes(bar, detail)) + captions) + thickness + _GAP


def _bar_notes(bar: Bar, detail: Detail) -> list[str]:
    """The notes below the name of a namespace."""
    words = _facts(bar).split()
    return wrapped(words, Styles.SMALL, WIDTH, most=2) if detail.notes else []


def _facts(bar: Bar) -> str:
    """All notes, without the name of a device that is the namespace itself."""
    name = bar.title.partition(" ")[0]
    return "" if bar.is_free else "; ".join(bar.notes).removeprefix(f"{name} ")


def _draw_bar(canvas: Canvas, entry: Entry, bar: Bar, detail: Detail, y: float) -> None:
    title = "free" if bar.is_free else bar.title.removesuffix(f" in {entry.name}")
    size = canvas.text(RIGHT, y + 12, short_size(bar.size), Styles.SMALL, 110, at_end=True)
    room = WIDTH - size - 8
    used = canvas.text(LEFT, y + 12, title, Styles.TEXT, room)
    if bar.brief and not detail.notes and room - used > 40:
        canvas.text(LEFT + used + 8, y + 12, bar.brief, Styles.SMALL, room - used - 8)
    y += _LINE
    for line in _bar_notes(bar, detail):
        canvas.text(LEFT, y + 11, line, Styles.SMALL, WIDTH)
        y += _LINE
    thickness = _BAR if detail.parts else _THIN_BAR
    _draw_segments(canvas, bar.segments, y, thickness)
    y += thickness
    for captions in _captions(bar) if detail.parts else ():
        _draw_captions(canvas, captions, y)
        y += _LINE


def _draw_segments(canvas: Canvas, segments: Sequence[Segment], y: float, height: float) -> None:
    widths = shares([segment.size for segment in segments], WIDTH, min(4, WIDTH // len(segments)))
    edges = itertools.pairwise([0, *itertools.accumulate(widths)])
    for segment, (start, end) in zip(segments, edges, strict=True):
        if end == start:
            continue
        tooltip = f"{segment.name}: {exact_size(segment.size)} at {segment.start:#x}"
        colour = PARTS.get(segment.kind, "")
        space = 1 if end - start > 3 else 0
        if colour:
            canvas.rectangle((LEFT + start, y, end - start - space, height), "tile", colour, tooltip)
        else:
            canvas.rectangle((LEFT + start + 0.5, y + 0.5, max(1, end - start - 1), height - 1), "free", "", tooltip)


def _captions(bar: Bar) -> list[list[Segment]]:
    """The segments in lines, as many in a line as have room for their captions; free space needs none."""
    if bar.is_free:
        return []
    lines: list[list[Segment]] = [[]]
    used = 0.0
    for segment in bar.segments:
        width = _caption_width(segment)
        if lines[-1] and used + width > WIDTH:
            lines.append([])
            used = 0.0
        lines[-1].append(segment)
        used += width
    return lines


def _caption(segment: Segment) -> str:
    return f"{segment.name} {short_size(segment.size)}"


def _caption_width(segment: Segment) -> float:
    return _SWATCH + 4 + width_of(_caption(segment), Styles.SMALL) + 12


def _draw_captions(canvas: Canvas, line: Sequence[Segment], y: float) -> None:
    x = float(LEFT)
    for segment in line:
        colour = PARTS.get(segment.kind, "")
        canvas.rectangle((x + 0.5, y + 4.5, _SWATCH - 1, _SWATCH - 1), "swatch" if colour else "free", colour)
        canvas.text(x + _SWATCH + 4, y + 12.5, _caption(segment), Styles.SMALL, RIGHT - x - _SWATCH - 4)
        x += _caption_width(segment)
