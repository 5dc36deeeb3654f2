"""Colours, and the style sheet that follows the reader's choice between light and dark.

Each colour of a DIMM has a contrast of at least 4.5 to the white letters on it and of 3 to either paper; each colour of
a part of at least 3 to either paper (WCAG 2.2, 1.4.3 and 1.4.11).  No fact is shown by colour alone.
"""

from __future__ import annotations

from nvdimmfs.cli.drawing.lettering import Styles

PAPER = "#ffffff"
DARK_PAPER = "#15181e"

#: Of DIMMs, in the order of their numbers, and of what memmap= marks; they begin anew after the last.
DIMMS = ("#2f6fce", "#b5560f", "#0d7f79", "#8a54c9", "#4a7d1a", "#c23b7d", "#1279a8", "#7f7112")

#: Of System RAM.
RAM = "#6a7382"

#: Of a range whose modules are not known.
UNKNOWN = "#848e9d"

#: Of the parts of a namespace or of a label area; those that are missing are drawn as free space.
PARTS = {
    "raw": "#8b7d6b",
    "data": "#64748b",
    "system_ram": "#6a68d6",
    "info": "#c8452f",
    "memmap": "#d07d00",
    "padding": "#848e9d",
    "start_pad": "#848e9d",
    "end_trunc": "#848e9d",
    "unused": "#848e9d",
    "map": "#1c93b5",
    "log": "#b455a6",
    "info_copy": "#c8452f",
    "index": "#c8452f",
    "labels": "#1c93b5",
    "mixed_slots": "#1c93b5",
    "arenas": "#64748b",
}

_FAMILIES = 'system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif'
_MONOSPACE = 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace'


def style_sheet() -> str:
    """The style sheet of every picture."""
    fonts = "".join(
        f".{face.name} {{ font-size: {face.size}px;"
        f"{' font-weight: 600;' if face.bold else ''}{f' font-family: {_MONOSPACE};' if face.monospace else ''} }}\n"
        for face in (style.value for style in Styles)
    )
    light = {
        "text": "fill: #1f2430",
        ".small, .number, .heading": "fill: #565e6c",
        ".on": "fill: #ffffff",
        ".paper": f"fill: {PAPER}; stroke: #d5d9e0",
        ".edge": "stroke: #1f2430; stroke-opacity: 0.35; fill: none",
        ".free": "fill: #eceef2; stroke: #767e8c; stroke-dasharray: 4 3",
        ".break": f"fill: {PAPER}; stroke: #767e8c",
        ".tint": "fill: #767e8c; fill-opacity: 0.09",
        ".rule": "stroke: #d5d9e0",
        ".labels": "fill: none; stroke: #767e8c",
    }
    dark = {
        "text": "fill: #e6e8ec",
        ".small, .number, .heading": "fill: #a7aebb",
        ".on": "fill: #ffffff",
        ".paper": f"fill: {DARK_PAPER}; stroke: #343a45",
        ".edge": "stroke: #e6e8ec; stroke-opacity: 0.35; fill: none",
        ".free": "fill: #262b34; stroke: #8b93a1; stroke-dasharray: 4 3",
        ".break": f"fill: {DARK_PAPER}; stroke: #8b93a1",
        ".tint": "fill: #a7aebb; fill-opacity: 0.10",
        ".rule": "stroke: #343a45",
        ".labels": "fill: none; stroke: #8b93a1",
    }
    return (
        f"svg {{ color-scheme: light dark; }}\ntext {{ font-family: {_FAMILIES}; }}\n"
        f"{fonts}.band {{ fill-opacity: 0.26; }}\n.tile {{ shape-rendering: crispEdges; }}\n"
        f"{_rules(light)}@media (prefers-color-scheme: dark) {{\n{_rules(dark)}}}\n"
    )


def dimm_colour(index: int) -> str:
    """Of a DIMM by its place in the picture."""
    return DIMMS[index % len(DIMMS)]


def _rules(rules: dict[str, str]) -> str:
    return "".join(f"{selector} {{ {declarations}; }}\n" for selector, declarations in rules.items())
