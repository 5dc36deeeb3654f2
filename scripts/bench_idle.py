"""`scripts/bench idle`: what the daemon of a mount costs while it gets no requests."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from scripts.bench_table import Row, at_most
from scripts.measuring import ENVIRONMENT, daemon_of, mounted, read_file
from scripts.own_python import PYTHON

MACHINE = ("--memmap", "512M!4G")
#: How long to watch it, in seconds.
WATCHED = 60.0
#: It gives up waiting for the next request within this time, in seconds.
CALM = 1.0


def idle_rows(_seconds: float) -> list[Row]:
    """How often it wakes up in a minute, and the memory that it has."""
    with mounted(*MACHINE):  # the first of a version compiles modules and classes, which takes memory
        pass
    with mounted(*MACHINE) as sysfs:
        read_file(str(sysfs / "bus/nd/devices/region0/size"))
        daemon = daemon_of(sysfs)
        time.sleep(CALM)
        before = switches(daemon)
        time.sleep(WATCHED)
        woken = switches(daemon) - before
        memory = proportional_memory(daemon)
        floor = bare_memory()
    note = "resident, of which what other processes have as well counts in part"
    return [
        Row("wake-ups in 60 s", "", woken, goal=at_most(0)),
        Row("memory", "MB", memory / 1e6, goal=at_most(28), note=note),
        Row(
            "memory of a Python with pyfuse3", "MB", None, floor / 1e6, note="that has imported it, and trio, and waits"
        ),
    ]


def bare_memory() -> int:
    """The proportional set size of a Python that has loaded the libraries of a mount, bytes."""
    argv = [PYTHON, "-c", "import pyfuse3, trio; print(flush=True); input()"]
    with subprocess.Popen(argv, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin, "it is a pipe"
        assert process.stdout, "it is a pipe"
        process.stdout.readline()
        memory = proportional_memory(Path("/proc", str(process.pid)))
        process.stdin.write(b"\n")
        process.stdin.flush()
    return memory


def switches(process: Path) -> int:
    """How often its threads have gone to sleep."""
    texts = [(thread / "status").read_text() for thread in (process / "task").iterdir()]
    return sum(int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for text in texts)


def proportional_memory(process: Path) -> int:
    """Its proportional set size, bytes."""
    text = (process / "smaps_rollup").read_text()
    return int(text.partition("\nPss:")[2].split()[0]) * 1024
