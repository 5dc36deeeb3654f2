"""Stories of uevents: the steps taken on a real kernel's sysfs, and the events that the kernel emitted, in order.

`tests/recordings/README.md` describes the text.  `load` and `dumps` are each other's inverse.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import attrs

#: The format's version, the header's "uevents".
FORMAT = 1

#: The least number of takes of a story.
TAKES = 3

UNSTABLE = {"unstable": "order"}

#: Numbers that the host assigns: their presence is compared, their values are not.
HOST_NUMBER = re.compile(r"^(MAJOR|MINOR|DISKSEQ)=\d+$")
BDI = re.compile(r"/bdi/\d+:\d+$")

Answer = int | str


@attrs.frozen
class Event:
    """One message, without its sequence number.

    Attributes:
        variables: the other words KEY=VALUE, in the kernel's order.
    """

    action: str
    devpath: str
    subsystem: str
    variables: tuple[str, ...] = ()

    @classmethod
    def of(cls, properties: Iterable[tuple[str, str]]) -> Event:
        (_, action), (_, devpath), (_, subsystem), *variables, _ = properties
        return cls(action, devpath, subsystem, tuple(f"{key}={value}" for key, value in variables))

    @property
    def portable(self) -> Event:
        """The event without the numbers that only its host has."""
        variables = tuple(HOST_NUMBER.sub(r"\1=N", word) for word in self.variables)
        return attrs.evolve(self, devpath=BDI.sub("/bdi/MAJOR:MINOR", self.devpath), variables=variables)

    def __str__(self) -> str:
        return " ".join((f"{self.action}@{self.devpath}", self.subsystem, *self.variables))


@attrs.frozen
class Step:
    """A step, its answer (a count of bytes, a status, or an errno's name), and the events that followed.

    Attributes:
        done: `write`, path below /sys and text; or `load` or `unload` and a module's name.
        ordered: the events came in this order each time; else only those of one device did.
    """

    done: tuple[str, ...]
    answer: Answer
    events: tuple[Event, ...] = ()
    ordered: bool = True

    def comparable(self, events: Iterable[Event]) -> list[Event]:
        """Events in the order in which they are compared."""
        portable = [event.portable for event in events]
        return portable if self.ordered else sorted(portable, key=lambda event: event.devpath)


@attrs.frozen
class Story:
    """From a freshly booted machine on.

    Attributes:
        races: the outcomes of races (`nvdimmfs.kernels.races`) that did not end as they usually do, by their numbers in
            the story, from 0.
    """

    machine: dict[str, str]
    kernel: str
    note: str
    steps: tuple[Step, ...]
    races: dict[str, str] = attrs.Factory(dict)


def load(path: Path) -> Story:
    """Read a story.  ValueError when the file is not one."""
    return loads(path.read_text(encoding="ascii"))


def loads(text: str) -> Story:
    lines = text.splitlines()
    header = json.loads(lines[0])
    if header.get("uevents") != FORMAT:
        raise ValueError(f"uevents of format {FORMAT} were expected")
    steps = tuple(_steps(lines[1:]))
    return Story(header["machine"], header["kernel"], header["note"], steps, header.get("races", {}))


def dumps(story: Story) -> str:
    header = {"uevents": FORMAT, "machine": story.machine, "kernel": story.kernel, "note": story.note}
    if story.races:
        header["races"] = story.races
    return "".join(f"{line}\n" for line in (_compact(header), *(line for step in story.steps for line in _lines(step))))


def merge(stories: Sequence[Story]) -> Story:
    """One story of several takes, in the order of the first of those that are most alike.

    A telling in which a race for a number had another winner than mostly, so that devices have other names, is left
    out.  ValueError when there are not three left.
    """
    contents = [_unordered(story) for story in stories]
    usual = max(contents, key=contents.count)
    alike = [story for story, content in zip(stories, contents, strict=True) if content == usual]
    if len(alike) < TAKES:
        raise ValueError(f"only {len(alike)} of {len(stories)} takes are alike")
    steps = (
        attrs.evolve(takes[0], ordered=len({tuple(step.comparable(step.events)) for step in takes}) == 1)
        for takes in zip(*(story.steps for story in alike), strict=True)
    )
    return attrs.evolve(alike[0], steps=tuple(steps))


def _unordered(story: Story) -> Story:
    """The part that all takes have in common: in each step, the events of each device in their order."""
    loose = (attrs.evolve(step, ordered=False) for step in story.steps)
    steps = tuple(attrs.evolve(step, events=tuple(step.comparable(step.events))) for step in loose)
    return attrs.evolve(story, steps=steps)


def _steps(lines: Sequence[str]) -> Iterator[Step]:
    position = 0
    while position < len(lines):
        end = position + 1
        while end < len(lines) and lines[end].startswith(" "):
            end += 1
        words = json.loads(lines[position])
        ordered = words[-1] != UNSTABLE
        *done, answer = words if ordered else words[:-1]
        events = (json.loads(line) for line in lines[position + 1 : end])
        yield Step(tuple(done), answer, tuple(Event(a, d, s, tuple(more)) for a, d, s, *more in events), ordered)
        position = end


def _lines(step: Step) -> Iterator[str]:
    yield _compact([*step.done, step.answer, *([] if step.ordered else [UNSTABLE])])
    for event in step.events:
        yield " " + _compact([event.action, event.devpath, event.subsystem, *event.variables])


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
