"""The line from a sandbox to its machine: the control channel in the mount (`formats.control`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from nvdimmfs.formats import control
from nvdimmfs.formats.control import CopyIn, CopyOut, DeviceEvent, EntryEvent, Message
from nvdimmfs.sandbox.errors import step

#: Where the channel is, below the mount.
CHANNEL = "sys/kernel/debug/nvdimmfs/control"

#: More than any message has bytes.
_ROOM = 1 << 18


class Memory(Protocol):
    """The memory of whoever calls ioctl(2), from the argument on.  OSError where there is none."""

    def read(self, offset: int, length: int) -> bytes:
        """Bytes that the kernel would copy in."""

    def write(self, offset: int, data: bytes) -> None:
        """Bytes that the kernel would copy out."""


class MachineLink:
    """Two open files of the channel: one to ask, one to hear of events.

    Each question is answered before `write` returns, and events are taken when poll(2) tells of one, so that this
    process never waits in a call that the machine must end.
    """

    def __init__(self, mount: Path) -> None:
        self._questions = os.open(mount / CHANNEL, os.O_RDWR | os.O_CLOEXEC)
        self._events = os.open(mount / CHANNEL, os.O_RDWR | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._events

    def close(self) -> None:
        """Hang up."""
        os.close(self._questions)
        os.close(self._events)

    def watch(self, directories: tuple[str, ...]) -> None:
        """Hear of devices, and of entries of these directories, from now on."""
        os.write(self._events, control.encode(control.Watch(directories)))

    def events(self) -> list[DeviceEvent | EntryEvent]:
        """What has happened.  SandboxError when the machine has gone."""
        found = []
        with step("hear from the machine", "its process has ended, or it was unmounted"):
            while data := os.read(self._events, _ROOM):
                event = control.decode(data)
                assert isinstance(event, DeviceEvent | EntryEvent), event
                found.append(event)
        return found

    def done(self, sequence: int) -> None:
        """Everything up to that event has been acted on."""
        os.write(self._events, control.encode(control.Done(sequence)))

    def ioctl(self, call: control.Ioctl, memory: Memory) -> int:
        """Pass on a call and return its result; a negative number is an errno."""
        answer = self._ask(call)
        while isinstance(answer, CopyIn | CopyOut):
            answer = self._ask(_copy(answer, memory))
        return _outcome(answer)

    def load(self, module: str) -> int:
        """Load a module: 0, or a negative errno."""
        return _outcome(self._ask(control.Load(module)))

    def unload(self, module: str) -> int:
        """Unload a module: 0, or a negative errno."""
        return _outcome(self._ask(control.Unload(module)))

    def renumber(self, kind: str, old: tuple[int, int], new: tuple[int, int]) -> int:
        """Give a device the number of its node: 0, or a negative errno."""
        return _outcome(self._ask(control.Renumber(kind, *old, *new)))

    def _ask(self, question: Message) -> Message:
        os.write(self._questions, control.encode(question))
        return control.decode(os.read(self._questions, _ROOM))


def _copy(wish: CopyIn | CopyOut, memory: Memory) -> Message:
    try:
        if isinstance(wish, CopyIn):
            return control.Copied(memory.read(wish.offset, wish.length))
        memory.write(wish.offset, wish.data)
    except OSError:
        return control.Fault()
    return control.Copied(b"")


def _outcome(answer: Message) -> int:
    match answer:
        case control.Result(value):
            return value
        case control.Refused(number):
            return -number
    raise AssertionError(answer)
