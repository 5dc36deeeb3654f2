"""What recordings of any form show: which attribute was read or written, which ioctl was made, and how it ended.

tests/recordings/README.md describes the forms.  Of an answer counts whether it is a refusal, and which one.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from nvdimmfs.lab.attribute_tables import AttributeSubject, attribute_at
from nvdimmfs.lab.changes import SUFFIX, load
from nvdimmfs.lab.ioctl_tables import IoctlSubject, ioctls_named, ioctls_of
from nvdimmfs.lab.packing import unpack
from nvdimmfs.lab.recording import Recording, Step

Subject: TypeAlias = AttributeSubject | IoctlSubject

READ, WRITE, IOCTL = "read", "write", "ioctl"

#: The outcome of a call that was not refused.
DONE = ""

#: How the names of files with evidence end: stories, and lists of calls.
ENDS = (".recording", SUFFIX, ".uevents", ".jsonl")

#: A call in words, as in `calls/`: perhaps the node, then the name of the request or its number.
_CALL = re.compile(r"(?:(?:/dev/)?(\w+): )?(?:ioctl (0x[0-9a-f]+)|(\w+))\b")


class Fact(NamedTuple):
    """What a recording shows.

    Attributes:
        subject: the attribute or the ioctl.
        act: `READ`, `WRITE` or `IOCTL`.
        outcome: the errno's name, or `DONE`.
    """

    subject: Subject
    act: str
    outcome: str


class Shown(NamedTuple):
    """What one recording shows.

    Attributes:
        kernel: the release that answered, such as 6.1.
        facts: what it shows.
    """

    kernel: str
    facts: frozenset[Fact]


def shown_by(path: Path) -> Shown:
    """What a file shows.  ValueError when it is no recording.

    Args:
        path: a file of one of the forms in `ENDS`.
    """
    if path.suffix in (".recording", SUFFIX):
        return shown_by_recording(load(path))
    first, *others = [*_lines(path)] or [None]
    if not isinstance(first, dict) or not isinstance(kernel := first.get("kernel"), str):
        raise ValueError("line 1 names no kernel")
    return Shown(_release(kernel), frozenset(_facts_of_lines(others)))


def _lines(path: Path) -> Iterator[object]:
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), 1):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError(f"line {number} is not JSON") from None


def shown_by_recording(recording: Recording) -> Shown:
    """What a story shows."""
    return Shown(_release(recording.header.kernel), frozenset(_facts_of_steps(recording.steps)))


def _release(kernel: str) -> str:
    """A release without what its distribution adds: 6.1 of 6.1.0-57-amd64."""
    return ".".join(kernel.split(".")[:2])


class _Places(dict[str, AttributeSubject | None]):
    """The attributes of paths; a story asks for the same ones again and again."""

    def __missing__(self, path: str) -> AttributeSubject | None:
        found = self[path] = attribute_at(path)
        return found


_PLACES = _Places()


def _facts_of_steps(steps: Iterable[Step]) -> Iterator[Fact]:
    for call, answer, unstable in ((step.call, step.answer, step.unstable) for step in steps):
        if call["op"] == "dump" and "rows" in answer:
            for row in answer["rows"]:
                if ("data" in row or "errno" in row) and (subject := _PLACES[row["path"]]) and "unstable" not in row:
                    yield Fact(subject, READ, row.get("errno", DONE))
        elif call["op"] == IOCTL and not unstable:
            asked = ioctls_of(call["dev"].removeprefix("/dev/"), call["request"], bytes.fromhex(call["hex"]))
            yield from _ioctl_facts(asked, answer)
        elif call["op"] in (READ, WRITE) and not unstable and (subject := _PLACES[call["path"]]):
            yield Fact(subject, call["op"], answer.get("errno", DONE))


def _facts_of_lines(lines: Iterable[object]) -> Iterator[Fact]:
    """What the lines of other forms than recordings show; one that shows nothing is passed over."""
    for line in lines:
        match line:
            case {"answer": answer, "ioctl": str(node), "request": int(request), **others}:
                memory = bytes.fromhex(unpack(str(others.get("memory", ""))))
                yield from _ioctl_facts(ioctls_of(node, request, memory), answer)
            case {"answer": answer, "read": str(path)}:
                yield from _attribute_facts(path, READ, answer)
            case {"answer": answer, "write": str(path)}:
                yield from _attribute_facts(path, WRITE, answer)
            case ["write", str(path), _, answer, *_]:
                yield from _attribute_facts(path, WRITE, answer)
            case [str(path), str(mode), int(), str()] if mode.startswith("-r"):
                yield from _attribute_facts(f"module/{path}", READ, DONE)
            case [str(call), answer]:
                yield from _called(call, answer)


def _called(words: str, answer: Any) -> Iterator[Fact]:  # noqa: ANN401  # JSON
    if (match := _CALL.match(words)) is None:
        return
    node, number, name = match.groups()
    asked = ioctls_of(node or "", int(number, 16)) if number else ioctls_named(name, node or "")
    yield from _ioctl_facts(asked, answer)


def _attribute_facts(path: str, act: str, answer: Any) -> Iterator[Fact]:  # noqa: ANN401  # JSON
    # `{region of nmem0}` and `{seed of nmem0}` stand for devices whose numbers differ from boot to boot
    path = re.sub(
        r"\{(region|seed) of \w+\}", lambda match: {"region": "region0", "seed": "namespace0.0"}[match[1]], path
    )
    if subject := _PLACES[path]:
        yield Fact(subject, act, _outcome(answer))


def _ioctl_facts(subjects: Iterable[IoctlSubject], answer: Any) -> Iterator[Fact]:  # noqa: ANN401  # JSON
    return (Fact(subject, IOCTL, _outcome(answer)) for subject in subjects)


def _outcome(answer: Any) -> str:  # noqa: ANN401  # JSON
    """The errno that an answer names, alone, first in a list or as `errno`."""
    match answer:
        case {"errno": str(name)} | [str(name), *_] | str(name) if name in errno.errorcode.values():
            return name
    return DONE
