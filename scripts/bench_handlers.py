"""`scripts/bench handlers`: what the handlers of requests cost, without a mount, beside handlers that do nothing."""

# ruff: noqa: ARG002  # the handlers that do nothing use no argument

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Coroutine
from typing import Protocol

from scripts.bench_table import ROUNDS, Row, at_most

ATTRIBUTE = "/sys/bus/nd/devices/region0/size"
#: Calls in a batch; the cheapest of many batches is what the processor works, whatever else the host does.
CALLS = 500
BATCHES = 40

#: The most that open, read and release together may cost over handlers that do nothing, in microseconds.
MOST = 5.0


class Handlers(Protocol):
    """What is measured of `pyfuse3.Operations`."""

    def open(self, inode: int, flags: int, ctx: object) -> Coroutine[object, object, object]: ...

    def read(self, fh: int, off: int, size: int) -> Coroutine[object, object, object]: ...

    def release(self, fh: int) -> Coroutine[object, object, object]: ...


def handler_rows(_seconds: float) -> list[Row]:
    """open, read and release of an attribute, each and together."""
    import pyfuse3

    from nvdimmfs.fuse.operations import Operations
    from nvdimmfs.kernfs.path import resolve
    from nvdimmfs.machine.machine import Machine

    machine = Machine.legacy("512M!4G", 4 << 30)
    operations = Operations(machine.tree, clock=machine.system.clock)
    inode = operations.inodes.of(resolve(machine.tree.root, ATTRIBUTE)).node.ino
    context = pyfuse3.RequestContext()
    rounds = [
        (costs(operations, inode, context), costs(Empty(), inode, context), show_cost(machine.tree.root))
        for _ in range(ROUNDS)
    ]
    rows = []
    for name in ("open", "read", "release"):
        ours, empty = (statistics.median(each[which][name] for each in rounds) for which in (0, 1))
        rows.append(Row(f"{name}, over an empty handler", "us", ours - empty, note=f"an empty one: {empty:.2f} us"))
    total = sum(row.figure or 0.0 for row in rows)
    show = statistics.median(each[2] for each in rounds)
    rows.append(Row("all three", "us", total, goal=at_most(MOST), note=f"of it, the text itself: {show:.2f} us"))
    machine.close()
    return rows


def costs(handlers: Handlers, inode: int, context: object) -> dict[str, float]:
    """Microseconds of each handler: those of the quickest batch."""
    batches = [batch(handlers, inode, context) for _ in range(BATCHES)]
    return {name: min(each[name] for each in batches) for name in batches[0]}


def batch(handlers: Handlers, inode: int, context: object) -> dict[str, float]:
    """Microseconds of each handler in one batch, in the order of a client that opens, reads and closes files."""
    begin = time.perf_counter_ns()
    files = [result_of(handlers.open(inode, os.O_RDONLY, context)).fh for _ in range(CALLS)]
    opened = time.perf_counter_ns()
    for file in files:
        result_of(handlers.read(file, 0, 4096))
    read = time.perf_counter_ns()
    for file in files:
        result_of(handlers.release(file))
    end = time.perf_counter_ns()
    times = {"open": opened - begin, "read": read - opened, "release": end - read}
    return {name: nanoseconds / CALLS / 1000 for name, nanoseconds in times.items()}


def show_cost(root: object) -> float:
    """Microseconds of the text of the attribute, without any file."""
    from nvdimmfs.kernfs.path import resolve

    show: Callable[[], bytes] = resolve(root, ATTRIBUTE).show
    times = []
    for _ in range(BATCHES):
        begin = time.perf_counter_ns()
        for _ in range(CALLS):
            show()
        times.append(time.perf_counter_ns() - begin)
    return min(times) / CALLS / 1000


def result_of(handler: Coroutine[object, object, object]) -> object:
    """Run a handler that waits for nothing."""
    try:
        handler.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the handler waits")


class Empty:
    """Handlers that do nothing."""

    def __init__(self) -> None:
        import pyfuse3

        self._info = pyfuse3.FileInfo

    async def open(self, inode: int, flags: int, ctx: object) -> object:
        return self._info(fh=1, direct_io=True, keep_cache=False)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return b"536870912\n"

    async def release(self, fh: int) -> None:
        return None
