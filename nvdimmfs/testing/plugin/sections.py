"""The sections of a failing test's report: text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from nvdimmfs.cli.drawing.model import MachineDrawing
from nvdimmfs.cli.drawing.text import draw_plain
from nvdimmfs.testing.plugin.evidence import Evidence

#: Lines of a drawing.
_MOST_LINES = 80


def sections_of(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The title and the text of each section."""
    if evidence.problem:
        yield f"nvdimm: {evidence.title}", evidence.problem
    if evidence.drawing is not None:
        yield f"nvdimm: memory of {evidence.title}", _drawn(evidence.drawing)


def _drawn(drawing: MachineDrawing) -> str:
    """The drawing without label areas, which few failures are about, and cut where a machine has many namespaces."""
    lines = draw_plain(attrs.evolve(drawing, label_areas=())).rstrip("\n").splitlines()
    more = len(lines) - _MOST_LINES
    return "\n".join(lines if more <= 0 else [*lines[:_MOST_LINES], f"... and {more} more lines"])
