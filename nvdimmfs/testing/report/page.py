"""The page of a failing test."""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

import attrs

from nvdimmfs import __version__
from nvdimmfs.cli.drawing.model import MachineDrawing
from nvdimmfs.cli.drawing.summary import summary
from nvdimmfs.cli.drawing.svg import draw_svg
from nvdimmfs.cli.drawing.text import draw_plain
from nvdimmfs.testing.events import Uevent
from nvdimmfs.testing.plugin.evidence import Evidence
from nvdimmfs.testing.report.markup import add, add_source, data_of, digest, document
from nvdimmfs.testing.report.timeline import add_timeline

#: The `op` of a uevent's row.
_UEVENT = "uevent"

#: Events of a trace, uevents and differences on a page, at most: the last ones.
_MOST_ROWS = 3000

#: The words of the filter, beside the calls that the traces have.
_REFUSED = "refused"


@attrs.frozen
class Failure:
    """A test that failed.

    Attributes:
        test: its id.
        phase: `setup`, `call` or `teardown`.
        text: the failure as pytest reports it, several lines.
        facts: when and where, in words that follow the phase.
    """

    test: str
    phase: str
    text: str
    facts: Sequence[str] = ()


def page_of(failure: Failure, machines: Sequence[Evidence]) -> str:
    """The whole page, which loads nothing from anywhere."""
    root = Element("html", {"lang": "en"})
    _add_head(add(root, "head"), failure)
    body = add(root, "body")
    add(body, "h1", failure.test)
    add(body, "p", f"failed in its {failure.phase} {' '.join(failure.facts)}; nvdimmfs {__version__}", class_="facts")
    add(body, "pre", failure.text)
    _add_filter(body, machines)
    for number, evidence in enumerate(machines, 1):
        _add_machine(body, evidence, number)
    add_source(body, "script", _source("report.js"))
    return document(root)


def _add_head(head: Element, failure: Failure) -> None:
    """The policy stands first: it forbids all but the files of this package and the pictures in the page."""
    policy = (
        f"default-src 'none'; script-src {digest(_source('report.js'))}; style-src {digest(_source('report.css'))}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    add(head, "meta", charset="utf-8")
    add(head, "meta", http_equiv="Content-Security-Policy", content=policy)
    add(head, "meta", name="generator", content="nvdimmfs")
    add(head, "meta", name="referrer", content="no-referrer")
    add(head, "meta", name="viewport", content="width=device-width")
    add(head, "title", f"{failure.test} failed")
    add(head, "link", rel="icon", href="data:,")
    add_source(head, "style", _source("report.css"))


def _add_filter(body: Element, machines: Sequence[Evidence]) -> None:
    """The form that selects lines of the timelines and uevents; the script shows it."""
    ops = list(dict.fromkeys(str(event.op) for machine in machines for event in machine.trace))
    ops += [_UEVENT] if any(machine.events for machine in machines) else []
    form = add(body, "form", hidden="")
    find = add(form, "label", "Find ")
    add(find, "input", type="search", name="find", placeholder="a path, a value, a command, a reason")
    for word in (_REFUSED, *ops):
        _add_choice(form, "only", word, f" {word}")
    _add_choice(form, "bare", "1", " without effects")
    add(form, "output")


def _add_choice(form: Element, name: str, value: str, words: str) -> None:
    label = add(form, "label")
    add(label, "input", type="checkbox", name=name, value=value).tail = words


def _add_machine(body: Element, evidence: Evidence, number: int) -> None:
    section = add(body, "section", id=f"machine-{number}")
    add(section, "h2", evidence.title)
    if evidence.problem:
        add(section, "p", f"It shows no more: {evidence.problem}", class_="note")
    _add_memory(section, evidence)
    add(section, "h3", f"What differs from {evidence.since}")
    _add_differences(section, evidence)
    if evidence.refused and not evidence.trace:
        add(section, "h3", "Refused calls")
        _add_omission(section, len(evidence.refused) - _MOST_ROWS, "refusals")
        add(section, "pre", "\n".join(evidence.refused[-_MOST_ROWS:]))
    trace = evidence.trace[-_MOST_ROWS:]
    if trace:
        add(section, "h3", "Trace")
        _add_omission(section, len(evidence.trace) - len(trace) + evidence.dropped, "events")
        add_timeline(section, trace, number)
    if evidence.events:
        add(section, "h3", "Uevents")
        events = evidence.events[-_MOST_ROWS:]
        _add_omission(section, len(evidence.events) - len(events), "uevents")
        _add_uevents(section, events, number)


def _add_memory(section: Element, evidence: Evidence) -> None:
    if evidence.drawing is None:
        return
    if evidence.before is None:
        _add_drawing(section, "Memory when the test failed", evidence.drawing)
    elif evidence.before == evidence.drawing:
        _add_drawing(section, f"Memory, when the test failed as at {evidence.since}", evidence.drawing)
    else:
        _add_drawing(section, f"Memory at {evidence.since}", evidence.before)
        _add_drawing(section, "Memory when the test failed", evidence.drawing)


def _add_drawing(section: Element, heading: str, drawing: MachineDrawing) -> None:
    add(section, "h3", heading)
    add(section, "img", src=data_of("image/svg+xml", draw_svg(drawing)), alt=summary(drawing))
    details = add(section, "details")
    add(details, "summary", "as text")
    add(details, "pre", draw_plain(drawing))


def _add_differences(section: Element, evidence: Evidence) -> None:
    if evidence.differences is None:
        add(section, "p", "Not known.", class_="note")
    elif not evidence.differences:
        add(section, "p", "Nothing.", class_="note")
    else:
        add(section, "p", "Without the attributes dev and uevent, which follow from the others.", class_="note")
        listed = add(section, "ul", class_="differences")
        for line in evidence.differences[:_MOST_ROWS]:
            add(listed, "li", line)
        _add_omission(section, len(evidence.differences) - _MOST_ROWS, "differences")


def _add_omission(section: Element, count: int, what: str) -> None:
    if count > 0:
        add(section, "p", f"{count} {what} are left out.", class_="note")


def _add_uevents(section: Element, events: Sequence[Uevent], machine: int) -> None:
    table = add(add(section, "div", class_="wide"), "table")
    head = add(add(table, "thead"), "tr")
    for words in ("SEQNUM", "Action", "Device", "Other variables"):
        add(head, "th", words)
    body = add(table, "tbody")
    for number, event in enumerate(events):
        row = add(body, "tr", id=f"machine-{machine}-uevent-{number}", data_op=_UEVENT)
        add(row, "td", event.properties.get("SEQNUM", ""), class_="time")
        add(row, "td", event.action, class_="op")
        add(row, "td", event.devpath)
        add(row, "td", " ".join(_variables(event)))


def _variables(event: Uevent) -> Iterator[str]:
    """What the other columns do not have."""
    for name, value in event.properties.items():
        if name not in ("ACTION", "DEVPATH", "SEQNUM"):
            yield f"{name}={value}"


@functools.cache
def _source(name: str) -> str:
    """A file of this package."""
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
