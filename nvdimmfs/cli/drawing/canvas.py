"""An SVG document that grows: rectangles, bands and texts, each in its room.  No script, no font, no link."""

from __future__ import annotations

from xml.etree import ElementTree

from nvdimmfs.cli.drawing.lettering import Styles, fitted, width_of
from nvdimmfs.cli.drawing.palette import style_sheet
from nvdimmfs.errors import printable

_SVG = "http://www.w3.org/2000/svg"


class Canvas:
    """A picture of a given width, in CSS pixels; its height is known in the end."""

    def __init__(self, width: int, title: str, description: str) -> None:
        self.width = width
        self._root = ElementTree.Element(
            "svg", {"xmlns": _SVG, "role": "img", "aria-labelledby": "picture-title picture-description"}
        )
        self._add("title", printable(title), id="picture-title")
        self._add("desc", printable(description), id="picture-description")
        self._add("style", style_sheet())
        self._paper = self._add("rect")

    def rectangle(
        self, place: tuple[float, float, float, float], css: str, colour: str = "", tooltip: str = ""
    ) -> None:
        """At (x, y) with a width and a height."""
        x, y, width, height = place
        shape = {"x": _number(x), "y": _number(y), "width": _number(width), "height": _number(height), "class": css}
        drawn = self._add("rect", **shape, **({"fill": colour} if colour else {}))
        if tooltip:
            ElementTree.SubElement(drawn, "title").text = printable(tooltip)

    def text(self, x: float, baseline: float, text: str, style: Styles, room: float, *, at_end: bool = False) -> float:
        """From x on, or up to it; cut where it needs more room than there is.  Returns the width that it may have."""
        shown = fitted(printable(text), style, room)
        anchor = {"text-anchor": "end"} if at_end else {}
        self._add("text", shown, x=_number(x), y=_number(baseline), **{"class": style.value.name}, **anchor)
        return width_of(shown, style)

    def band(
        self, left: tuple[float, float, float], right: tuple[float, float, float], css: str, colour: str = ""
    ) -> None:
        """From one vertical edge to another, each as (x, top, bottom)."""
        x1, top1, bottom1 = map(_number, left)
        x2, top2, bottom2 = map(_number, right)
        middle = _number((left[0] + right[0]) / 2)
        path = (
            f"M{x1},{top1}C{middle},{top1} {middle},{top2} {x2},{top2}"
            f"V{bottom2}C{middle},{bottom2} {middle},{bottom1} {x1},{bottom1}Z"
        )
        self._add("path", d=path, **{"class": css}, **({"fill": colour} if colour else {}))

    def zigzag(self, x: float, y: float, width: float, height: float, css: str) -> None:
        """A bar that is broken off above and below: what lies between is not to scale."""
        teeth = 8
        step = width / teeth
        across = [(x + step * i, 3 if i % 2 else 0) for i in range(teeth + 1)]
        for base in (y + 3, y + height - 6):
            points = " ".join(f"{_number(px)},{_number(base + dy)}" for px, dy in across)
            self._add("polyline", points=points, fill="none", **{"class": css})

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """A line."""
        self._add("line", x1=_number(x1), y1=_number(y1), x2=_number(x2), y2=_number(y2), **{"class": css})

    def finish(self, height: float) -> str:
        """The document."""
        bottom = round(height)
        self._root.attrib |= {"viewBox": f"0 0 {self.width} {bottom}", "width": f"{self.width}", "height": f"{bottom}"}
        self._paper.attrib |= {"class": "paper", "x": "0.5", "y": "0.5", "rx": "8"}
        self._paper.attrib |= {"width": f"{self.width - 1}", "height": f"{bottom - 1}"}
        ElementTree.indent(self._root, " ")
        return ElementTree.tostring(self._root, encoding="unicode") + "\n"

    def _add(self, tag: str, text: str = "", **attributes: str) -> ElementTree.Element:
        element = ElementTree.SubElement(self._root, tag, attributes)
        element.text = text or None
        return element


def _number(value: float) -> str:
    """A length to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")
