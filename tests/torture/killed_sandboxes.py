"""Sandboxes that are started and killed in every order leave nothing on the host.

    python tests/torture/killed_sandboxes.py --seed N --minutes M

A turn starts a few sandboxes, with machines of their own or attached to one, and sends signals to any of their
processes at any moment.  At the end their supervisors get SIGKILL, whatever has been stopped or killed before.  All
processes must then end by themselves.  Loop devices may be left until the next sandbox has started and no longer,
mounts and files not at all.  Other programs may use the host at the same time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import _paths  # noqa: F401  # before the modules that it makes importable
import attrs
import mounting
import sandboxes
from torturing import Trial, run, shrink
from watchdog import WATCHDOG

from nvdimmfs.sandbox.loop_records import DIRECTORY

#: Commands of the sandboxes: until it is killed, for a moment, with children, with a file system on a disk.
_COMMANDS = (
    "exec sleep 1000",
    "sleep 0.2",
    "sleep 1000 & setsid sleep 1000 & wait",
    "while :; do for name in unbind bind; do echo namespace0.0 > /sys/bus/nd/drivers/nd_pmem/$name; done; done",
    "cat /dev/pmem0 > /dev/null; dd if=/dev/urandom of=/dev/pmem1 bs=1M count=8 2> /dev/null; sleep 1000",
    "test -b /dev/pmem0 && mkfs.ext4 -q /dev/pmem0 && mkdir /run/x && mount /dev/pmem0 /run/x; exec sleep 1000",
)

_SIGNALS = (
    signal.SIGKILL,
    signal.SIGKILL,
    signal.SIGTERM,
    signal.SIGSTOP,
    signal.SIGCONT,
    signal.SIGINT,
    signal.SIGHUP,
)

#: The longest pause before a step, in seconds; a sandbox starts in a third of it on a host with nothing else to do.
_LONGEST_PAUSE = 1.2

#: How long a supervisor may take to end after SIGKILL, in seconds.
_PATIENCE = 20.0

#: The least number of a loop device that a sandbox adds.
_FIRST_LOOP = 256


@attrs.frozen
class Start:
    """Start a sandbox, whose number is that of the starts before."""

    attach: bool
    command: str
    pause: float

    def __str__(self) -> str:
        return f"after {self.pause:.3f} s start: run {'--attach ' if self.attach else ''}-- sh -c '{self.command}'"


@attrs.frozen
class Send:
    """Send a signal to a process of a sandbox: its supervisor, then its children in order of their start, then theirs.

    Attributes:
        sandbox: the sandbox's number; -1 for the daemon to which sandboxes are attached.
        process: modulo the number of processes that there are at that moment.
    """

    sandbox: int
    process: int
    signal: signal.Signals
    pause: float

    def __str__(self) -> str:
        target = "the daemon" if self.sandbox < 0 else f"process {self.process} of sandbox {self.sandbox}"
        return f"after {self.pause:.3f} s send {self.signal.name} to {target}"


Step = Start | Send


def plan(chance: random.Random) -> list[Step]:
    """The steps of a turn."""
    starts = chance.choice((1, 2, 3, 4, 6))
    steps: list[Step] = [
        Start(chance.random() < 0.3, chance.choice(_COMMANDS), chance.random() * 0.1) for _ in range(starts)
    ]
    for _ in range(chance.randrange(2 * starts + 1)):
        sandbox = -1 if chance.random() < 0.05 else chance.randrange(starts)
        pause = chance.choice((0, chance.random() * 0.02, chance.random() * _LONGEST_PAUSE))
        steps.append(Send(sandbox, chance.randrange(6), chance.choice(_SIGNALS), pause))
    return steps


class Turn:
    """The processes of one turn."""

    def __init__(self, folder: Path) -> None:
        self.tag = f"NVDIMMFS_TORTURE={os.urandom(8).hex()}"
        self._folder = folder
        self._mount = folder / "mount"
        self._environment = sandboxes.tagged(self.tag) | {"TMPDIR": str(folder / "tmp")}
        self._started: list[subprocess.Popen[bytes]] = []
        self._daemon: int | None = None
        self.sent = 0
        self.waiting = 0

    def prepare(self, steps: Sequence[Step]) -> None:
        """Make the folders, and mount the machine to attach to."""
        (self._folder / "tmp").mkdir()
        self._mount.mkdir()
        if any(isinstance(step, Start) and step.attach for step in steps):
            argv = (*mounting.MACHINE, "mount", self._mount, "--ram", "8G")
            mounting.command(*argv, env=self._environment).check_returncode()
            daemon = int(os.getxattr(self._mount, mounting.DAEMON_XATTR).split()[0])
            self._daemon = os.pidfd_open(daemon)

    def take(self, step: Step) -> None:
        time.sleep(step.pause)
        if isinstance(step, Start):
            options = ("--attach", str(self._mount)) if step.attach else ("--ram", "8G")
            argv = (*mounting.MACHINE, "run", *options, "--", "sh", "-c", step.command)
            output = (self._folder / f"output-{len(self._started)}").open("wb")
            with output:
                self._started.append(
                    subprocess.Popen(argv, cwd="/", env=self._environment, stdin=-3, stdout=output, stderr=output)
                )
            return
        with contextlib.suppress(ProcessLookupError):
            if step.sandbox >= 0:
                self._send(step, _tree(self._started[step.sandbox].pid))
                self.sent += 1
            elif self._daemon is not None:
                signal.pidfd_send_signal(self._daemon, step.signal)
                self.sent += 1

    @staticmethod
    def _send(step: Send, processes: list[int]) -> None:
        front = processes[0]
        process = processes[step.process % len(processes)]
        os.kill(process, step.signal)
        if step.signal == signal.SIGSTOP and process != front and _parent(process) not in processes:
            os.kill(process, signal.SIGCONT)  # a reaper whose supervisor had just ended: nobody else would continue it

    def end(self) -> None:
        """Kill the supervisors, and unmount the machine."""
        for process in self._started:
            process.kill()
        if self._daemon is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._daemon, signal.SIGKILL)
            select.select([self._daemon], [], [], WATCHDOG)
            os.close(self._daemon)
            mounting.cli("umount", self._mount)
        for process in self._started:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self.waiting += 1
                self._go_on(process.pid)
                process.wait(WATCHDOG)

    @staticmethod
    def _go_on(supervisor: int) -> None:
        """Continue a sandbox's processes.

        Its supervisor waits for an answer to a request that its server had just read when it was stopped.  The kernel
        does not end such a wait, not even for SIGKILL.
        """
        for process in _tree(supervisor):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)

    def what_is_left(self) -> Iterator[str]:
        """One line for each thing that is left."""
        try:
            sandboxes.wait_for_end_of(self.tag)
        except AssertionError as failure:
            yield f"{failure}: {_described(sandboxes.processes_with(self.tag))}"
            for process in sandboxes.processes_with(self.tag):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        yield from (f"mount {mount}" for mount in mounting.mounted_below(self._folder))
        yield from (f"file {name}" for name in (self._folder / "tmp").iterdir())
        for number in range(len(self._started)):
            text = (self._folder / f"output-{number}").read_text(errors="replace")
            if "Traceback" in text or "a bug in" in text:
                yield f"output of sandbox {number}: {text}"


def _tree(process: int) -> list[int]:
    """A process, its children, their children and so on, each generation in the order of start."""
    found = [process]
    for parent in found:
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return found


def _parent(process: int) -> int:
    """The parent's process id; ProcessLookupError."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        raise ProcessLookupError from None
    return int(status.partition("PPid:")[2].split(maxsplit=1)[0])


def _described(processes: list[int]) -> str:
    words = []
    for process in processes:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{process}/status").read_text().splitlines()
            words.append(f"{process} ({status[2].split(maxsplit=1)[1]}, child of {status[6].split()[1]})")
    return ", ".join(words)


def loops_left() -> list[str]:
    """Loop devices of sandboxes that no process deletes: without a record, or recorded by a sandbox that is dead."""
    found = []
    blocks = Path("/sys/devices/virtual/block")
    numbers = {int(path.name[4:]) for path in blocks.glob("loop*") if path.name[4:].isdecimal()}
    recorded: set[int] = set()
    for sandbox in DIRECTORY.iterdir() if sandboxes.is_root() and DIRECTORY.exists() else ():
        with contextlib.suppress(FileNotFoundError):
            recorded |= {int(path.name.rstrip("~")) for path in sandbox.iterdir() if not path.is_symlink()}
            if _is_unlocked(sandbox):
                found.append(f"records of a dead sandbox: {sandbox}: {sorted(path.name for path in sandbox.iterdir())}")
    if sandboxes.is_root():
        without = [number for number in numbers - recorded if number >= _FIRST_LOOP]
        found += [f"loop device {number} without a record" for number in without if (blocks / f"loop{number}").exists()]
    return found


def _is_unlocked(directory: Path) -> bool:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def take_turn(trial: Trial, steps: Sequence[Step]) -> list[str]:
    """Take all steps, and return what is left afterwards, one line for each thing."""
    with tempfile.TemporaryDirectory(prefix="nvdimmfs-killed-") as folder:
        turn = Turn(Path(folder))
        try:
            turn.prepare(steps)
            for step in steps:
                turn.take(step)
        finally:
            turn.end()
        left = list(turn.what_is_left())
        mounting.cli("run", "--", "true").check_returncode()
    trial.count("sandboxes", sum(isinstance(step, Start) for step in steps))
    trial.count("signals", turn.sent)
    trial.count("supervisors that waited for a stopped server", turn.waiting)
    return left + loops_left_for_long()


def loops_left_for_long() -> list[str]:
    """As `loops_left`, if they are still left a moment later: other sandboxes of this host may just be ending."""
    deadline = time.monotonic() + 40
    while (left := loops_left()) and time.monotonic() < deadline:
        time.sleep(0.1)
        mounting.cli("run", "--", "true")
    return left


def body(trial: Trial) -> None:
    while trial.goes_on():
        steps = plan(trial.random)
        left = take_turn(trial, steps)
        if left:
            shorter = shrink(steps, lambda some: _is_valid(some) and bool(take_turn(trial, some)))
            trial.failed("; ".join(left), shorter)
        trial.count("turns")


def _is_valid(steps: Sequence[Step]) -> bool:
    """Whether each signal is sent to a sandbox that has been started."""
    starts = 0
    for step in steps:
        starts += isinstance(step, Start)
        if isinstance(step, Send) and step.sandbox >= starts:
            return False
    return starts > 0


if __name__ == "__main__":
    sys.exit(run(__doc__.splitlines()[0], body))
