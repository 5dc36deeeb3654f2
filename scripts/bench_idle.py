"""`scripts/bench idle`: what the daemon of a mount costs while it gets no requests."""

from __future__ import annotations

import time
from pathlib import Path

from scripts.bench_table import Row, at_most
from scripts.measuring import daemon_of, mounted, read_file

#: How long to watch it, in seconds.
WATCHED = 60.0
#: It gives up waiting for the next request within this time, in seconds.
CALM = 1.0


def idle_rows(_seconds: float) -> list[Row]:
    """How often it wakes up in a minute, and the memory that it has."""
    with mounted("--memmap", "512M!4G") as sysfs:
        read_file(str(sysfs / "bus/nd/devices/region0/size"))
        daemon = daemon_of(sysfs)
        time.sleep(CALM)
        before = switches(daemon)
        time.sleep(WATCHED)
        woken = switches(daemon) - before
        memory = proportional_memory(daemon)
    note = "resident, of which what other processes have as well counts in part"
    return [
        Row("wake-ups in 60 s", "", woken, goal=at_most(0)),
        Row("memory", "MB", memory / 1e6, goal=at_most(28), note=note),
    ]


def switches(process: Path) -> int:
    """How often its threads have gone to sleep."""
    texts = [(thread / "status").read_text() for thread in (process / "task").iterdir()]
    return sum(int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for text in texts)


def proportional_memory(process: Path) -> int:
    """Its proportional set size, bytes."""
    text = (process / "smaps_rollup").read_text()
    return int(text.partition("\nPss:")[2].split()[0]) * 1024
