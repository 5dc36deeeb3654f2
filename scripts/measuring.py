"""What the programs that measure share: a machine that is mounted, calls a second, and how they are printed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.own_python import PYTHON, ROOT

NVDIMMFS = (str(PYTHON), "-m", "nvdimmfs")
#: An installed nvdimmfs has its modules compiled.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

#: The most calls between two looks at the clock.
BATCH = 50


@contextlib.contextmanager
def mounted(*machine: str) -> Iterator[Path]:
    """The sys/ folder of a machine that is mounted for as long."""
    with tempfile.TemporaryDirectory(prefix="nvdimmfs-bench-") as directory:
        command("mount", directory, *machine)
        try:
            yield Path(directory, "sys")
        finally:
            command("umount", directory)


def command(*arguments: str) -> None:
    """Run the command line.  When it fails, it has printed the reason."""
    if subprocess.run([*NVDIMMFS, *arguments], check=False, cwd=ROOT, env=ENVIRONMENT).returncode:
        sys.exit(f"bench: nvdimmfs {arguments[0]} failed")


def rate(call: Callable[[], object], seconds: float) -> float:
    """Calls a second, over so many seconds."""
    calls, batch = 0, 1
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or not calls:
        for _ in range(batch):
            call()
        calls += batch
        batch = min(2 * batch, BATCH)
    return calls / elapsed


def number(value: float | None) -> str:
    return f"{'-' if value is None else format(value, ',.0f'):>12}"


def stopwatch(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
