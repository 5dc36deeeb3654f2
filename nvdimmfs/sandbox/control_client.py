"""The sandbox's end of the machine's control channel (`formats.control`), a file in the machine's mount."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from nvdimmfs.formats import control
from nvdimmfs.formats.control import DeviceEvent, EntryEvent, Message, StaleDiskEvent
from nvdimmfs.sandbox.errors import step

#: Where the channel is, relative to the mount.
CHANNEL = "sys/kernel/debug/nvdimmfs/control"

#: Bytes of events to read at once; no message is longer.
_BUFFER_SIZE = 1 << 18

#: Bytes of a reply to read at once: few are longer, and FUSE takes hold of each page of the buffer for each read.
_REPLY_SIZE = 1 << 13

#: How many files for requests to keep open for later ones.
_MOST_IDLE = 4


#: char or block, the number of a device, and that which it gets.
NumberChange: TypeAlias = tuple[str, tuple[int, int], tuple[int, int]]


class ArgumentMemory(Protocol):
    """The memory that the argument of ioctl(2) points to.  OSError where nothing is mapped."""

    def read(self, offset: int, length: int) -> tuple[bytes, bytes]:
        """Bytes that the kernel would copy in, and those after them for which no other page has to arrive."""

    def write(self, offset: int, data: bytes) -> None:
        """Bytes that the kernel would copy out."""


class ControlClient:
    """Open files of the channel: one for events, and one for each request that is being made.

    A request can take long, such as an ioctl whose caller's memory does not arrive; so requests made by several threads
    do not share a file.  Events are read only when poll(2) reports one.
    """

    def __init__(self, mount: Path) -> None:
        channel = mount / CHANNEL
        self._directory = os.open(channel.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._name = channel.name
        self._idle = [self._open()]
        self._events = self._open()

    def fileno(self) -> int:
        """A descriptor that poll(2) reports readable when there are events."""
        return self._events

    def close(self) -> None:
        """Close all files, except those of requests that are being made."""
        for descriptor in (self._directory, self._events, *self._idle):
            os.close(descriptor)
        self._idle.clear()

    def watch(self, directories: tuple[str, ...]) -> None:
        """Receive events from now on: of all devices, and of entries of these directories."""
        os.write(self._events, control.encode(control.Watch(directories)))

    def events(self) -> list[DeviceEvent | EntryEvent | StaleDiskEvent]:
        """Read all pending events.  SandboxError when the machine is gone."""
        found = []
        with step("read the machine's events", "its process has ended, or it was unmounted"):
            while data := os.read(self._events, _BUFFER_SIZE):
                event = control.decode(data)
                assert isinstance(event, DeviceEvent | EntryEvent | StaleDiskEvent), event
                found.append(event)
        return found

    def acknowledge(self, sequence: int) -> None:
        """Report that all events up to that number have been applied."""
        os.write(self._events, control.encode(control.Done(sequence)))

    def ioctl(self, call: control.Ioctl, memory: ArgumentMemory) -> int:
        """Have the machine execute an ioctl and return its result; a negative number is an errno."""
        with self._request_file() as file:
            return _result(ask_ioctl(file, call, memory))

    def load(self, module: str, thread: int) -> int:
        """Load a module for a thread: 0, or a negative errno."""
        return self._request(control.Load(module, thread))

    def unload(self, module: str, thread: int, open_nodes: tuple[str, ...]) -> int:
        """Unload a module for a thread, while device nodes with those names are open: 0, or a negative errno."""
        return self._request(control.Unload(module, thread, open_nodes))

    def map(self, call: control.Map) -> control.Mappable | int:
        """Ask the machine whether a mapping is possible: what to map, or a negative errno."""
        with self._request_file() as file:
            reply = ask(file, call)
        return reply if isinstance(reply, control.Mappable) else _result(reply)

    def renumber(self, kind: str, old: tuple[int, int], new: tuple[int, int]) -> int:
        """Give a device the number of its node: 0, or a negative errno."""
        return self._request(control.Renumber(kind, *old, *new))

    def renumber_all(self, changes: Sequence[NumberChange]) -> None:
        """Give devices the numbers of their nodes, by one request."""
        self._request(control.RenumberAll(tuple((kind, *old, *new) for kind, old, new in changes)))

    def list(self, directories: tuple[str, ...]) -> control.Listed:
        """List directories, all that are not large, by one request."""
        with self._request_file() as file:
            reply = ask(file, control.List(directories))
        assert isinstance(reply, control.Listed), reply
        return reply

    def nodes(self) -> tuple[tuple[str, int, int, str, int, bool], ...]:
        """The devices that have a node (`control.Nodes`), character devices first."""
        with self._request_file() as file:
            reply = ask(file, control.ListNodes())
        assert isinstance(reply, control.Nodes), reply
        return reply.nodes

    def _request(self, message: Message) -> int:
        with self._request_file() as file:
            return _result(ask(file, message))

    @contextlib.contextmanager
    def _request_file(self) -> Iterator[int]:
        """A file for one request.  It is used again, unless the request broke off: the machine waits for its rest."""
        try:
            file = self._idle.pop()
        except IndexError:
            file = self._open()
        try:
            yield file
        except BaseException:
            os.close(file)
            raise
        if len(self._idle) < _MOST_IDLE:
            self._idle.append(file)
        else:
            os.close(file)

    def _open(self) -> int:
        """Open the channel of the machine that was found first, whatever its path leads to by now."""
        return os.open(self._name, os.O_RDWR | os.O_CLOEXEC, dir_fd=self._directory)


def ask(file: int, message: Message) -> Message:
    """Send a request on an open file of the channel, and return the reply."""
    os.write(file, control.encode(message))
    reply = piece = os.read(file, _REPLY_SIZE)
    while len(piece) == _REPLY_SIZE:
        piece = os.read(file, _REPLY_SIZE)
        reply += piece
    return control.decode(reply)


def ask_ioctl(file: int, call: control.Ioctl, memory: ArgumentMemory) -> Message:
    """Have the machine execute an ioctl, and return its result or refusal."""
    reply = ask(file, call)
    if isinstance(reply, control.Wait):
        time.sleep(reply.nanoseconds / 1e9)
        reply = ask(file, control.Waited())
    while isinstance(reply, control.ReadMemory | control.WriteMemory):
        done = _copy(reply, memory)
        if isinstance(reply, control.WriteMemory) and reply.is_last and isinstance(done, control.Copied):
            return control.Result(reply.value)
        reply = ask(file, done)
    return reply


def _copy(request: control.ReadMemory | control.WriteMemory, memory: ArgumentMemory) -> Message:
    """Copy as the machine requests, and return the message that reports it."""
    try:
        if isinstance(request, control.ReadMemory):
            return control.Copied(*memory.read(request.offset, request.length))
        memory.write(request.offset, request.data)
    except OSError:
        return control.Fault()
    return control.Copied(b"")


def _result(reply: Message) -> int:
    match reply:
        case control.Result(value):
            return value
        case control.Refused(number):
            return -number
    raise AssertionError(reply)
