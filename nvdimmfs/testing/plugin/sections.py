"""The sections of a failing test's report: text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from nvdimmfs.cli.drawing.model import MachineDrawing
from nvdimmfs.cli.drawing.text import draw_plain
from nvdimmfs.testing.plugin.evidence import Evidence
from nvdimmfs.traces.event import Op, TraceEvent
from nvdimmfs.traces.text import text_of

#: The most that a section shows: refused calls, calls, and lines of a drawing.
_MOST_REFUSALS = 10
_MOST_CALLS = 15
_MOST_LINES = 80


def sections_of(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """The title and the text of each section."""
    title = evidence.title
    if evidence.problem:
        yield f"nvdimm: {title}", evidence.problem
    if evidence.refused:
        yield f"nvdimm: refused by {title}", _last(evidence.refused, _MOST_REFUSALS, "refusals")
    calls = [event for event in evidence.trace if event.op != Op.OPEN or event.is_refused]
    if len(calls) > _MOST_CALLS and (acts := [event for event in calls if _acts(event)]):
        yield f"nvdimm: what has acted on {title}", _last(_texts(acts), _MOST_CALLS, "calls")
    if calls:
        yield f"nvdimm: the last calls of {title}", _last(_texts(calls), _MOST_CALLS, "calls")
    if evidence.drawing is not None:
        yield f"nvdimm: memory of {title}", _drawn(evidence.drawing)


def _acts(event: TraceEvent) -> bool:
    """Whether an event is more than a look at the machine."""
    return bool(event.effects) or event.op not in (Op.OPEN, Op.READ, Op.POLL, Op.FSYNC)


def _texts(events: Sequence[TraceEvent]) -> list[str]:
    return [text_of(event).rstrip("\n") for event in events]


def _last(texts: Sequence[str], most: int, what: str) -> str:
    """The last texts, with how many there were before them."""
    before = len(texts) - most
    head = [f"{before} {what} before these are left out"] if before > 0 else []
    return "\n".join([*head, *texts[-most:]])


def _drawn(drawing: MachineDrawing) -> str:
    """The drawing without label areas, which few failures are about, and cut where a machine has many namespaces."""
    lines = draw_plain(attrs.evolve(drawing, label_areas=())).rstrip("\n").splitlines()
    more = len(lines) - _MOST_LINES
    return "\n".join(lines if more <= 0 else [*lines[:_MOST_LINES], f"... and {more} more lines"])
