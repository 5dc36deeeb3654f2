"""Repeat cycles of making and removing, in process, over a mount, and of sandboxes: nothing may be left of one.

In process, the allocated objects are counted before and after each block of cycles; of this process and of a mount's
daemon, the memory.  After sandboxes, the host has no mount, process, temporary file, loop device or record of one.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import os
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import _paths  # noqa: F401  # before the modules that it makes importable
import attrs
import engine_cycles
import killed_sandboxes
import mount_cycles
import mounting
import sandboxes
from torturing import Trial, resident_kib, run

from nvdimmfs.testing import Machine

#: Between two measurements: so many cycles at least, and so many seconds.
BLOCK = 20
BLOCK_SECONDS = 1.0

#: Blocks of a kind before the first that counts: caches fill up.
WARM_UP = 2

#: Objects that may be left of a cycle on average, and of all: allocators keep some.
OBJECTS_PER_CYCLE = 0.05
OBJECTS = 1000

#: Memory that may be left of all cycles of one kind, KiB.
KIB = 6 * 1024

#: Kinds of cycle that start a sandbox: on a machine of its own, on a mount, and on a machine of `nvdimmfs.testing`.  A
#: run with --limit leaves them out, as they take long.
SANDBOXES = ("sandbox", "attached sandbox", "machine's sandbox")
SANDBOXES_IN_BLOCK = 5

#: Sandboxes of one machine that run side by side: so many tests, and a hundred thousand sandboxes end within hours.
SANDBOXES_AT_ONCE = 4

KINDS = (*engine_cycles.KINDS, *mount_cycles.KINDS, *SANDBOXES)


@attrs.define
class Account:
    """What one kind of cycle has left behind.

    Attributes:
        cycle: takes one turn.
        pids: the processes whose memory is measured.
        least: turns in a block at least.
        at_once: cycles in a turn.
        blocks: blocks of cycles so far, with those that warm up.
        cycles: cycles that were measured.
        objects: what they left in this process; 0 when they run in another one.
        kib: what they left of the processes' memory.
        memory: of the processes after each block, KiB.
    """

    cycle: Callable[[], None]
    pids: tuple[int, ...]
    least: int = BLOCK
    at_once: int = 1
    blocks: int = 0
    cycles: int = 0
    objects: int = 0
    kib: int = 0
    memory: list[int] = attrs.field(factory=list)

    @property
    def is_here(self) -> bool:
        """Whether the cycles run in this process."""
        return self.pids == (os.getpid(),)

    def resident_kib(self) -> int:
        """The memory of the processes, KiB."""
        return sum(map(resident_kib, self.pids))

    def note(self, cycles: int, objects: int, kib: int) -> None:
        """Add a block."""
        self.blocks += 1
        if self.blocks > WARM_UP:
            self.cycles += cycles
            self.objects += objects if self.is_here else 0
            self.kib += kib

    def problem(self) -> str:
        """What too much is left of; empty when nothing is."""
        if self.objects > OBJECTS + self.cycles * OBJECTS_PER_CYCLE:
            return f"{self.objects} objects are left of {self.cycles} cycles"
        if self.kib > KIB:
            return f"{self.kib} KiB are left of {self.cycles} cycles"
        return ""


def body(trial: Trial) -> None:
    with tempfile.TemporaryDirectory(prefix="nvdimmfs-cycles-") as folder:
        host = Host(Path(folder))
        with contextlib.ExitStack() as stack:
            accounts = make_accounts(trial, host, stack)
            trial.kinds = tuple(accounts)
            repeat_all(trial, accounts)
        if set(SANDBOXES) & accounts.keys():
            for left in host.what_is_left():
                trial.failed(f"the sandboxes have left {left}")


def repeat_all(trial: Trial, accounts: dict[str, Account]) -> None:
    """Take blocks of all kinds in turn."""
    for name in itertools.cycle(accounts):
        if not trial.lacking() or not trial.goes_on():
            break
        if name in trial.lacking():
            repeat_block(trial, name, accounts[name])
    for name, account in accounts.items():
        report(trial, name, account)


def make_accounts(trial: Trial, host: Host, stack: contextlib.ExitStack) -> dict[str, Account]:
    """The chosen kinds, without those that need what this host lacks or too long."""
    here = (os.getpid(),)
    inside = {name: make for name, make in engine_cycles.KINDS.items() if name in trial.kinds}
    accounts = {name: Account(make(stack), here) for name, make in inside.items()}
    if accounts.keys() == set(trial.kinds):
        return accounts
    if set(mount_cycles.KINDS) & set(trial.kinds):
        mount = stack.enter_context(mounting.mounted("--machine", "qemu-nfit-labelled"))
        for name, cycle in mount_cycles.KINDS.items():
            if name in trial.kinds:
                accounts[name] = Account(functools.partial(cycle, mount.directory), (mount.pid,))
    if not trial.limit and sandboxes.why_not() is None:
        makers = zip(SANDBOXES, (own_sandboxes, attached_sandboxes, machine_sandboxes), strict=True)
        accounts |= {name: make(host, stack) for name, make in makers if name in trial.kinds}
    return accounts


def own_sandboxes(host: Host, _stack: contextlib.ExitStack) -> Account:
    """Sandboxes with a machine each."""
    return Account(functools.partial(host.sandbox, "--ram", "8G"), (os.getpid(),), SANDBOXES_IN_BLOCK)


def attached_sandboxes(host: Host, stack: contextlib.ExitStack) -> Account:
    """Sandboxes on a mount."""
    mount = stack.enter_context(mounting.mounted("--machine", "qemu-nfit-labelled"))
    return Account(functools.partial(host.sandbox, "--attach", mount.directory), (mount.pid,), SANDBOXES_IN_BLOCK)


def machine_sandboxes(_host: Host, stack: contextlib.ExitStack) -> Account:
    """Sandboxes on a machine of this process; measured are its process and the template that forks the sandboxes."""
    machine = stack.enter_context(Machine(trace=False))
    workers = stack.enter_context(ThreadPoolExecutor(SANDBOXES_AT_ONCE))
    (template,) = map(int, Path("/proc/thread-self/children").read_text().split())

    def cycle() -> None:
        for done in list(workers.map(lambda _: machine.run(["true"]), range(SANDBOXES_AT_ONCE))):
            assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stderr

    pids = (mounting.daemon_of(machine.path), template)
    return Account(cycle, pids, SANDBOXES_IN_BLOCK, at_once=SANDBOXES_AT_ONCE)


def repeat_block(trial: Trial, name: str, account: Account) -> None:
    """Take a block of cycles, and measure what is left of it."""
    gc.collect()
    memory, objects = account.resident_kib(), sys.getallocatedblocks()
    cycles = repeat(trial, name, account)
    gc.collect()
    objects = sys.getallocatedblocks() - objects
    account.memory.append(account.resident_kib())
    account.note(cycles, objects, account.memory[-1] - memory)
    trial.count(name, cycles)
    problem = account.problem()
    if problem:
        trial.failed(f"{name}: {problem}", largest_growth(account) if account.is_here else ())
        account.objects = account.kib = 0


def repeat(trial: Trial, name: str, account: Account) -> int:
    """Take the cycles of a block; the fewest where the number of turns is limited.  Returns how many."""
    end = trial.elapsed + (0.0 if trial.limit else BLOCK_SECONDS)
    enough = trial.each - trial.figures[name] if trial.each else sys.maxsize
    for number in itertools.count(1):
        account.cycle()
        if number * account.at_once >= enough or (number >= account.least and trial.elapsed >= end):
            return number * account.at_once
    raise AssertionError("unreachable")


def report(trial: Trial, name: str, account: Account) -> None:
    """Add to the figures what is left; in a run with --each the memory after the warm-up, in the middle, at the end."""
    if account.is_here:
        trial.figures[f"objects left of {name}"] = account.objects
    trial.figures[f"KiB left of {name}"] = account.kib
    if trial.each and len(account.memory) > WARM_UP:
        measured = account.memory[WARM_UP - 1 :]
        for when, kib in (("start", measured[0]), ("middle", measured[len(measured) // 2]), ("end", measured[-1])):
            trial.figures[f"KiB at the {when} of {name}"] = kib


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


class Host:
    """What sandboxes use of the host, apart from what other programs use."""

    def __init__(self, folder: Path) -> None:
        """`folder` is for their temporary files."""
        self._folder = folder
        self._tag = f"NVDIMMFS_TORTURE={os.urandom(8).hex()}"

    def sandbox(self, *options: str | Path) -> None:
        """Run a sandbox that ends at once."""
        environment = sandboxes.tagged(self._tag) | {"TMPDIR": str(self._folder)}
        done = sandboxes.run("true", options=options, env=environment)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done.stderr

    def what_is_left(self) -> Iterator[str]:
        """One line for each thing that is left of all sandboxes."""
        sandboxes.wait_for_end_of(self._tag)
        yield from (f"the mount {mount}" for mount in mounting.mounted_below(self._folder))
        yield from (f"the file {path}" for path in self._folder.iterdir())
        yield from killed_sandboxes.loops_left_for_long()


if __name__ == "__main__":
    sys.exit(run(__doc__, body, KINDS))
