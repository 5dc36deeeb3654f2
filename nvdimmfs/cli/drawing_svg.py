"""A drawing as a picture for a web page: SVG 1.1 with a style sheet, no script and no font of its own.

Each bar is to scale; below it every segment has a box that is wide enough for its words, and a band leads from one to
the other.  So no label can meet another, however thin a segment is.  The picture brings its own background, which
follows the reader's choice between light and dark.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from xml.etree import ElementTree

from nvdimmfs.cli.drawing import ARENAS, MIXED_SLOTS, Bar, Segment, shares
from nvdimmfs.cli.sizes import short_size

_SVG = "http://www.w3.org/2000/svg"

#: All lengths are CSS pixels.
WIDTH = 1048
MARGIN = 24
INDENT = 24
BAR_HEIGHT = 30
BAND_HEIGHT = 26
BOX_HEIGHT = 64
BOX_GAP = 8
BOX_PADDING = 7
BAR_GAP = 34
THINNEST = 5

#: Font sizes, and what an average character of each font is wide, in parts of its size; with room to spare.
NAME_SIZE = 13
TITLE_SIZE = 16
SMALL_SIZE = 12
SANS_WIDTH = 0.56
MONO_WIDTH = 0.62

#: Colours that people who see few colours can tell apart, readable on light and dark (after Okabe and Ito, 2008).
COLOURS = {
    "idle": "#b4bac4",
    "free": "#b4bac4",
    "raw": "#0072b2",
    "data": "#009e73",
    "system_ram": "#0072b2",
    "start_pad": "#6b7280",
    "info": "#d55e00",
    "memmap": "#e69f00",
    "padding": "#9aa1ac",
    "end_trunc": "#6b7280",
    "map": "#56b4e9",
    "log": "#cc79a7",
    "info_copy": "#d55e00",
    "unused": "#6b7280",
    "index": "#d55e00",
    "labels": "#56b4e9",
    "free_slots": "#9aa1ac",
    MIXED_SLOTS: "#56b4e9",
    ARENAS: "#009e73",
}
_OTHER_COLOUR = "#b4bac4"

_STYLE = f"""
svg {{ color-scheme: light dark; }}
text {{ font-family: system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; fill: #1f2430; }}
.paper {{ fill: #ffffff; stroke: #d5d9e0; }}
.segment {{ stroke: #ffffff; }}
.title {{ font-size: {TITLE_SIZE}px; font-weight: 600; }}
.name {{ font-size: {NAME_SIZE}px; }}
.small {{ font-size: {SMALL_SIZE}px; fill: #565e6c; }}
.number {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }}
.box {{ fill: #f4f5f7; }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6e8ec; }}
.paper {{ fill: #15181e; stroke: #343a45; }}
.segment {{ stroke: #15181e; }}
.small {{ fill: #a7aebb; }}
.box {{ fill: #22272f; }}
}}
"""


def draw_svg(bars: Sequence[Bar]) -> str:
    """The whole drawing, as one XML document."""
    picture = _Picture()
    for bar in bars:
        picture.add(bar)
    return picture.finish()


class _Picture:
    """A drawing that grows downwards."""

    def __init__(self) -> None:
        self._root = ElementTree.Element("svg", {"xmlns": _SVG, "role": "img"})
        self._element(self._root, "title", "Physical layout of persistent memory")
        self._element(self._root, "style", _STYLE)
        self._paper = self._element(self._root, "rect")
        self._y = MARGIN

    def add(self, bar: Bar) -> None:
        """Put a bar below what is there."""
        left = MARGIN + (INDENT if bar.detail else 0)
        width = WIDTH - MARGIN - left
        self._heading(bar, left, width)
        widths = shares([segment.size for segment in bar.segments], width, THINNEST)
        edges = [left]
        for share in widths:
            edges.append(edges[-1] + share)
        for segment, start, end in zip(bar.segments, edges, edges[1:], strict=False):
            self._rectangle(segment, start, self._y, end - start, BAR_HEIGHT, "segment")
        self._y += BAR_HEIGHT
        self._boxes(bar, left, width, edges)
        self._y += BAR_GAP

    def finish(self) -> str:
        """The document."""
        self._text("small", MARGIN, self._y, "Bars are to scale, but for parts too thin to be seen, which are widened.")
        height = self._y + MARGIN
        self._root.attrib |= {"viewBox": f"0 0 {WIDTH} {height}", "width": str(WIDTH), "height": str(height)}
        self._paper.attrib |= {
            "class": "paper",
            "x": "0.5",
            "y": "0.5",
            "width": str(WIDTH - 1),
            "height": str(height - 1),
            "rx": "8",
        }
        ElementTree.indent(self._root)
        return ElementTree.tostring(self._root, encoding="unicode") + "\n"

    def _heading(self, bar: Bar, left: int, width: int) -> None:
        """Title, notes, and the addresses at both ends."""
        self._y += TITLE_SIZE
        self._text("title", left, self._y, f"{bar.title}: {short_size(bar.size)}")
        for line in textwrap.wrap("; ".join(bar.notes), int(width / (NAME_SIZE * SANS_WIDTH))):
            self._y += 20
            self._text("name", left, self._y, line)
        self._y += 22
        self._text("small number", left, self._y, f"{bar.start:#x}")
        self._text("small number", left + width, self._y, f"{bar.last:#x}", anchor="end")
        self._y += 6

    def _boxes(self, bar: Bar, left: int, width: int, edges: Sequence[int]) -> None:
        """Below the bar, what each segment is; as many boxes side by side as there is room for."""
        wanted = max(_needed_width(segment) for segment in bar.segments) + BOX_GAP
        columns = min(len(bar.segments), max(1, (width + BOX_GAP) // wanted))
        box_width = (width + BOX_GAP) / columns - BOX_GAP
        if columns == len(bar.segments):
            for index, segment in enumerate(bar.segments):
                x = left + index * (box_width + BOX_GAP)
                self._band(segment, (edges[index], edges[index + 1]), (x, x + box_width))
            self._y += BAND_HEIGHT
        for first in range(0, len(bar.segments), columns):
            self._y += BOX_GAP if columns < len(bar.segments) else 0
            for column, segment in enumerate(bar.segments[first : first + columns]):
                self._box(segment, left + column * (box_width + BOX_GAP), box_width)
            self._y += BOX_HEIGHT

    def _box(self, segment: Segment, x: float, width: float) -> None:
        self._element(self._root, "rect", **_place(x, self._y, width, BOX_HEIGHT), **{"class": "box"})
        self._rectangle(segment, x, self._y, width, 4)
        for css_class, y, text in zip(
            ("name", "small", "small number"), (21, 39, 56), _box_lines(segment), strict=True
        ):
            self._text(css_class, x + BOX_PADDING, self._y + y, text)

    def _band(self, segment: Segment, above: tuple[float, float], below: tuple[float, float]) -> None:
        """From a segment of the bar to its box."""
        bottom = self._y + BAND_HEIGHT
        corners = ((above[0], self._y), (above[1], self._y), (below[1], bottom), (below[0], bottom))
        points = " ".join(f"{x:g},{y:g}" for x, y in corners)
        colour = _colour(segment)
        self._element(self._root, "polygon", points=points, fill=colour, **{"fill-opacity": "0.22"})

    def _rectangle(
        self, segment: Segment, x: float, y: float, width: float, height: float, css_class: str = "strip"
    ) -> None:
        place = _place(x, y, width, height)
        drawn = self._element(self._root, "rect", **place, fill=_colour(segment), **{"class": css_class})
        self._element(drawn, "title", f"{segment.name}: {segment.size} bytes at {segment.start:#x}")

    def _text(self, css_class: str, x: float, y: float, text: str, anchor: str = "start") -> None:
        place = {"x": f"{x:g}", "y": f"{y:g}", "text-anchor": anchor, "class": css_class}
        self._element(self._root, "text", text, **place)

    @staticmethod
    def _element(parent: ElementTree.Element, tag: str, text: str = "", **attributes: str) -> ElementTree.Element:
        element = ElementTree.SubElement(parent, tag, attributes)
        element.text = text or None
        return element


def _place(x: float, y: float, width: float, height: float) -> dict[str, str]:
    return {"x": f"{x:g}", "y": f"{y:g}", "width": f"{width:g}", "height": f"{height:g}"}


def _box_lines(segment: Segment) -> tuple[str, str, str]:
    return segment.name, short_size(segment.size), f"{segment.start:#x}"


def _needed_width(segment: Segment) -> int:
    """What a segment's words take, in pixels."""
    name, size, address = _box_lines(segment)
    words = max(len(name) * NAME_SIZE * SANS_WIDTH, len(size) * SMALL_SIZE * SANS_WIDTH)
    return int(max(words, len(address) * SMALL_SIZE * MONO_WIDTH)) + 2 * BOX_PADDING


def _colour(segment: Segment) -> str:
    return COLOURS.get(segment.kind, _OTHER_COLOUR)
