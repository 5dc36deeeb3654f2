"""Calls on files, reported to a tracer: the same for a mount and for an engine without one."""

from __future__ import annotations

from collections.abc import Callable

from nvdimmfs.faults.faults import Caller
from nvdimmfs.kernfs.channel import Channel
from nvdimmfs.kernfs.node import Node
from nvdimmfs.kernfs.open_file import OpenFile, open_node
from nvdimmfs.kernfs.tracer import Tracer


def is_traced(node: Node) -> bool:
    """Whether calls on a file are traced: not those on channels, through which nvdimmfs talks to itself."""
    return not isinstance(node, Channel)


def traced_open(tracer: Tracer, node: Node, flags: int, thread: int, caller: Caller) -> OpenFile:
    """As `open_node`."""
    if not is_traced(node):
        return open_node(node, flags, caller)
    with tracer.call("open", _path(node), thread, flags=flags) as call:
        opened = open_node(node, flags, caller)
        call.returns(0)
        return opened


def traced_read(tracer: Tracer, file: OpenFile, offset: int, size: int) -> bytes:
    """As `OpenFile.read`."""
    if not is_traced(file.node):
        return file.read(offset, size)
    with tracer.call("read", _path(file.node), file.opener, offset=offset, size=size) as call:
        data = file.read(offset, size)
        call.returns(len(data), data)
        return data


def traced_write(
    tracer: Tracer, file: OpenFile, offset: int, data: bytes, write: Callable[[int, bytes], int] | None = None
) -> int:
    """As `OpenFile.write`, or as `write`, which a front end does in its place."""
    write = write or file.write
    if not is_traced(file.node):
        return write(offset, data)
    with tracer.call("write", _path(file.node), file.opener, offset=offset, size=len(data), data=data) as call:
        count = write(offset, data)
        call.returns(count)
        return count


def traced_sync(tracer: Tracer, file: OpenFile, sync: Callable[[], None]) -> None:
    """fsync(2), which `sync` does."""
    if not is_traced(file.node):
        sync()
        return
    with tracer.call("fsync", _path(file.node), file.opener) as call:
        sync()
        call.returns(0)


def traced_poll(tracer: Tracer, file: OpenFile, thread: int, poll: Callable[[], int]) -> int:
    """poll(2), which `poll` does; it returns the events that are reported."""
    if not is_traced(file.node):
        return poll()
    with tracer.call("poll", _path(file.node), thread) as call:
        events = poll()
        call.returns(events)
        return events


def _path(node: Node) -> str:
    """The path of a file; for one that was removed, the name alone."""
    return node.path if node.parent is not None else node.name
