"""The trace of a machine as a timeline: a strip with a mark for each event, and a table with a row for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from nvdimmfs.testing.report.markup import add
from nvdimmfs.traces.event import Op, TraceEvent
from nvdimmfs.traces.text import answer_text, call_text, request_text

#: The strip's own units: the width of an event, the height of one that is refused, of a write, and of any other.
_WIDTH, _REFUSED, _WRITE, _OTHER = 10, 56, 34, 16

#: The depth of effects beyond which they are not indented further.
_DEEPEST = 3


def add_timeline(parent: Element, events: Sequence[TraceEvent], machine: int) -> None:
    """Append a trace; `machine` is the number of the machine on the page, for the names of rows."""
    _add_strip(parent, events, machine)
    table = add(add(parent, "div", class_="wide"), "table", class_="trace")
    head = add(add(table, "thead"), "tr")
    for words in ("Seconds", "Caller", "Call, and what the kernel did because of it", "Answer"):
        add(head, "th", words)
    body = add(table, "tbody")
    for event in events:
        _add_row(body, event, machine)


def _add_strip(parent: Element, events: Sequence[TraceEvent], machine: int) -> None:
    """The whole trace at a glance; each mark leads to the row of its event."""
    strip = add(
        parent,
        "svg",
        class_="strip",
        viewBox=f"0 0 {max(40, len(events)) * _WIDTH} {_REFUSED}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{len(events)} events, {sum(event.is_refused for event in events)} refused",
    )
    for number, event in enumerate(events):
        height = _REFUSED if event.is_refused else _WRITE if _kind(event) == "write" else _OTHER
        kind = "bad" if event.is_refused else _kind(event)
        mark = add(strip, "a", href=f"#{_name(event, machine)}", class_=kind)
        place = {"x": f"{number * _WIDTH + 1}", "y": f"{_REFUSED - height}"}
        add(add(mark, "rect", **place, width=f"{_WIDTH - 2}", height=f"{height}"), "title", call_text(event))


def _add_row(body: Element, event: TraceEvent, machine: int) -> None:
    state = {"class_": "refused"} if event.is_refused else {}
    row = add(body, "tr", id=_name(event, machine), data_op=str(event.op), **state)
    add(row, "td", f"{event.time:.6f}", class_="time")
    add(row, "td", f"{event.command}[{event.pid}]" if event.pid is not None else "", class_="caller")
    request = request_text(event)
    cell = add(row, "td")
    add(cell, "span", request or call_text(event))
    effects = [*_effects(event)]
    if effects:
        listed = add(cell, "ul", class_="effects")
        for depth, text in effects:
            add(listed, "li", text, class_=f"deep-{min(depth, _DEEPEST)}")
    add(row, "td", answer_text(event) if request else "", class_="answer")


def _effects(event: TraceEvent) -> Iterator[tuple[int, str]]:
    for effect in event.effects:
        yield effect.depth, effect.text
    if event.omitted:
        yield 0, f"... and {event.omitted} more"


def _kind(event: TraceEvent) -> str:
    """The class of its mark."""
    if event.op in (Op.BOOT, Op.KERNEL):
        return "kernel"
    return "write" if event.op in (Op.WRITE, Op.IOCTL, Op.LOAD, Op.UNLOAD) else "other"


def _name(event: TraceEvent, machine: int) -> str:
    return f"machine-{machine}-event-{event.number}"
