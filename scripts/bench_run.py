"""`scripts/bench run`: commands in a sandbox."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from scripts.measuring import ENVIRONMENT, NVDIMMFS, STARTS, stopwatch
from scripts.own_python import PYTHON, ROOT


class Run(NamedTuple):
    """One line of the table: seconds of a command in a sandbox, and of something real beside it."""

    what: str
    sandbox: float
    real: float | None
    note: str


def measure_run(guest: str | None, *, as_json: bool) -> int:
    """Commands in a sandbox, from exec to exit."""
    empty = ("unshare", *(() if os.geteuid() == 0 else ("--user", "--map-root-user")), "--mount", "true")
    start, bare = timed_in_turns((*NVDIMMFS, "run", "--", "true"), empty)
    rows = [Run("true", start, bare, f"real: {' '.join(empty)}"), calling_run()]
    if shutil.which("ndctl"):
        (first,) = timed_in_turns((*NVDIMMFS, "run", "--", "ndctl", "list"))
        boot = None if guest is None else stopwatch(partial(subprocess.run, guest, shell=True, check=True))
        rows.append(Run("ndctl list", first, boot, f"real: {guest or 'a guest that boots (--guest COMMAND)'}"))
    else:
        print("bench: ndctl is not installed, so it is not started", file=sys.stderr)
    if as_json:
        print(json.dumps([row._asdict() for row in rows], indent=2))
        return 0
    print(f"{'seconds':<24}{'sandbox':>10}{'real':>10}{'x real':>9}   on")
    for what, sandbox, real, note in rows:
        times = "-" if real is None else format(sandbox / real, ".2f")
        print(f"{what:<24}{sandbox:>10.3f}{'-' if real is None else format(real, '.3f'):>10}{times:>9}   {note}")
    return 0


def calling_run() -> Run:
    """Ioctls on a DIMM, timed inside the sandbox, and the shortest ioctl of a real device."""
    program = f"""
import fcntl, os, time
def moments(path, request):
    device = os.open(path, os.O_RDWR)
    for turn in range({STARTS + 1}):
        print(time.monotonic())
        for call in range({CALLS}):
            try:
                fcntl.ioctl(device, request, bytes(12))
            except OSError:
                pass
moments("/dev/nmem0", 0xC00C4E04)  # ND_IOCTL_GET_CONFIG_SIZE
print()
moments("/dev/null", 0)
"""
    argv = [*NVDIMMFS, "run", "--machine", "qemu-nfit", "--", str(PYTHON), "-c", program]
    inside, real = subprocess.run(argv, **CAPTURED).stdout.split("\n\n")
    note = "once it runs; real: of /dev/null, ENOTTY"
    return Run(f"{CALLS:,} ioctls", lap(inside), lap(real), note)


#: Ioctls between two looks at the clock.
CALLS = 100

CAPTURED = {"check": True, "cwd": ROOT, "env": ENVIRONMENT, "stdout": subprocess.PIPE, "text": True}


def lap(printed: str) -> float:
    """The median of the times between the moments that a script printed."""
    moments = [float(line) for line in printed.split()]
    return statistics.median(after - before for before, after in itertools.pairwise(moments))


def timed_in_turns(*commands: Sequence[str]) -> tuple[float, ...]:
    """Seconds that each command takes from exec to exit, the median of its turns."""
    options = {**CAPTURED, "stdout": subprocess.DEVNULL}
    rounds = [[stopwatch(partial(subprocess.run, each, **options)) for each in commands] for _ in range(STARTS)]
    return tuple(statistics.median(times) for times in zip(*rounds, strict=True))
