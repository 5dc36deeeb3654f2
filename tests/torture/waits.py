#!/usr/bin/env python3
"""How long a request waits while other users keep hold of something in the mount, in every position of `strangers.py`.

Each turn mounts a machine, lets one to three strangers take their positions, and has root and another user ask for what
users ask for: attributes, listings, links, attributes of files, bytes of a disk; and root unbinds and binds a region.
Then the mount is ended by SIGTERM.  No request, and not the end, may need more than a second.  On a loaded host,
where a request needs long without strangers as well, and in a run with --limit, which may have any host, it may need
half a minute.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import _paths  # noqa: F401
import stuck_memory
from mounting import mounted
from strangers import GRANTS, POSITIONS, USER
from torturing import Trial, run

SUPPORT = Path(__file__).resolve().parents[1] / "support"

#: Seconds that a request may need when the host has nothing else to do, and when it has.
LIGHT, LOADED = 1.0, 30.0

#: Seconds after which a request is given up.
HUNG = 60.0

#: What the victims ask for, as shell-like words: an operation and a path.
ASKS = (
    "read sys/bus/nd/devices/region0/size",
    "read sys/bus/nd/devices/region1/uevent",
    "read proc/iomem",
    "stat sys/bus/nd/devices/region0/namespace0.0/size",
    "stat sys/bus/nd/devices/btt0.0",
    "list sys/bus/nd/devices",
    "list sys/bus/nd/devices/region0/",
    "list dev",
    "link sys/bus/nd/devices/region1",
    "bytes dev/pmem1",
)
STORES = (
    "unbind region0",
    "bind region0",
    "unbind namespace1.0",
    "bind namespace1.0",
    "write sys/bus/nd/devices/region0/read_only",
)


def victim() -> None:
    """Carry out the requests that arrive on stdin, and report the seconds that each needed."""
    user = int(sys.argv[2])
    if user:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    for line in sys.stdin:
        started = time.monotonic()
        try:
            ask(*line.split())
            result = "ok"
        except OSError as failure:
            result = failure.strerror
        print(json.dumps([time.monotonic() - started, result]), flush=True)


def ask(what: str, where: str) -> None:
    """Carry out one request in the working directory, a mount's root."""
    path = Path(where)
    match what:
        case "read":
            path.read_bytes()
        case "stat":
            path.stat()
        case "list":
            list(path.iterdir())
        case "link":
            path.readlink()
        case "bytes":
            with path.open("rb") as file:
                file.read(4096)
        case "write":
            path.write_text("0")
        case "bind" | "unbind":
            driver = "nd_region" if where.startswith("region") else "nd_pmem"
            Path(f"sys/bus/nd/drivers/{driver}/{what}").write_text(where)


class Victim:
    """A process that asks, until a request hangs.

    Attributes:
        hangs: whether one did: its answer is still to come, so nothing more can be asked.
    """

    def __init__(self, mount: Path, user: int) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        argv = [sys.executable, __file__, "--victim", str(user)]
        self.process = subprocess.Popen(argv, cwd=mount, text=True, bufsize=1, **pipes)
        self.hangs = False

    def seconds(self, request: str) -> float:
        """How long a request needed; `HUNG` when it was given up."""
        self.process.stdin.write(f"{request}\n")
        if not select.select([self.process.stdout], [], [], HUNG)[0]:
            self.hangs = True
            return HUNG
        return json.loads(self.process.stdout.readline())[0]


def body(trial: Trial) -> None:
    if reason := stuck_memory.why_not() or (os.geteuid() and "this is not root"):
        trial.failed(f"cannot run here: {reason}")
        return
    rounds: list[str] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # and leave nothing behind
    while trial.goes_on():
        if not rounds:
            rounds = trial.random.sample(list(POSITIONS), len(POSITIONS))
        # Never two in the same position: the second would wait for the first, as for any writer of the same file.
        first = rounds.pop()
        others = trial.random.sample([name for name in POSITIONS if name != first], trial.random.randrange(3))
        positions = [first, *others]
        requests = trial.random.choices(ASKS, k=12) + list(STORES) + trial.random.choices(ASKS, k=6)
        turn(trial, positions, requests)


def turn(trial: Trial, positions: list[str], requests: list[str]) -> None:
    """Mount a machine and ask while strangers are in these positions."""

    def needed(name: str, seconds: float) -> None:
        trial.highest(f"ms longest {name}", int(seconds * 1000))
        is_loaded = os.getloadavg()[0] > (os.cpu_count() or 1) + 1
        bound = LOADED if trial.limit or is_loaded else LIGHT
        if seconds > bound:
            trial.failed(f"{name} needed {seconds:.2f} s beside {positions}", requests)

    with ExitStack() as stack:
        mount = stack.enter_context(mounted("--memmap", "64M!4G,64M!5G", "--ram", "8G"))
        for path, mode in GRANTS.items():
            (mount.directory / path).chmod(mode)
        for position in positions:
            stack.enter_context(in_position(mount.directory, position))
            trial.count("strangers")
        root, other = (stack.enter_context(asking(mount.directory, user)) for user in (0, USER - 1))
        for request in requests:
            asker = other if request in ASKS and trial.random.random() < 0.5 else root
            needed(request.split()[0], asker.seconds(request))
            trial.count("requests")
            if asker.hangs:
                break
        started = time.monotonic()
        mount.kill(signal.SIGTERM)
        ended = mount.has_ended(HUNG)
        needed("SIGTERM", time.monotonic() - started if ended else HUNG)
        trial.count("mounts")


@contextmanager
def in_position(mount: Path, position: str) -> Iterator[None]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    stranger = subprocess.Popen([sys.executable, SUPPORT / "strangers.py", position], cwd=mount, text=True, **pipes)
    try:
        is_ready = select.select([stranger.stdout], [], [], HUNG)[0] and stranger.stdout.readline() == "ready\n"
        assert is_ready, f"no stranger {position}"
        yield
    finally:
        stranger.kill()
        stranger.communicate()


@contextmanager
def asking(mount: Path, user: int) -> Iterator[Victim]:
    asker = Victim(mount, user)
    try:
        yield asker
    finally:
        asker.process.kill()
        asker.process.communicate()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--victim"]:
        victim()
    else:
        sys.exit(run(__doc__.splitlines()[0], body))
