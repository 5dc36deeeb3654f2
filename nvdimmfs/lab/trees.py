"""What can be asked the questions of a recording: a mounted machine, one in this process, a guest.

All answer alike, and to the same questions in the same way as a real kernel.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, cast

import attrs

from nvdimmfs.core.system import System
from nvdimmfs.core.uevent import Uevent
from nvdimmfs.errors import KernelError
from nvdimmfs.faults.rule import DEBUG_FOLDER
from nvdimmfs.kernels.durations import SECOND
from nvdimmfs.kernfs import Directory, Node, Symlink
from nvdimmfs.kernfs.file_stat import file_size
from nvdimmfs.kernfs.open_attribute import NOTIFIED
from nvdimmfs.kernfs.open_file import OpenFile, open_node, read_call
from nvdimmfs.kernfs.path import resolve
from nvdimmfs.lab import asking, mounts, uevents, watchers
from nvdimmfs.lab.asking import CHANGES, MEMORY_END, READ_LENGTH, SETTLE, Answer, Call, Row, errno_name, mapped_length
from nvdimmfs.lab.holders import EXCLUSIVE, MAPPED, QUESTIONS, Holders
from nvdimmfs.lab.uevents import Uevents
from nvdimmfs.lab.watchers import Watchers
from nvdimmfs.machine.caller_memory import UserMemory
from nvdimmfs.machine.device_calls import device_ioctl
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine.open_nodes import OpenNode, device_of_node, open_device_node

#: The folder below /sys with files that emulated machines alone have.
OWN_FOLDER = DEBUG_FOLDER.removeprefix("sys/")

#: The one that shows and moves the clock.
_CLOCK = f"{OWN_FOLDER}/clock"


class Tree(Protocol):
    """A machine that answers questions."""

    def ask(self, calls: Iterable[Call], settle: float = SETTLE) -> Iterator[Answer]:
        """Yield the answer to each question, in order.

        Args:
            calls: the questions.
            settle: seconds to leave a kernel alone after each write.
        """


@attrs.frozen
class Mounted:
    """A tree behind system calls: a mount, or /sys in a sandbox.  What a write begins has ended when it returns.

    Attributes:
        root: where /sys is.
        dev: where /dev is.
        uevents: those that the machine sends; None where it sends none.
    """

    root: Path
    dev: Path = Path("/dev")
    uevents: Uevents | None = attrs.field(default=None, eq=False)
    _holders: Holders = attrs.field(init=False, eq=False)
    _watchers: Watchers = attrs.field(init=False, eq=False)

    @_holders.default
    def _new_holders(self) -> Holders:
        return Holders(self.dev, self.root)

    @_watchers.default
    def _new_watchers(self) -> Watchers:
        return Watchers(self.root)

    def ask(self, calls: Iterable[Call], settle: float = SETTLE) -> Iterator[Answer]:
        for call in calls:
            if call["op"] == "sleep":
                self._rest(call["seconds"])
                yield {}
                continue
            yield self._answer(call)
            if call["op"] in CHANGES and settle > SETTLE:
                self._rest(settle)

    def _answer(self, call: Call) -> Answer:
        if self.uevents is not None:
            if call["op"] == uevents.QUESTION:
                return self.uevents.answer(SETTLE)
            self.uevents.forget()
        if call["op"] in watchers.QUESTIONS:
            return self._watchers.answer(call)
        return self._holders.answer(call) if call["op"] in QUESTIONS else asking.ask(call, self.root, self.dev)

    def _rest(self, seconds: float) -> None:
        """Sleep, or have the machine's clock advanced where it is not the host's time that moves it."""
        clock = self.root / _CLOCK
        if clock.exists() and not clock.read_text().startswith("mode: real"):
            clock.write_text(f"advance {round(seconds * 1000)}ms")
        else:
            time.sleep(seconds)


@attrs.define
class _Listener:
    """The uevents that were sent since the last look."""

    events: list[Uevent] = attrs.field(factory=list)

    def uevent(self, event: Uevent) -> None:
        self.events.append(event)

    def taken(self) -> list[Uevent]:
        """The events, which are not returned again."""
        events, self.events = self.events, []
        return events


@attrs.define
class InProcess:
    """A tree of kernfs nodes, asked as a virtual file system layer would.

    Paths start in /sys, nodes are names in /dev; a refusal is a KernelError.

    Attributes:
        machine: the machine.
        power_cycle: boots the machine again, and returns the new one; None where that is not asked for.
        held: the device nodes that processes hold, the first first.
        mounted: the disks that are mounted.
        watched: the files that are watched, by path.
    """

    machine: Machine
    power_cycle: Callable[[], Machine] | None = None
    held: list[OpenNode] = attrs.field(factory=list, init=False)
    mounted: list[OpenNode] = attrs.field(factory=list, init=False)
    watched: dict[str, OpenFile] = attrs.field(factory=dict, init=False)
    _listener: _Listener | None = attrs.field(default=None, init=False)

    @property
    def system(self) -> System:
        """The system of the machine."""
        return self.machine.system

    def ask(self, calls: Iterable[Call], settle: float = SETTLE) -> Iterator[Answer]:
        for call in calls:
            yield self.answer(call)
            if call["op"] in CHANGES and settle > SETTLE:
                self.rest(settle)

    def answer(self, call: Call) -> Answer:
        """Answer one question."""
        events = self._sent()
        if call["op"] == uevents.QUESTION:
            return {"events": [*map(_words, events)]}
        return _answered(lambda: self._answer(call))

    def _answer(self, call: Call) -> Answer:
        match call["op"]:
            case "read":
                return _text(self._node(call["path"]))
            case "write":
                return {"wrote": self.write(call["path"], call["data"].encode("latin-1"))}
            case "ls":
                return {"names": sorted(self.names(call["path"]))}
            case "readlink":
                return {"link": self.readlink(call["path"])}
            case "stat":
                mode, size = self.lstat(call["path"])
                return {"mode": stat.filemode(mode), "size": size}
            case "dump":
                return {"rows": list(self._rows(call["path"], call.get("skip", []), call.get("depth")))}
            case "pread":
                return {"hex": self.pread(_device_name(call), call["offset"], call["length"]).hex()}
            case "pwrite":
                return {"wrote": self.pwrite(_device_name(call), call["offset"], bytes.fromhex(call["hex"]))}
            case "ioctl":
                return self._ioctl(call)
            case "hold":
                self._hold(_device_name(call), call["way"])
                return {"result": 0}
            case "kill":
                self._kill(_device_name(call))
                return {"result": 0}
            case "mount":
                self.mounted.append(open_device_node(self.machine, _device_name(call), os.O_RDWR | os.O_EXCL))
                return {"result": 0}
            case "umount":
                self._unmount(_device_name(call))
                return {"result": 0}
            case "watch":
                self._watch(call["path"])
                return {"result": 0}
            case "poll":
                return {"names": self._notified()}
            case "sleep":
                self.rest(call["seconds"])
                return {}
            case "reboot":
                self._reboot()
                return {}
            case "run":  # no program can see this tree
                raise KernelError(errno.ENOEXEC, call["argv"][0])
        raise ValueError(f"there is no question {call['op']!r}")

    def _sent(self) -> list[Uevent]:
        """The uevents since the last question; before the first one, nothing listens."""
        if self._listener is None:
            self._listener = _Listener()
            self.system.listen(self._listener)
        return self._listener.taken()

    def _rows(self, path: str, skip: list[str], depth: int | None) -> Iterator[Row]:
        """A node and, if it is a directory, all below it by name, without what the question skips."""
        if not any(word in path for word in skip):
            yield from self._rows_of(resolve(self.system.sys, path, follow_last=False), path, skip, depth)

    def _rows_of(self, node: Node, path: str, skip: list[str], depth: int | None) -> Iterator[Row]:
        row: Row = {"path": path, "mode": stat.filemode(node.mode)}
        if isinstance(node, Symlink):
            row["link"] = node.text
        elif stat.S_ISREG(node.mode):
            row["size"] = file_size(node)
            if node.mode & 0o444:
                row = cast("Row", {**row, **_answered(lambda: _text(node))})
        yield row
        if not isinstance(node, Directory) or depth == 0:
            return
        for name in sorted(node.children):
            below = f"{path}/{name}"
            if any(word in below for word in skip):
                continue
            child = node.get(name)
            if child is None:
                raise KernelError(errno.ENOENT, below)
            yield from self._rows_of(child, below, skip, None if depth is None else depth - 1)

    def read(self, path: str) -> bytes:
        """A file's whole content."""
        return _content(self._node(path))

    def write(self, path: str, data: bytes) -> int:
        """Open, and write once; the number of bytes that were written."""
        return open_node(self._node(path), os.O_WRONLY).write(0, data)

    def names(self, path: str) -> list[str]:
        """The names in a directory, in any order."""
        node = self._node(f"{path}/")
        assert isinstance(node, Directory)
        return list(node.children)

    def readlink(self, path: str) -> str:
        """A symbolic link's text."""
        node = resolve(self.system.sys, path, follow_last=False)
        if not isinstance(node, Symlink):
            raise KernelError(errno.EINVAL, path)
        return node.text

    def lstat(self, path: str) -> tuple[int, int]:
        """st_mode and st_size, the last component's link not followed."""
        node = resolve(self.system.sys, path, follow_last=False)
        return node.mode, file_size(node)

    def pread(self, node: str, offset: int, length: int) -> bytes:
        """Bytes of a block device."""
        return read_call(open_node(resolve(self.system.dev, node), os.O_RDONLY), offset, length)

    def pwrite(self, node: str, offset: int, data: bytes) -> int:
        """Write to a block device and wait until the bytes are there."""
        file = open_node(resolve(self.system.dev, node), os.O_WRONLY)
        count = file.write(offset, data)
        file.sync()
        return count

    def _ioctl(self, call: Call) -> Answer:
        """An ioctl of a process that may administer the system."""
        name = _device_name(call)
        writable = call.get("open") != "r"
        device = device_of_node(self.system, name, os.O_RDWR if writable else os.O_RDONLY)
        data = b"" if "value" in call else bytes.fromhex(call["hex"])
        in_front = 0 if "value" in call else mapped_length(data) - len(data)
        memory = UserMemory(bytearray(in_front) + data, in_front=in_front)
        argument = call.get("value", MEMORY_END - len(data))
        steps = device_ioctl(device, call["request"], argument, writable=writable, privileged=True)
        result = memory.run(steps)
        after = memory.data[in_front:]
        return {"result": result, "hex": after.hex()} if after != data else {"result": result}

    def _hold(self, name: str, way: str) -> None:
        """Have a process hold a node.  Of a mapping, only what makes it possible is looked at."""
        if way == MAPPED:
            resolve(self.system.sys, f"bus/dax/devices/{name}/align")
        self.held.append(open_device_node(self.machine, name, os.O_RDWR | (os.O_EXCL if way == EXCLUSIVE else 0)))

    def _kill(self, name: str) -> None:
        if not _close_first(self.held, name):
            raise KernelError(errno.ESRCH, f"no process holds {name}")

    def _unmount(self, name: str) -> None:
        """Unmount a disk, whose file system is zeros then: no bytes of it are looked at before."""
        if not _close_first(self.mounted, name):
            raise KernelError(errno.EINVAL, f"{name} is not mounted")
        self.pwrite(name, 0, bytes(mounts.LENGTH))

    def _watch(self, path: str) -> None:
        """Open a file for as long as it exists, and read it."""
        self.watched[path] = open_node(self._node(path), os.O_RDONLY)
        _read_again(self.watched[path])

    def _notified(self) -> list[str]:
        """The paths of the files that were notified or removed since they were read."""
        found = sorted(path for path, file in self.watched.items() if file.ready() & NOTIFIED)
        for path in found:
            _read_again(self.watched[path])
        self.watched = {path: file for path, file in self.watched.items() if not file.ready() & NOTIFIED}
        return found

    def rest(self, seconds: float) -> None:
        """Let time pass."""
        self.system.clock.advance(round(seconds * SECOND))

    def _reboot(self) -> None:
        if self.power_cycle is None:
            raise ValueError("this machine does not boot again")
        self.machine, self.held, self.mounted, self._listener = self.power_cycle(), [], [], None
        self.watched = {}

    def _node(self, path: str) -> Node:
        return resolve(self.system.sys, path)


def _words(event: Uevent) -> list[str]:
    variables = (f"{key}={value}" for key, value in event.variables)
    return [event.action.value, event.devpath, event.subsystem, *variables]


def _answered(ask: Callable[[], Answer]) -> Answer:
    """As `asking.answered`, for a kernel whose refusals are `KernelError`s."""
    try:
        return asking.answered(ask)
    except KernelError as refusal:
        return {"errno": errno_name(refusal.errno)}


def _content(file: Node) -> bytes:
    return open_node(file, os.O_RDONLY).read(0, READ_LENGTH)


def _text(file: Node) -> Answer:
    """A file's content, one character a byte."""
    return {"data": _content(file).decode("latin-1")}


def _read_again(file: OpenFile) -> None:
    with contextlib.suppress(KernelError):
        file.read(0, READ_LENGTH)


def _close_first(nodes: list[OpenNode], name: str) -> bool:
    """Close the node of that name that has been open for the longest time; whether there is one."""
    for node in nodes:
        if node.name == name:
            nodes.remove(node)
            node.close()
            return True
    return False


def _device_name(call: Call) -> str:
    return call["dev"].removeprefix("/dev/")
