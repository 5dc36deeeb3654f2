r"""The answers of another kernel to the questions of a recording: only those that differ are kept.

    {"changes":1,"of":"e820/tree","kernel":"6.12.117+deb12-amd64","emulated":"6.12"}
    [1,{"rows":{"block/pmem0/partscan":{"mode":"-r--r--r--","size":4096,"data":"1\n"},"block/pmem0/old":null}}]
    [7,{"answer":{"errno":"EINVAL"}}]
    [9,{"unstable":true}]
    [12,{"ends":true}]

The first line names the recording, as a path below a folder that the file is in, the kernel that answered (`uname -r`)
and the `--kernel` that has to answer so.  Each other line has the number of a step, from 1 on, and its differences: the
whole answer, or of a dump the rows by their paths below the dump's own; `null` stands for one that is not there.  What
is not compared, as device numbers and random UUIDs, is no difference.  `ends` stands for this step and all after it: a
race went another way than in the recording, so that its questions are not to the point any more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from nvdimmfs.lab import recording_text
from nvdimmfs.lab.asking import Answer, Row
from nvdimmfs.lab.comparing import portable_answer, portable_row
from nvdimmfs.lab.recording import Header, Recording, Step
from nvdimmfs.lab.recording_text import tree_order

#: The format's version, the first line's "changes".
FORMAT = 1

#: How the names of files with changes end.
SUFFIX = ".changes"


def load(path: Path, load_recording: Callable[[Path], Recording] = recording_text.load) -> Recording:
    """Read a story, kept as a recording or as changes to one.  ValueError when the file is neither.

    Args:
        path: the file.
        load_recording: reads a recording; where many stories are read, one that remembers those that others change.
    """
    return _load_changes(path, load_recording) if path.suffix == SUFFIX else load_recording(path)


def asked_by(path: Path) -> Path:
    """The recording with the questions of a story: the file itself, or the one to which it has changes.  ValueError."""
    if path.suffix != SUFFIX:
        return path
    with path.open(encoding="ascii") as lines:
        of, *_ = _decoded(1, lambda: _first(lines.readline()))
    return _base(path, of)


def load_header(path: Path) -> Header:
    """Read where a story comes from.  ValueError when the file is neither a recording nor changes to one."""
    if path.suffix != SUFFIX:
        return recording_text.load_header(path)
    with path.open(encoding="ascii") as lines:
        of, kernel, emulated = _decoded(1, lambda: _first(lines.readline()))
    return other_header(recording_text.load_header(_base(path, of)), kernel, emulated)


def _decoded(number: int, decode: Callable[[], recording_text.DecodedT]) -> recording_text.DecodedT:
    return recording_text.decoded(number, decode, "changes")


def _first(line: str) -> tuple[str, str, str]:
    """Which recording was asked again, the kernel that answered, and the `--kernel` that has to answer so."""
    first = json.loads(line)
    if first.get("changes") != FORMAT:
        raise ValueError(f"changes of format {FORMAT} were expected")
    return first["of"], first["kernel"], first["emulated"]


def _base(changes: Path, name: str) -> Path:
    """The recording with the questions, below a folder that the file is in.  ValueError when there is none."""
    files = (folder / f"{name}.recording" for folder in changes.absolute().parents)
    found = next((file for file in files if file.exists()), None)
    if found is None:
        raise ValueError(f"there is no {name}.recording below the folders that it is in")
    return found


def _load_changes(path: Path, load_recording: Callable[[Path], Recording]) -> Recording:
    head, *lines = path.read_text(encoding="ascii").splitlines() or [""]
    of, kernel, emulated = _decoded(1, lambda: _first(head))
    base = load_recording(_base(path, of))
    steps = list(base.steps)
    for number, line in enumerate(lines, 2):
        _decoded(number, lambda: _change_one(steps, of, *json.loads(line)))  # noqa: B023  # called at once
    return Recording(other_header(base.header, kernel, emulated), tuple(steps))


def _change_one(steps: list[Step], of: str, number: int, change: dict[str, Any]) -> None:
    if not 1 <= number <= len(steps):
        raise ValueError(f"{of} has no step {number}")
    if change.get("ends"):
        del steps[number - 1 :]
    else:
        steps[number - 1] = _changed(steps[number - 1], change)


def other_header(header: Header, kernel: str, emulated: str) -> Header:
    """Return the header of the same story on another kernel."""
    return attrs.evolve(header, kernel=kernel, machine={**header.machine, "kernel": emulated})


def dumps(of: str, base: Recording, other: Recording) -> str:
    """Encode the changes from one recording to another.  ValueError when the questions are not the same.

    The other one may end before the first one does.
    """
    if [step.call for step in base.steps[: len(other.steps)]] != [step.call for step in other.steps]:
        raise ValueError(f"these are not the questions of {of}")
    kernel = {"kernel": other.header.kernel, "emulated": other.header.machine["kernel"]}
    lines: list[Any] = [{"changes": FORMAT, "of": of, **kernel}]
    for number, (before, after) in enumerate(zip(base.steps, other.steps, strict=False), 1):
        if change := _change(before, after):
            lines.append([number, change])
    if len(other.steps) < len(base.steps):
        lines.append([len(other.steps) + 1, {"ends": True}])
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)


def _change(before: Step, after: Step) -> dict[str, Any]:
    change: dict[str, Any] = {}
    if after.unstable and not before.unstable:
        change["unstable"] = True
    if "rows" in before.answer and "rows" in after.answer:
        rows = dict(_changed_rows(before, after))
        return {**change, "rows": rows} if rows else change
    if portable_answer(after.call, after.answer) == portable_answer(before.call, before.answer):
        return change
    return {**change, "answer": after.answer}


def _changed_rows(before: Step, after: Step) -> Iterator[tuple[str, dict[str, Any] | None]]:
    top = before.call["path"]
    old, new = ({row["path"]: row for row in step.answer["rows"]} for step in (before, after))
    for path in sorted(old.keys() | new.keys(), key=tree_order):
        if portable_row(old.get(path)) != portable_row(new.get(path)):
            row = new.get(path)
            yield _below(path, top), None if row is None else {key: row[key] for key in row if key != "path"}  # type: ignore[literal-required]


def _changed(step: Step, change: dict[str, Any]) -> Step:
    unstable = step.unstable or change.get("unstable", False)
    answer: Answer = change.get("answer", step.answer)
    if "rows" in change:
        answer = {"rows": _patched(step, change["rows"])}
    return attrs.evolve(step, answer=answer, unstable=unstable)


def _patched(step: Step, changes: dict[str, dict[str, Any] | None]) -> list[Row]:
    top = step.call["path"]
    rows: dict[str, Row] = {row["path"]: row for row in step.answer["rows"]}
    for relative, row in changes.items():
        path = top if relative == "." else f"{top}/{relative}"
        if row is None:
            rows.pop(path)
        else:
            rows[path] = {"path": path, **row}  # type: ignore[typeddict-item]
    return [rows[path] for path in sorted(rows, key=tree_order)]


def _below(path: str, top: str) -> str:
    return "." if path == top else path.removeprefix(f"{top}/")
