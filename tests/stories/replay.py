#!/usr/bin/env python3
"""Take the steps of a recording on a tree, and report where the answers differ from the real kernel's.

    for difference in replay(load(path), Mounted(root, dev)).differences: print(difference)

`Mounted` asks with system calls below a mount, `InProcess` asks a `kernfs.Tree` directly; both answer alike.
A recording is one story: replay it from its start on a fresh machine.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import attrs
from changes import load
from recording import SETTLE, Answer, Call, Header, Recording, Row, Step, shorten

from nvdimmfs.core.clock import Clock
from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.durations import SECOND
from nvdimmfs.kernfs import Directory, Node, Symlink
from nvdimmfs.kernfs.open_file import file_size, open_node
from nvdimmfs.kernfs.path import resolve

__all__ = ["Difference", "Header", "InProcess", "Mounted", "Recording", "Report", "Tree", "load", "replay"]

#: The file below /sys that shows and moves the clock of an emulated machine.
CLOCK = "kernel/debug/nvdimmfs/clock"

#: More than any attribute holds.
READ_LENGTH = 65536

#: EHWPOISON (include/uapi/asm-generic/errno.h), which Python names since 3.14.
_EHWPOISON = 133

DEVICE_NUMBER = re.compile(r"\d+:\d+\n")
DEVICE_LINES = re.compile(r"^(?:MAJOR|MINOR|DISKSEQ)=.*\n", re.MULTILINE)

#: A generated UUID: those of the stories begin with 0000 or have -1111-2222-3333- inside.
RANDOM_UUID = re.compile(
    r"\b(?!0000|[0-9a-f]{8}-1111-2222-3333)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
)


class Tree(Protocol):
    """What can be asked.  Paths start in /sys, nodes are names in /dev; a refusal is an OSError or a KernelError."""

    def read(self, path: str) -> bytes:
        """A file's whole content."""

    def write(self, path: str, data: bytes) -> int:
        """One open and one write(2): how many bytes it took."""

    def names(self, path: str) -> list[str]:
        """What a directory holds, in any order."""

    def readlink(self, path: str) -> str:
        """A symbolic link's text."""

    def lstat(self, path: str) -> tuple[int, int]:
        """st_mode and st_size, the last component's link not followed."""

    def pread(self, node: str, offset: int, length: int) -> bytes:
        """Bytes of a block device."""

    def rest(self, seconds: float) -> None:
        """Let time pass."""

    def pwrite(self, node: str, offset: int, data: bytes) -> int:
        """Write to a block device and wait until the bytes are there."""

    def run(self, argv: list[str]) -> tuple[int, str, str]:
        """Run a program: its exit status and what it printed to stdout and stderr."""


@attrs.frozen
class Mounted:
    """A tree behind system calls.

    Attributes:
        root: where /sys is.
        dev: where /dev is.
    """

    root: Path
    dev: Path = Path("/dev")

    def read(self, path: str) -> bytes:
        fd = os.open(self.root / path, os.O_RDONLY)
        try:
            return os.read(fd, READ_LENGTH)
        finally:
            os.close(fd)

    def write(self, path: str, data: bytes) -> int:
        fd = os.open(self.root / path, os.O_WRONLY)
        try:
            return os.write(fd, data)
        finally:
            os.close(fd)

    def names(self, path: str) -> list[str]:
        return [child.name for child in (self.root / path).iterdir()]

    def readlink(self, path: str) -> str:
        return os.readlink(self.root / path)  # noqa: PTH115  # the text as it stands

    def lstat(self, path: str) -> tuple[int, int]:
        status = os.lstat(self.root / path)
        return status.st_mode, status.st_size

    def pread(self, node: str, offset: int, length: int) -> bytes:
        fd = os.open(self.dev / node, os.O_RDONLY)
        try:
            return os.pread(fd, length, offset)
        finally:
            os.close(fd)

    def rest(self, seconds: float) -> None:
        """Sleep, or have the machine's clock advanced where it is not the host's time that moves it."""
        clock = self.root / CLOCK
        if clock.exists() and not clock.read_text().startswith("mode: real"):
            clock.write_text(f"advance {round(seconds * 1000)}ms")
        else:
            time.sleep(seconds)

    def pwrite(self, node: str, offset: int, data: bytes) -> int:
        fd = os.open(self.dev / node, os.O_WRONLY)
        try:
            count = os.pwrite(fd, data, offset)
            os.fsync(fd)
        finally:
            os.close(fd)
        return count

    def run(self, argv: list[str]) -> tuple[int, str, str]:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout, done.stderr


@attrs.frozen
class InProcess:
    """A tree of kernfs nodes, asked as a virtual file system layer would.

    Attributes:
        root: the directory that stands for /sys.
        dev: the directory that stands for /dev.
        clock: the machine's.
    """

    root: Directory
    dev: Directory
    clock: Clock

    @classmethod
    def of(cls, system: System) -> InProcess:
        """The tree of a machine."""
        return cls(system.sys, system.dev, system.clock)

    def read(self, path: str) -> bytes:
        return open_node(self._node(path), os.O_RDONLY).read(0, READ_LENGTH)

    def write(self, path: str, data: bytes) -> int:
        return open_node(self._node(path), os.O_WRONLY).write(0, data)

    def names(self, path: str) -> list[str]:
        node = self._node(f"{path}/")
        assert isinstance(node, Directory)
        return list(node.children)

    def readlink(self, path: str) -> str:
        node = resolve(self.root, path, follow_last=False)
        if not isinstance(node, Symlink):
            raise KernelError(errno.EINVAL, path)
        return node.text

    def lstat(self, path: str) -> tuple[int, int]:
        node = resolve(self.root, path, follow_last=False)
        return node.mode, file_size(node)

    def pread(self, node: str, offset: int, length: int) -> bytes:
        return open_node(resolve(self.dev, node), os.O_RDONLY).read(offset, length)

    def rest(self, seconds: float) -> None:
        self.clock.advance(round(seconds * SECOND))

    def pwrite(self, node: str, offset: int, data: bytes) -> int:
        file = open_node(resolve(self.dev, node), os.O_WRONLY)
        count = file.write(offset, data)
        file.sync()
        return count

    def run(self, argv: list[str]) -> tuple[int, str, str]:
        """No program can see this tree."""
        raise KernelError(errno.ENOEXEC, argv[0])

    def _node(self, path: str) -> Node:
        return resolve(self.root, path)


@attrs.frozen
class Difference:
    """One answer that is not the recorded one; None stands for a row that is not there.

    Attributes:
        number: the step's place in the story, from 1.
        question: what was asked.
    """

    number: int
    question: str
    recorded: Answer | Row | None
    here: Answer | Row | None

    def __str__(self) -> str:
        return f"step {self.number}: {self.question}\n    kernel {self.recorded}\n    here   {self.here}"


@attrs.frozen
class Report:
    """How a replay went; every row of a dump counts as one answer."""

    total: int
    differences: tuple[Difference, ...]

    @property
    def same(self) -> int:
        return self.total - len(self.differences)


def replay(recording: Recording, tree: Tree) -> Report:
    """Ask every question of the story in order and compare what can be compared.

    A story that waited longer than usual after its writes is replayed with as much rest.
    """
    settle = recording.header.settle
    total = 0
    differences: list[Difference] = []
    for number, step in enumerate(recording.steps, 1):
        here = ask(step.call, tree)
        if step.call["op"] == "write" and settle > SETTLE:
            tree.rest(settle)
        for question, recorded, got in _answers(step, here):
            total += 1
            if recorded != got:
                differences.append(Difference(number, question, recorded, got))
    return Report(total, tuple(differences))


def ask(call: Call, tree: Tree) -> Answer:
    """Put one question to the tree."""
    try:
        return _ask(call, tree)
    except (OSError, KernelError) as error:
        return {"errno": _error_name(error)}


def _ask(call: Call, tree: Tree) -> Answer:
    match call["op"]:
        case "read":
            return {"data": tree.read(call["path"]).decode("latin-1")}
        case "write":
            return {"wrote": tree.write(call["path"], call["data"].encode("latin-1"))}
        case "ls":
            return {"names": sorted(tree.names(call["path"]))}
        case "readlink":
            return {"link": tree.readlink(call["path"])}
        case "stat":
            mode, size = tree.lstat(call["path"])
            return {"mode": stat.filemode(mode), "size": size}
        case "dump":
            return {"rows": list(_dump(call["path"], call, call.get("depth"), tree))}
        case "pread":
            return {"hex": tree.pread(_device_name(call), call["offset"], call["length"]).hex()}
        case "pwrite":
            return {"wrote": tree.pwrite(_device_name(call), call["offset"], bytes.fromhex(call["hex"]))}
        case "sleep":
            tree.rest(call["seconds"])
            return {}
        case "run":
            status, output, errors = tree.run(call["argv"])
            return {"rc": status, "stdout": output, "stderr": errors}
        case other:
            raise ValueError(f"a recording holds no {other!r} step")


def _dump(path: str, call: Call, depth: int | None, tree: Tree) -> Iterator[Row]:
    """A node and, if it is a directory, all below it by name, without what the question skips."""
    if any(word in path for word in call.get("skip", [])):
        return
    mode, size = tree.lstat(path)
    row: Row = {"path": path, "mode": stat.filemode(mode)}
    if stat.S_ISLNK(mode):
        row["link"] = tree.readlink(path)
    elif stat.S_ISREG(mode):
        row["size"] = size
        if mode & 0o444:
            content = ask({"op": "read", "path": path}, tree)
            row = {**row, **content}  # type: ignore[typeddict-unknown-key]  # an answer to "read" is a row's data or errno
    yield row
    if stat.S_ISDIR(mode) and depth != 0:
        deeper = None if depth is None else depth - 1
        for name in sorted(tree.names(path)):
            yield from _dump(f"{path}/{name}", call, deeper, tree)


def _answers(step: Step, here: Answer) -> Iterator[tuple[str, Answer | Row | None, Answer | Row | None]]:
    """(question, recorded, here) for every answer of a step that is to be compared."""
    call, recorded = step.call, step.answer
    if step.unstable or call["op"] == "sleep":
        return
    if call["op"] == "dump" and "rows" in recorded:
        kernel = {row["path"]: row for row in recorded["rows"]}
        rows = {row["path"]: row for row in here.get("rows", [])}
        for path in sorted(kernel.keys() | rows.keys()):
            if path in kernel and kernel[path].get("unstable"):
                continue
            yield f"dump {path}", _portable_row(kernel.get(path)), _portable_row(rows.get(path))
        return
    yield _question(call), _portable_answer(call, recorded), _portable_answer(call, here)


def _question(call: Call) -> str:
    if call["op"] == "run":
        return " ".join(call["argv"])
    words = [call["op"], call.get("path", call.get("dev", ""))]
    if "data" in call:
        words.append(repr(call["data"]))
    words += [f"{name}={call[name]}" for name in ("offset", "length") if name in call]
    return " ".join(words)


def _portable_row(row: Row | None) -> Row | None:
    return {**row, "data": _portable(row["path"], row["data"])} if row and "data" in row else row


def _portable_answer(call: Call, answer: Answer) -> Answer:
    if "stdout" in answer:
        return {"rc": answer["rc"], "stdout": _portable_output(answer["stdout"])}
    return {**answer, "data": _portable(call["path"], answer["data"])} if "data" in answer else answer


def _portable(path: str, data: str) -> str:
    """A file's content without what the host or chance gave: device numbers, random UUIDs, the host's own memory."""
    name = path.rpartition("/")[2]
    if name == "dev" and DEVICE_NUMBER.fullmatch(data):
        return "<major:minor>"
    data = RANDOM_UUID.sub("<uuid>", shorten(path, data))
    return DEVICE_LINES.sub("", data) if name == "uevent" else data


def _portable_output(text: str) -> str:
    """What a program printed, without random UUIDs.  The order of its lists follows that of directories."""
    return RANDOM_UUID.sub("<uuid>", text)


def _device_name(call: Call) -> str:
    return call["dev"].removeprefix("/dev/")


def _error_name(error: OSError | KernelError) -> str:
    """The name that Python 3.11, with which answers are recorded, has for an errno; the number if it has none."""
    if error.errno == _EHWPOISON:
        return str(_EHWPOISON)
    return errno.errorcode.get(error.errno or 0, str(error.errno))


def main() -> int:
    """Replay a recording on a mounted machine: the exit status is 0 when every answer is the recorded one."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("root", type=Path, help="where /sys is")
    parser.add_argument("recording", type=Path)
    parser.add_argument("--dev", type=Path, default=Path("/dev"), help="where /dev is")
    options = parser.parse_args()
    report = replay(load(options.recording), Mounted(options.root, options.dev))
    for difference in report.differences:
        print(difference)
    print(f"{options.recording.name}: {report.same}/{report.total} agree")
    return 1 if report.differences else 0


if __name__ == "__main__":
    sys.exit(main())
