"""The compact text of recordings.

tests/recordings/README.md describes it.  `load` and `dumps` are each other's inverse.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from nvdimmfs.lab.asking import SETTLE, Answer, Call, Row
from nvdimmfs.lab.frames import Json
from nvdimmfs.lab.packing import pack, pack_text, unpack, unpack_text
from nvdimmfs.lab.questions import question
from nvdimmfs.lab.recording import Header, Recording, Step

#: The format's version, the header's "recording".
FORMAT = 1

#: The types of what a header may have, as JSON has them.
_HEADER = {
    "machine": dict,
    "kernel": str,
    "note": str,
    "settle": int | float,
    "after": str,
    "programs": dict,
    "without": str,
}

DecodedT = TypeVar("DecodedT")

#: Questions whose answer is empty.
_WITHOUT_ANSWER = ("sleep", "reboot")

UNSTABLE: Json = {"unstable": True}


def load(path: Path) -> Recording:
    """Read a recording.  ValueError when the file is not one."""
    return loads(path.read_text(encoding="ascii"))


def load_header(path: Path) -> Header:
    """Read where a recording comes from.  ValueError when the file is not one."""
    with path.open(encoding="ascii") as lines:
        return decoded(1, lambda: _header(json.loads(lines.readline())))


def loads(text: str) -> Recording:
    """Decode a recording's text.  ValueError when it is not one."""
    lines = text.splitlines() or [""]
    header = decoded(1, lambda: json.loads(lines[0]))
    decoder = _Decoder(decoded(1, lambda: header.get("skips", [])))
    return Recording(decoded(1, lambda: _header(header)), tuple(decoder.steps(lines[1:])))


def decoded(number: int, decode: Callable[[], DecodedT], whole: str = "a recording") -> DecodedT:
    """What a line stands for.  ValueError names the line, whatever the decoder missed in it.

    Args:
        number: that of the line, from 1 on.
        decode: decodes it.
        whole: what it is a line of.
    """
    try:
        return decode()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"line {number} is not one of {whole}: {error}") from error


def _header(first: dict[str, Any]) -> Header:
    if first.get("recording") != FORMAT:
        raise ValueError(f"a recording of format {FORMAT} was expected")
    for name, kinds in _HEADER.items():
        if name in first and not isinstance(first[name], kinds):
            raise TypeError(f'"{name}" has a value of another type: {first[name]!r}')
    machine = first["machine"]
    if not machine.keys() & {"machine", "memmap"}:
        raise ValueError(f'"machine" has neither "memmap" nor "machine": {machine}')
    if not all(isinstance(value, str) for value in machine.values()):
        raise TypeError(f'"machine" has a value that is no text: {machine}')
    return Header(
        machine,
        first["kernel"],
        first.get("note", ""),
        first.get("settle", SETTLE),
        first.get("after", ""),
        first.get("programs", {}),
        first.get("without", ""),
    )


def dumps(recording: Recording) -> str:
    """Encode a recording as text, one step or changed row a line."""
    encoder = _Encoder()
    lines = [line for step in recording.steps for line in encoder.lines(step)]
    header: dict[str, Json] = {
        "recording": FORMAT,
        "machine": {**recording.header.machine},
        "kernel": recording.header.kernel,
        "note": recording.header.note,
    }
    if recording.header.settle != SETTLE:
        header["settle"] = recording.header.settle
    if recording.header.after:
        header["after"] = recording.header.after
    if recording.header.programs:
        header["programs"] = {**recording.header.programs}
    if recording.header.without:
        header["without"] = recording.header.without
    if encoder.skips:
        header["skips"] = [[*skip] for skip in encoder.skips]
    return "".join(line + "\n" for line in [_compact(header), *lines])


def tree_order(path: str) -> list[str]:
    """Sort key for the rows of a dump: a directory, then what it holds by name."""
    return path.split("/")


class _Known:
    """What a reader of the story knows of the tree: every row that was recorded and not removed since."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.names: dict[str, list[str]] = {}
        #: The paths of dumps, by what they are asked for, as long as no path comes or goes.
        self._paths: dict[tuple[str, int | None, tuple[str, ...]], list[str]] = {}

    def expected(self, call: Call) -> dict[str, Row]:
        """The rows that a dump would hold if nothing had changed, in the dump's order."""
        scope = call["path"], call.get("depth"), tuple(call.get("skip", ()))
        paths = self._paths.get(scope)
        if paths is None:
            paths = self._paths[scope] = sorted(self._inside(*scope), key=tree_order)
        return {path: self.rows[path] for path in paths}

    def _inside(self, base: str, depth: int | None, skip: tuple[str, ...]) -> Iterator[str]:
        deepest = None if depth is None else base.count("/") + depth
        below = f"{base}/"
        for path in self.rows:
            if path != base and not path.startswith(below):
                continue
            if (deepest is None or path.count("/") <= deepest) and not any(word in path for word in skip):
                yield path

    def learn(self, path: str, row: Row) -> None:
        """A node has that row from now on."""
        if path not in self.rows:
            self._paths.clear()
        self.rows[path] = row

    def forget(self, gone: str) -> None:
        """A node went away with all that it held."""
        self._paths.clear()
        for path in [path for path in self.rows if path == gone or path.startswith(gone + "/")]:
            del self.rows[path]


class _Encoder:
    """Turns steps, one after the other, into lines, which leave out what a reader of the lines before knows."""

    def __init__(self) -> None:
        self.known = _Known()
        self.skips: list[list[str]] = []

    def lines(self, step: Step) -> Iterator[str]:
        call, answer = step.call, step.answer
        words: list[Json] = [call["op"], *self._arguments(call)]
        if call["op"] not in _WITHOUT_ANSWER and (call["op"] != "dump" or "errno" in answer):
            words.append(self._answer(call, answer))
        if step.unstable:
            words.append(UNSTABLE)
        yield _compact(words)
        for change in self._changes(call, answer.get("rows", [])):
            yield " " + _compact(change)

    def _arguments(self, call: Call) -> list[Json]:
        match call["op"]:
            case "write":
                return [call["path"], pack_text(call["data"])]
            case "read" | "ls" | "readlink" | "stat":
                return [call["path"]]
            case "dump":
                return [call["path"], self._scope(call)]
            case "pread":
                return [call["dev"], call["offset"], call["length"]]
            case "pwrite":
                return [call["dev"], call["offset"], pack(call["hex"])]
            case "ioctl":
                return [call["dev"], call["request"], pack(call["hex"]), *_how(call)]
            case "hold":
                return [call["dev"], call["way"]]
            case "kill" | "mount" | "umount":
                return [call["dev"]]
            case "sleep":
                return [call["seconds"]]
            case "watch":
                return [call["path"]]
            case "reboot" | "uevents" | "poll":
                return []
            case "run":
                return [[*call["argv"]]]
            case other:
                raise ValueError(f"a recording holds no {other!r} step")

    def _scope(self, call: Call) -> Json:
        scope: dict[str, Json] = {}
        if "depth" in call:
            scope["depth"] = call["depth"]
        if "skip" in call:
            if call["skip"] not in self.skips:
                self.skips.append(call["skip"])
            scope["skip"] = self.skips.index(call["skip"])
        return scope

    def _answer(self, call: Call, answer: Answer) -> Json:
        if "errno" in answer:
            return {"errno": answer["errno"]}
        match call["op"]:
            case "write" | "pwrite":
                return answer["wrote"]
            case "read":
                return pack_text(answer["data"])
            case "readlink":
                return answer["link"]
            case "stat":
                return [answer["mode"], answer["size"]]
            case "pread":
                return pack(answer["hex"])
            case "hold" | "kill" | "mount" | "umount" | "watch":
                return answer["result"]
            case "poll":
                return [*answer["names"]]
            case "ioctl":
                return [answer["result"], pack(answer["hex"])] if "hex" in answer else answer["result"]
            case "uevents":
                return [[*event] for event in answer["events"]]
            case "run":
                return {"rc": answer["rc"], "stdout": answer["stdout"], "stderr": answer["stderr"]}
            case _:
                return self._names(call["path"], answer["names"])

    def _names(self, path: str, names: list[str]) -> Json:
        before = self.known.names.get(path)
        self.known.names[path] = names
        if before is None:
            return [*names]
        change: dict[str, Json] = {}
        if new := [name for name in names if name not in before]:
            change["+"] = [*new]
        if gone := [name for name in before if name not in names]:
            change["-"] = [*gone]
        return change

    def _changes(self, call: Call, rows: list[Row]) -> Iterator[Json]:
        if call["op"] != "dump" or not rows:
            return
        base = call["path"]
        here = {row["path"]: row for row in rows}
        top = ""
        for path in self.known.expected(call):
            if path in here or (top and path.startswith(top + "/")):
                continue
            top = path
            self.known.forget(path)
            yield {_relative(path, base): None}
        for path, row in here.items():
            before = self.known.rows.get(path)
            if before != row:
                yield _row_words(_relative(path, base), before, row)
            self.known.learn(path, row)


class _Decoder:
    """Turns lines into the steps that an `_Encoder` was given."""

    def __init__(self, skips: list[list[str]]) -> None:
        self.known = _Known()
        self.skips = skips

    def steps(self, lines: list[str]) -> Iterator[Step]:
        position = 0
        while position < len(lines):
            end = position + 1
            while end < len(lines) and lines[end].startswith(" "):
                end += 1
            yield decoded(position + 2, lambda: self._parsed_step(lines[position:end]))  # noqa: B023  # called at once
            position = end

    def _parsed_step(self, lines: list[str]) -> Step:
        words, *changes = map(json.loads, lines)
        return self._step(words, changes)

    def _step(self, words: list[Json], changes: list[Json]) -> Step:
        unstable = words[-1] == UNSTABLE
        if unstable:
            words = words[:-1]
        asked, rest = self._call(words)
        call = question(asked)
        if rest and isinstance(rest[0], dict) and "errno" in rest[0]:
            return Step(call, {"errno": str(rest[0]["errno"])}, unstable)
        if call["op"] == "dump":
            return Step(call, {"rows": self._rows(call, changes)}, unstable)
        return Step(call, self._answer(call, rest), unstable)

    def _call(self, words: list[Json]) -> tuple[Call, list[Json]]:
        """The question, and what is left of the line: the answer."""
        match words:
            case ["write", str(path), (str() | list()) as data, *rest]:
                return {"op": "write", "path": path, "data": unpack_text(data)}, rest
            case [("read" | "ls" | "readlink" | "stat") as op, str(path), *rest]:
                return {"op": op, "path": path}, rest
            case ["dump", str(path), dict(scope), *rest]:
                call: Call = {"op": "dump", "path": path}
                if isinstance(depth := scope.get("depth"), int):
                    call["depth"] = depth
                if isinstance(skip := scope.get("skip"), int):
                    call["skip"] = self.skips[skip]
                return call, rest
            case ["pread", str(dev), int(offset), int(length), *rest]:
                return {"op": "pread", "dev": dev, "offset": offset, "length": length}, rest
            case ["pwrite", str(dev), int(offset), str(packed), *rest]:
                return {"op": "pwrite", "dev": dev, "offset": offset, "hex": unpack(packed)}, rest
            case ["ioctl", str(dev), int(request), str(packed), *rest]:
                how, rest = _split_how(rest)
                return {"op": "ioctl", "dev": dev, "request": request, "hex": unpack(packed), **how}, rest
            case ["hold", str(dev), str(way), *rest]:
                return {"op": "hold", "dev": dev, "way": way}, rest
            case [("kill" | "mount" | "umount") as op, str(dev), *rest]:
                return {"op": op, "dev": dev}, rest
            case ["sleep", (int() | float()) as seconds]:
                return {"op": "sleep", "seconds": seconds}, []
            case ["reboot"]:
                return {"op": "reboot"}, []
            case [("uevents" | "poll") as op, *rest]:
                return {"op": op}, rest
            case ["watch", str(path), *rest]:
                return {"op": "watch", "path": path}, rest
            case ["run", list(argv), *rest]:
                return {"op": "run", "argv": _strings(argv)}, rest
        raise ValueError(f"not a step: {words}")

    def _answer(self, call: Call, rest: list[Json]) -> Answer:
        match call["op"], rest:
            case (("write" | "pwrite"), [int(count)]):
                return {"wrote": count}
            case "read", [(str() | list()) as data]:
                return {"data": unpack_text(data)}
            case "readlink", [str(target)]:
                return {"link": target}
            case "stat", [[str(mode), int(size)]]:
                return {"mode": mode, "size": size}
            case "pread", [str(packed)]:
                return {"hex": unpack(packed)}
            case (("ioctl" | "hold" | "kill" | "mount" | "umount" | "watch"), [int(result)]):
                return {"result": result}
            case "ioctl", [[int(result), str(packed)]]:
                return {"result": result, "hex": unpack(packed)}
            case "ls", [list(names)]:
                return {"names": self._learn_names(call["path"], _strings(names))}
            case "ls", [dict(change)]:
                gone = _strings(change.get("-", []))
                kept = [name for name in self.known.names[call["path"]] if name not in gone]
                return {"names": self._learn_names(call["path"], sorted(kept + _strings(change.get("+", []))))}
            case (("sleep" | "reboot"), []):
                return {}
            case "poll", [list(names)]:
                return {"names": _strings(names)}
            case "uevents", [list(events)]:
                return {"events": [_strings(event) for event in events]}
            case "run", [{"rc": int(status), "stdout": str(output), "stderr": str(errors)}]:
                return {"rc": status, "stdout": output, "stderr": errors}
        raise ValueError(f"not an answer to {call['op']}: {rest}")

    def _learn_names(self, path: str, names: list[str]) -> list[str]:
        self.known.names[path] = names
        return names

    def _rows(self, call: Call, changes: list[Json]) -> list[Row]:
        for change in changes:
            self._learn(call["path"], change)
        return list(self.known.expected(call).values())

    def _learn(self, base: str, change: Json) -> None:
        match change:
            case [str(name), str(mode), *rest]:
                path = _absolute(name, base)
                self.known.learn(path, _full_row(path, mode, rest))
            case dict():
                for name, content in change.items():
                    path = _absolute(name, base)
                    if content is None:
                        self.known.forget(path)
                    else:
                        self.known.learn(path, _with_content(self.known.rows[path], content))
            case _:
                raise ValueError(f"not a row: {change}")


def _how(call: Call) -> list[Json]:
    """How an ioctl is made, where it is not as usual."""
    how: dict[str, Json] = {}
    if "open" in call:
        how["open"] = call["open"]
    if "value" in call:
        how["value"] = call["value"]
    return [how] if how else []


def _split_how(rest: list[Json]) -> tuple[Call, list[Json]]:
    """How an ioctl is made, and the answer."""
    how: Call = {}
    match rest:
        case [dict(words), *others] if "errno" not in words and words != UNSTABLE:
            if isinstance(opened := words.get("open"), str):
                how["open"] = opened
            if isinstance(value := words.get("value"), int):
                how["value"] = value
            return how, others
    return how, rest


def _row_words(name: str, before: Row | None, row: Row) -> Json:
    """A row as JSON: only its content when nothing else differs from the row known before."""
    content = _content(row)
    if before is not None and content is not None and _content(before) is not None and _shape(before) == _shape(row):
        return {name: content}
    words: list[Json] = [name, row["mode"]]
    if "size" in row:
        words.append(row["size"])
    if content is not None:
        words.append(content)
    if row.get("unstable"):
        words.append(UNSTABLE)
    return words


def _full_row(path: str, mode: str, rest: list[Json]) -> Row:
    row: Row = {"path": path, "mode": mode}
    if rest and rest[-1] == UNSTABLE:
        row["unstable"] = True
        rest = rest[:-1]
    if rest and isinstance(rest[0], int):
        row["size"] = rest[0]
        rest = rest[1:]
    return _with_content(row, rest[0]) if rest else row


def _with_content(row: Row, content: Json) -> Row:
    new = _shape(row)
    if isinstance(content, dict):
        new["errno"] = str(content["errno"])
    elif row["mode"].startswith("l"):
        new["link"] = str(content)
    else:
        new["data"] = str(content)
    return new


def _content(row: Row) -> Json:
    if "errno" in row:
        return {"errno": row["errno"]}
    return row.get("link", row.get("data"))


def _shape(row: Row) -> Row:
    """The row without its content."""
    shape = row.copy()
    shape.pop("link", None)
    shape.pop("data", None)
    shape.pop("errno", None)
    return shape


def _relative(path: str, base: str) -> str:
    return path[len(base) + 1 :] or "."


def _absolute(name: str, base: str) -> str:
    return base if name == "." else f"{base}/{name}"


def _strings(values: Json) -> list[str]:
    if not isinstance(values, Iterable):
        raise TypeError(f"not a list of names: {values}")
    return [str(value) for value in values]


def _compact(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"))
