"""Uevents: messages to user space about devices that are added, removed or changed."""

from __future__ import annotations

import enum
import errno
import re
from collections.abc import Iterable
from typing import Protocol

import attrs

from nvdimmfs.core.parse import UUID_TEXT_LENGTH, parse_uuid
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.udev_message import PROPERTIES_SIZE

#: Variables of one event at most (UEVENT_NUM_ENVP, include/linux/kobject.h, Linux 6.1).
MAX_VARIABLES = 64


class Action(enum.Enum):
    """What happened (lib/kobject_uevent.c, Linux 6.1)."""

    ADD = "add"
    REMOVE = "remove"
    CHANGE = "change"
    MOVE = "move"
    ONLINE = "online"
    OFFLINE = "offline"
    BIND = "bind"
    UNBIND = "unbind"


@attrs.frozen
class Uevent:
    """One message.

    Attributes:
        action: what happened.
        devpath: the device's directory below /sys, with a leading slash.
        subsystem: the bus or class.
        variables: the other KEY, VALUE pairs, in the kernel's order.
        sequence: SEQNUM, counted from 1.
    """

    action: Action
    devpath: str
    subsystem: str
    variables: tuple[tuple[str, str], ...]
    sequence: int

    @property
    def properties(self) -> tuple[tuple[str, str], ...]:
        """All KEY, VALUE pairs in the order in which they are sent (kobject_uevent_env, lib/kobject_uevent.c, 6.1).

        A key of a synthetic event occurs as often as it was written.
        """
        return (
            ("ACTION", self.action.value),
            ("DEVPATH", self.devpath),
            ("SUBSYSTEM", self.subsystem),
            *self.variables,
            ("SEQNUM", str(self.sequence)),
        )

    @property
    def fits(self) -> bool:
        """Whether it is small enough to be sent."""
        return _fit(self.properties)


class UeventListener(Protocol):
    """A receiver of uevents, as udev is."""

    def uevent(self, event: Uevent) -> None:
        """Receive one event; they arrive in order."""


class HasUevents(Protocol):
    """An object that sends uevents."""

    def send_uevent(self, action: Action, extra: tuple[tuple[str, str], ...]) -> bool:
        """Send a uevent, with extra variables before its own.  False when it is too large to be sent."""


def synthesize(subject: HasUevents, data: bytes) -> None:
    """Send the uevent that a write to a `uevent` file requests.  EINVAL as `parse_synthetic`, ENOMEM when too large."""
    action, extra = parse_synthetic(data)
    if not subject.send_uevent(action, extra):
        raise KernelError(errno.ENOMEM, "the uevent would be too large")


def _fit(variables: Iterable[tuple[str, str]]) -> bool:
    sizes = [len(f"{key}={value}") + 1 for key, value in variables]  # a NUL ends each
    return len(sizes) <= MAX_VARIABLES and sum(sizes) <= PROPERTIES_SIZE


_ARGUMENT = re.compile(rb" ([0-9A-Za-z]+)=([0-9A-Za-z]+)")


def parse_synthetic(data: bytes) -> tuple[Action, tuple[tuple[str, str], ...]]:
    """Parse a write to a `uevent` file: an action, optionally followed by a UUID and KEY=VALUE words.

    Returns the action and the variables that the kernel adds to the event.  EINVAL for anything else, and when these
    variables alone exceed the size of an event (kobject_synth_uevent, lib/kobject_uevent.c, Linux 6.1).
    """
    text = data[:-1] if data[-1:] in (b"\n", b"\0") else data
    word, space, arguments = text.partition(b" ")
    try:
        action = Action(word.decode("latin-1"))
    except ValueError:
        raise KernelError(errno.EINVAL, "unknown uevent action") from None
    if not space:
        return action, (("SYNTH_UUID", "0"),)
    parse_uuid(arguments)
    variables = [("SYNTH_UUID", arguments[:UUID_TEXT_LENGTH].decode("ascii"))]
    position = UUID_TEXT_LENGTH
    while position < len(arguments):
        match = _ARGUMENT.match(arguments, position)
        if match is None or arguments[match.end() : match.end() + 1] not in (b"", b" "):
            raise KernelError(errno.EINVAL, "incorrect uevent action arguments")
        variables.append((f"SYNTH_ARG_{match[1].decode('ascii')}", match[2].decode("ascii")))
        position = match.end()
    if not _fit(variables):
        raise KernelError(errno.EINVAL, "too many uevent action arguments")
    return action, tuple(variables)
