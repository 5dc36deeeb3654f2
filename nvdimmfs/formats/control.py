"""Messages between a client, such as a sandbox, and the machine behind a mount: one JSON object for each message.

An object has one key, the kind of message, and its fields as the value; bytes are encoded in base64.  Bytes of a
caller's memory are not: the field has their number, and a newline and the bytes themselves follow the object.

The client opens the channel `sys/kernel/debug/nvdimmfs/control` and sends the first message.  A session either sends
requests, one at a time, or watches, or listens.  The machine waits for one that watches until it has acted on an event,
and never for one that listens:

| the client sends | the machine replies with |
|---|---|
| `Ioctl` | `Wait`, `ReadMemory`, `WriteMemory` or the result |
| `Waited` | `ReadMemory`, `WriteMemory` or the result |
| `Copied`, `Fault` | the next of those; a client that has written what is the last need not send `Copied` |
| `Load`, `Unload`, `Renumber`, `RenumberAll` | the result |
| `Map` | `Mappable`, or `Refused` |
| `Find` | `Found`, or `Refused` |
| `List` | `Listed` |
| `ListNodes` | `Nodes` |
| `Watch` | nothing; later `DeviceEvent`, `EntryEvent` and `StaleDiskEvent` as they happen |
| `Done` | nothing: it acknowledges the events up to a sequence number |
| `Listen` | nothing; each read then returns the next `DeviceEvent` and `RefusalEvent`, as many as fit, one a line |

A result is `Result` or `Refused`.  A listener for which too much has happened since its last read finds `Lost` in place
of the oldest events.
"""

from __future__ import annotations

import base64
import functools
import json
import typing
from typing import Any, ClassVar

import attrs


class ControlError(ValueError):
    """Bytes that are not a valid message."""


class Message:
    """Base of the messages.  Their fields are numbers, truth values, strings, bytes, and tuples of them."""

    kinds: ClassVar[dict[str, type[Message]]] = {}
    #: The names of fields that hold bytes of a caller's memory, in the order in which these follow the object.
    memory: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        # attrs creates a second class for each slotted one, which replaces the first.
        Message.kinds[cls.__name__] = cls


@attrs.frozen
class Ioctl(Message):
    """A process calls ioctl(2) on a device.

    Attributes:
        kind: char or block.
        major, minor: the device's number.
        request: the ioctl's number, all 32 bits.
        argument: the address that the caller passed.
        writable: whether the file was opened for writing.
        privileged: whether the caller has CAP_SYS_ADMIN, for requests of block devices.
        thread: the id of the calling thread, for the trace.
        uid: the caller's real user id.
        comm: the name of its process; empty when it is not known.
        ahead: bytes from the argument's address on that are in memory; the machine asks for all others that it reads.
        open_nodes: the names of device nodes that are open, for the requests that those of disks can prevent.
        claimed_nodes: the names of those that a process or a mount has to itself.
    """

    memory = ("ahead",)
    kind: str
    major: int
    minor: int
    request: int
    argument: int
    writable: bool
    privileged: bool
    thread: int = 0
    uid: int = 0
    comm: str = ""
    ahead: bytes = b""
    open_nodes: tuple[str, ...] = ()
    claimed_nodes: tuple[str, ...] = ()


@attrs.frozen
class ReadMemory(Message):
    """The machine reads `length` bytes of the caller's memory, `offset` bytes from the argument's address."""

    offset: int
    length: int


@attrs.frozen
class WriteMemory(Message):
    """The machine writes bytes to the caller's memory, `offset` bytes from the argument's address.

    Attributes:
        offset: where the bytes go.
        data: the bytes.
        is_last: whether the ioctl returns when they are written.  The client need not send `Copied` then.
        value: what it returns then.
    """

    memory = ("data",)
    offset: int
    data: bytes
    is_last: bool = False
    value: int = 0


@attrs.frozen
class Copied(Message):
    """The access is done.

    Attributes:
        data: the bytes that were read.
        ahead: bytes that follow them on the same page; the machine reads those next, as a rule.
    """

    memory = ("data", "ahead")
    data: bytes
    ahead: bytes = b""


@attrs.frozen
class Fault(Message):
    """The caller has not mapped this memory."""


@attrs.frozen
class Load(Message):
    """A thread loads a module."""

    name: str
    thread: int = 0


@attrs.frozen
class Unload(Message):
    """A thread unloads a module.

    Attributes:
        name: the module's name.
        thread: the id of the thread, for the trace.
        open_nodes: the names of device nodes that are open.
    """

    name: str
    thread: int = 0
    open_nodes: tuple[str, ...] = ()


@attrs.frozen
class Map(Message):
    """A process maps memory of a device.

    Attributes:
        kind: char or block.
        major, minor: the device's number.
        start: the address at which the mapping would begin.
        length: bytes.
        shared: whether it is a shared mapping.
        thread: the id of the calling thread, for the trace.
        comm: the name of its process; empty when it is not known.
    """

    kind: str
    major: int
    minor: int
    start: int
    length: int
    shared: bool
    thread: int = 0
    comm: str = ""


@attrs.frozen
class Mappable(Message):
    """The device supports the mapping.

    Attributes:
        name: the name of the device's file in dev/, which is to be mapped.
        align: the alignment that the mapping must have, bytes.
    """

    name: str
    align: int


@attrs.frozen
class Renumber(Message):
    """Change the number of a device to that of the node which represents it.  `kind` is block or char."""

    kind: str
    major: int
    minor: int
    new_major: int
    new_minor: int


@attrs.frozen
class RenumberAll(Message):
    """Change the numbers of several devices, one after the other; those that refuse it keep theirs.

    Attributes:
        changes: for each device, the fields of `Renumber`.
    """

    changes: tuple[tuple[str, int, int, int, int], ...]


@attrs.frozen
class Find(Message):
    """Find the device whose node in /dev has a name."""

    name: str


@attrs.frozen
class Found(Message):
    """The number of the device.  `kind` is block or char."""

    kind: str
    major: int
    minor: int


@attrs.frozen
class List(Message):
    """List directories (paths below /sys, "" for /sys)."""

    directories: tuple[str, ...]


@attrs.frozen
class Listed(Message):
    """What directories contain.

    Attributes:
        directories: those that are listed.  Missing are paths that are none, and large directories.
        entries: the path of each of their entries, and what it is: directory, link or file.
    """

    directories: tuple[str, ...]
    entries: tuple[tuple[str, str], ...]


@attrs.frozen
class ListNodes(Message):
    """List the devices that have a node in /dev."""


@attrs.frozen
class Nodes(Message):
    """The devices that have a node.

    Attributes:
        nodes: of each its kind (block or char), major, minor and name; then, of a disk or a partition, the bytes of a
            logical block, which is 0 for others, and whether it is read-only.
    """

    nodes: tuple[tuple[str, int, int, str, int, bool], ...]


@attrs.frozen
class Wait(Message):
    """A fault rule delays the ioctl: the client asks again, by `Waited`, after so many nanoseconds."""

    nanoseconds: int


@attrs.frozen
class Waited(Message):
    """The time has passed."""


@attrs.frozen
class Result(Message):
    """Success: the return value of the system call."""

    value: int


@attrs.frozen
class Refused(Message):
    """Failure: the errno and the reason."""

    errno: int
    reason: str


@attrs.frozen
class Watch(Message):
    """Report every uevent, and entries added to or removed from directories (paths below /sys, "" for /sys)."""

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
    """An entry was added to or removed from a watched directory.

    Attributes:
        sequence: of this session's messages.
        path: below /sys, without a leading slash.
        present: whether it exists now.
    """

    sequence: int
    path: str
    present: bool


@attrs.frozen
class StaleDiskEvent(Message):
    """A disk has new bad sectors, so that what a page cache has of it must be read again.

    Attributes:
        sequence: of this session's messages.
        name: in /dev.
    """

    sequence: int
    name: str


@attrs.frozen
class Listen(Message):
    """Report every uevent and every refused request."""


@attrs.frozen
class RefusalEvent(Message):
    """A request was refused.  The fields are those of `kernfs.Refusal`."""

    operation: str
    path: str
    data: bytes
    errno: int
    reasons: tuple[str, ...]
    thread: int
    time: int


@attrs.frozen
class Lost(Message):
    """So many events were not kept."""

    count: int


@attrs.frozen
class Done(Message):
    """The client has processed all events up to a sequence number."""

    sequence: int


#: Each of json's functions would make one of these for each message, or look for the encoding of the bytes.
_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)
_DECODER = json.JSONDecoder()


def encode(message: Message) -> bytes:
    """The message's bytes."""
    kind, memory = type(message).__name__, []
    fields = {name: getattr(message, name) for name in _field_types(kind)}
    for name, value in fields.items():
        if isinstance(value, bytes):
            if name in message.memory:
                fields[name] = len(value)
                memory.append(value)
            else:
                fields[name] = base64.b64encode(value).decode("ascii")
    encoded = _ENCODER.encode({kind: fields}).encode("ascii")
    return b"".join((encoded, b"\n", *memory)) if any(memory) else encoded


def decode(data: bytes) -> Message:
    """The message of these bytes; `ControlError` for anything else."""
    encoded, _, memory = data.partition(b"\n")
    try:
        ((kind, fields),) = _DECODER.decode(encoded.decode()).items()
        made, types = Message.kinds[kind], _field_types(kind)
        if fields.keys() != types.keys():
            raise ControlError(f"{kind} has the fields {', '.join(types)}, not {', '.join(fields)}")
        _join(fields, made.memory, memory)
        return made(**{name: _field(wanted, fields[name]) for name, wanted in types.items()})
    except ControlError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ControlError(f"not a control message: {data[:80]!r}") from error


def _join(fields: dict[str, Any], names: tuple[str, ...], memory: bytes) -> None:
    """Put the bytes of memory in the place of their numbers."""
    at = 0
    for name in names:
        length = fields[name]
        if type(length) is not int or length < 0:
            raise TypeError(f"{length!r} is no number of bytes")
        fields[name] = memory[at : at + length]
        at += length
    if at != len(memory):
        raise ControlError(f"{len(memory)} bytes of memory instead of {at}")


def prepare() -> None:
    """Evaluate the annotations of all kinds, for the processes that this one forks."""
    for kind in Message.kinds:
        _field_types(kind)


@functools.cache
def _field_types(kind: str) -> dict[str, Any]:
    """The types of a kind's fields by name.  Evaluating the annotations takes longer than the rest of a message."""
    made = Message.kinds[kind]
    hints = typing.get_type_hints(made)
    return {field.name: hints[field.name] for field in attrs.fields(made)}  # type: ignore[arg-type]


def _field(wanted: Any, value: Any) -> Any:  # noqa: ANN401  # JSON comes in, a field's value goes out
    """Convert a value to the type of its field.  TypeError or ValueError when it has another."""
    if type(value) is wanted:
        return value
    if wanted is bytes:
        return base64.b64decode(value, validate=True)
    if typing.get_origin(wanted) is tuple:
        items, (first, *others) = _field(list, value), typing.get_args(wanted)
        types = [first] * len(items) if others == [...] else [first, *others]
        return tuple(_field(each, item) for each, item in zip(types, items, strict=True))
    raise TypeError(f"{value!r} is not a {wanted}")
