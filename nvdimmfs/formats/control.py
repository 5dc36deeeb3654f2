"""What a sandbox and the machine behind a mount say to each other: one JSON object a message.

An object has one key, the kind of message in the words below, and its fields as the value; bytes are base64.  Who opens
the channel `sys/kernel/debug/nvdimmfs/control` speaks first, and either asks, one question at a time, or watches:

| it says | the machine answers |
|---|---|
| `Ioctl` | `CopyIn`, `CopyOut` or the result |
| `Copied`, `Fault` | the next of those |
| `Load`, `Unload`, `Renumber` | the result |
| `Watch` | nothing; then `DeviceEvent` and `EntryEvent` as they happen |
| `Done` | nothing: what was told up to there has been acted on |

A result is `Result` or `Refused`.
"""

from __future__ import annotations

import base64
import json
import typing
from typing import Any, ClassVar

import attrs


class ControlError(ValueError):
    """A message that is none."""


class Message:
    """A kind of message.  Its fields are numbers, words, bytes or pairs of words."""

    kinds: ClassVar[dict[str, type[Message]]] = {}

    def __init_subclass__(cls) -> None:
        # attrs makes a second class of each slotted one; it takes the first one's place.
        Message.kinds[cls.__name__] = cls


@attrs.frozen
class Ioctl(Message):
    """Somebody calls ioctl(2) on a device.

    Attributes:
        kind: char or block.
        major, minor: the device's number.
        request: what is asked for, all 32 bits.
        argument: the address that the call was given.
        writable: whether the file was opened for writing.
        privileged: whether the caller may administer the system (CAP_SYS_ADMIN).
    """

    kind: str
    major: int
    minor: int
    request: int
    argument: int
    writable: bool
    privileged: bool


@attrs.frozen
class CopyIn(Message):
    """The machine wants bytes from the caller's memory, counted from the argument's address."""

    offset: int
    length: int


@attrs.frozen
class CopyOut(Message):
    """The machine puts bytes into the caller's memory."""

    offset: int
    data: bytes


@attrs.frozen
class Copied(Message):
    """It is done; `data` is what was wanted."""

    data: bytes


@attrs.frozen
class Fault(Message):
    """There is no such memory."""


@attrs.frozen
class Load(Message):
    """Load a module."""

    name: str


@attrs.frozen
class Unload(Message):
    """Unload a module."""

    name: str


@attrs.frozen
class Renumber(Message):
    """Give the device of that number another one: that of the node which stands for it.  `kind` is block or char."""

    kind: str
    major: int
    minor: int
    new_major: int
    new_minor: int


@attrs.frozen
class Result(Message):
    """It worked; what the system call returns."""

    value: int


@attrs.frozen
class Refused(Message):
    """It did not: the errno, and why."""

    errno: int
    reason: str


@attrs.frozen
class Watch(Message):
    """Tell of every device, and of entries that come and go in these directories (paths below /sys, "" for itself)."""

    directories: tuple[str, ...]


@attrs.frozen
class DeviceEvent(Message):
    """A uevent.

    Attributes:
        sequence: of this session's messages.
        properties: the KEY, VALUE pairs, in the kernel's order.
    """

    sequence: int
    properties: tuple[tuple[str, str], ...]


@attrs.frozen
class EntryEvent(Message):
    """An entry has come or gone in a directory that is watched.

    Attributes:
        sequence: of this session's messages.
        path: below /sys, without a leading slash.
        present: whether it is there now.
    """

    sequence: int
    path: str
    present: bool


@attrs.frozen
class Done(Message):
    """Everything up to that message of a session that watches has been acted on."""

    sequence: int


def encode(message: Message) -> bytes:
    """The message's bytes."""
    fields = attrs.asdict(message, recurse=False)  # type: ignore[arg-type]  # every kind is an attrs class
    for name, value in fields.items():
        if isinstance(value, bytes):
            fields[name] = base64.b64encode(value).decode("ascii")
    return json.dumps({type(message).__name__: fields}, separators=(",", ":")).encode("ascii")


def decode(data: bytes) -> Message:
    """The message of these bytes; `ControlError` for anything else."""
    try:
        ((kind, fields),) = json.loads(data).items()
        made = Message.kinds[kind]
        types = typing.get_type_hints(made)
        names = [field.name for field in attrs.fields(made)]  # type: ignore[arg-type]
        if sorted(fields) != sorted(names):
            raise ControlError(f"{kind} has the fields {', '.join(names)}, not {', '.join(fields)}")
        return made(**{name: _field(types[name], fields[name]) for name in names})
    except ControlError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ControlError(f"no control message: {data[:80]!r}") from error


def _field(wanted: Any, value: Any) -> Any:  # noqa: ANN401  # JSON comes in, a field's value goes out
    """A field's value of the type that is wanted; TypeError or ValueError when it is none."""
    if wanted is bytes:
        return base64.b64decode(value, validate=True)
    if wanted == tuple[str, ...]:
        return tuple(_field(str, word) for word in _field(list, value))
    if wanted == tuple[tuple[str, str], ...]:
        pairs = (_field(list, pair) for pair in _field(list, value))
        return tuple((_field(str, key), _field(str, text)) for key, text in pairs)
    if type(value) is not wanted:
        raise TypeError(f"{value!r} is no {wanted}")
    return value
