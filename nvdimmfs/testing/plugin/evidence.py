"""What a machine shows when a test has failed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

import attrs

from nvdimmfs.cli.drawing.model import MachineDrawing
from nvdimmfs.cli.drawing.mounted import drawing_of
from nvdimmfs.errors import printable
from nvdimmfs.testing.engine import Engine
from nvdimmfs.testing.events import Uevent
from nvdimmfs.testing.plugin.factory import Baseline, Made
from nvdimmfs.traces.event import Op, TraceEvent
from nvdimmfs.traces.text import text_of

if TYPE_CHECKING:
    from nvdimmfs.testing.machine import Machine

#: How long a mounted machine may take to show all, in seconds.
LONGEST_ANSWER = 30.0

#: Calls whose refusal is an answer like another.
_LOOKS = (Op.READ, Op.POLL)

#: Differences that follow from others, and from the device numbers that a sandbox has for its nodes.
_IMPLIED = ("attribute dev of ", "attribute uevent of ")


@attrs.frozen
class Evidence:
    """The state of a machine, and how it came to it.

    Attributes:
        title: the machine's kind and arguments, in one line.
        problem: why the machine shows no more, in one line; empty when it shows all.
        events: the uevents since the boot.
        trace: the last calls, with their answers and effects.
        dropped: how many calls before them are lost.
        refused: the refused calls that were to change something, each of one line or several.
        drawing: its memory now.
        since: what it is compared with: `the boot` or `the last checkpoint`.
        before: its memory then; None where that is not known.
        differences: what differs since then; None where that is not known.
    """

    title: str
    problem: str = ""
    events: Sequence[Uevent] = ()
    trace: Sequence[TraceEvent] = ()
    dropped: int = 0
    refused: Sequence[str] = ()
    drawing: MachineDrawing | None = None
    since: str = "the boot"
    before: MachineDrawing | None = None
    differences: Sequence[str] | None = None


def evidence_of(made: Made, *, compared: bool = False) -> Evidence:
    """What a machine shows now.  Nothing is raised: the test's own failure matters more.

    Args:
        made: the machine.
        compared: also compare it with what it was at its last checkpoint, or with the same machine booted anew.  One
            without a checkpoint whose bytes are in a folder that it was given cannot be compared.
    """
    if isinstance(made.machine, Engine):
        return _shown(made, compared)
    answer: SimpleQueue[Evidence | Exception] = SimpleQueue()
    threading.Thread(target=_answer, args=(made, compared, answer), daemon=True).start()
    try:
        found = answer.get(timeout=LONGEST_ANSWER)
    except Empty:
        return Evidence(printable(made.title), f"it does not answer within {LONGEST_ANSWER:g} s")
    if isinstance(found, Exception):
        raise found
    return found


def _answer(made: Made, compared: bool, answer: SimpleQueue[Evidence | Exception]) -> None:
    """In a thread, which may wait forever: a test may have failed because its machine does not answer."""
    try:
        answer.put(_shown(made, compared))
    except Exception as bug:
        answer.put(bug)


def _shown(made: Made, compared: bool) -> Evidence:
    machine = made.machine
    found = Evidence(printable(made.title), events=tuple(machine.events))
    try:
        found = _with_calls(found, machine)
        found = attrs.evolve(found, drawing=drawing_of(machine.layout, found.title))
        return _compared(found, made) if compared else found
    except (OSError, ValueError) as failure:
        return attrs.evolve(found, problem=printable("; ".join([str(failure), *getattr(failure, "__notes__", ())])))


def _with_calls(found: Evidence, machine: Engine | Machine) -> Evidence:
    """The trace; of a mounted machine, refusals are known even where it has ended or records no trace."""
    if not isinstance(machine, Engine):
        found = attrs.evolve(
            found, refused=tuple(str(refusal) for refusal in machine.refusals if refusal.op not in _LOOKS)
        )
    try:
        trace = tuple(machine.trace)
        dropped = machine.trace.dropped
    except (OSError, ValueError):
        return found
    refused = tuple(text_of(event).rstrip("\n") for event in trace if event.is_refused and event.op not in _LOOKS)
    return attrs.evolve(found, trace=trace, dropped=dropped, refused=refused)


def _compared(found: Evidence, made: Made) -> Evidence:
    if made.checkpoint is not None:
        found, baseline = attrs.evolve(found, since="the last checkpoint"), made.checkpoint
    elif made.has_new_media:
        with Engine(made.selection.described(), trace=False) as booted:
            baseline = Baseline(booted.layout, booted.dump())
    else:
        return found
    before = drawing_of(baseline.layout, found.title)
    lines = made.machine.diff(baseline.dump)
    return attrs.evolve(found, before=before, differences=[line for line in lines if not line.startswith(_IMPLIED)])
