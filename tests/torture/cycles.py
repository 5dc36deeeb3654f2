"""Repeat cycles of making and removing, in process and over a mount: nothing may be left of one.

In process, the allocated objects are counted before and after each block of cycles; of a mount's daemon, its memory.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import os
import select
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import _paths  # noqa: F401  # before the modules that it makes importable
import attrs
import engine_cycles
import mounting
import sandboxes
from torturing import Trial, resident_kib, run

#: Between two measurements: so many cycles at least, and so many seconds.
BLOCK = 20
BLOCK_SECONDS = 1.0

#: Blocks of a kind before the first that counts: caches fill up.
WARM_UP = 2

#: Objects that may be left of a cycle on average, and of all: allocators keep some.
OBJECTS_PER_CYCLE = 0.05
OBJECTS = 1000

#: Memory of the daemon that may be left of all cycles of one kind, KiB.
DAEMON_KIB = 6 * 1024


@attrs.define
class Account:
    """What one kind of cycle has left behind.

    Attributes:
        cycle: takes one turn.
        least: cycles in a block at least.
        blocks: blocks of cycles so far, with those that warm up.
        cycles: cycles that were measured.
        left: objects or KiB that they left.
    """

    cycle: Callable[[], None]
    least: int = BLOCK
    blocks: int = 0
    cycles: int = 0
    left: int = 0


def body(trial: Trial) -> None:
    with contextlib.ExitStack() as stack:
        inside = {name: Account(make(stack)) for name, make in engine_cycles.KINDS.items()}
        mount = stack.enter_context(mounted())
        outside = {name: Account(cycle) for name, cycle in mount_cycles(mount).items()}
        if not trial.limit and sandboxes.why_not() is None:  # each takes half a second
            outside["mount attach"] = Account(functools.partial(attach, mount), least=5)
        trial.count("daemon KiB before", resident_kib(mount.pid))
        for name in itertools.cycle([*inside, *outside]):
            if not trial.goes_on():
                break
            if name in inside:
                repeat_inside(trial, name, inside[name])
            else:
                repeat_outside(trial, name, outside[name], mount.pid)
        trial.count("daemon KiB after", resident_kib(mount.pid))


def repeat_inside(trial: Trial, name: str, account: Account) -> None:
    """Take a block of cycles in process, and count the objects that they leave."""
    gc.collect()
    before = sys.getallocatedblocks()
    cycles = repeat(trial, account)
    gc.collect()
    note(trial, name, account, cycles, sys.getallocatedblocks() - before)
    if account.left > OBJECTS + account.cycles * OBJECTS_PER_CYCLE:
        trial.failed(f"{name}: {account.left} objects are left of {account.cycles} cycles", largest_growth(account))
        account.left = 0


def repeat_outside(trial: Trial, name: str, account: Account, pid: int) -> None:
    """Take a block of cycles over the mount, and measure what the daemon keeps."""
    before = resident_kib(pid)
    cycles = repeat(trial, account)
    note(trial, name, account, cycles, resident_kib(pid) - before)
    if account.left > DAEMON_KIB:
        trial.failed(f"{name}: the daemon keeps {account.left} KiB of {account.cycles} cycles")
        account.left = 0


def repeat(trial: Trial, account: Account) -> int:
    """Take a block of cycles; one of the fewest where the number of turns is limited.  Returns how many."""
    end = trial.elapsed + (0.0 if trial.limit else BLOCK_SECONDS)
    for number in itertools.count(1):
        account.cycle()
        if number >= account.least and trial.elapsed >= end:
            return number
    raise AssertionError("unreachable")


def note(trial: Trial, name: str, account: Account, cycles: int, left: int) -> None:
    trial.count(name, cycles)
    account.blocks += 1
    if account.blocks > WARM_UP:
        account.cycles += cycles
        account.left += left
    trial.figures[f"left of {name}"] = account.left


def largest_growth(account: Account) -> list[str]:
    """Where the objects were made that a block of cycles leaves."""
    tracemalloc.start(4)
    try:
        before = tracemalloc.take_snapshot()
        for _ in range(BLOCK):
            account.cycle()
        gc.collect()
        return [str(line) for line in tracemalloc.take_snapshot().compare_to(before, "lineno")[:12]]
    finally:
        tracemalloc.stop()


@contextlib.contextmanager
def mounted() -> Iterator[mounting.Mount]:
    """A mount of the test platform."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder, "mount")
        directory.mkdir()
        mount = mounting.Mount(mounting.MACHINE, directory, Path(folder, "log"))
        try:
            mount.start("--machine", "qemu-nfit-labelled")
            yield mount
        finally:
            mount.dispose()


def attach(mount: mounting.Mount) -> None:
    """Attach a sandbox to the machine, which ends at once."""
    done = mounting.command(*mounting.MACHINE, "run", "--attach", mount.directory, "--", "true")
    assert done.returncode == 0, done.stderr


def mount_cycles(mount: mounting.Mount) -> dict[str, Callable[[], None]]:
    """The kinds of cycle over a mount, by name."""
    root = mount.directory
    nd = root / "sys/bus/nd"
    attribute = nd / "drivers_autoprobe"

    def open_close() -> None:
        with attribute.open("rb") as file:
            file.read()

    def failed_opens() -> None:
        for path, flags in ((nd / "missing", os.O_RDONLY), (nd / "drivers_probe", os.O_RDONLY), (nd, os.O_WRONLY)):
            with contextlib.suppress(OSError):
                os.close(os.open(path, flags))

    def listing() -> None:
        list(nd.iterdir())

    def poll() -> None:
        with attribute.open("rb") as file:
            poller = select.poll()
            poller.register(file, select.POLLPRI)
            file.read()
            poller.poll(0)

    def channel() -> None:
        with (root / "sys/kernel/debug/nvdimmfs/control").open("r+b", buffering=0) as file:
            file.write(b'{"Watch":{"directories":[""]}}')

    def xattr() -> None:
        if os.geteuid() == 0:
            os.setxattr(attribute, "trusted.cycle", b"x" * 1000)
            os.removexattr(attribute, "trusted.cycle")

    def rebind() -> None:
        """The nodes below are looked up, and forgotten when they go."""
        (nd / "drivers/nd_region/unbind").write_text("region0")
        (nd / "drivers/nd_region/bind").write_text("region0")
        for path in nd.joinpath("devices").iterdir():
            with contextlib.suppress(OSError):
                (path / "uevent").stat()

    def disk() -> None:
        node = next(root.joinpath("dev").iterdir(), None)
        if node:
            with node.open("r+b") as file:
                file.write(b"x" * 4096)

    cycles = (open_close, failed_opens, listing, poll, channel, xattr, rebind, disk)
    return {f"mount {cycle.__name__}": cycle for cycle in cycles}


if __name__ == "__main__":
    sys.exit(run(__doc__, body))
