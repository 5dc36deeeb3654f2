"""`scripts/bench scale`: machines with few and with many namespaces, side by side."""

# ruff: noqa: PTH118, PTH208  # what is measured is system calls, without pathlib around them

from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from scripts.bench_mount import MANY_NAMES, READ, REAL_READ, REAL_WRITTEN
from scripts.bench_table import Turns
from scripts.measuring import (
    DEVICES,
    DRIVER,
    ENVIRONMENT,
    NAMESPACE_SIZE,
    STARTS,
    UUID,
    daemon_of,
    first_usable,
    list_directory,
    mounted,
    read_file,
    rewriter,
    start_time,
    stopwatch,
    write_machine,
)
from scripts.own_python import PYTHON

SCALES = (10, 10_000)
#: How often `remake_namespace` writes.
WRITES = 5


class Scaled(NamedTuple):
    """One line of the table: a figure for each scale, and one of something real in the same run, if there is any."""

    what: str
    figures: tuple[float, ...]
    real: float | None
    note: str


def measure_scale(seconds: float, *, as_json: bool) -> int:
    """Machines with few and with many namespaces, side by side."""
    with tempfile.TemporaryDirectory(prefix="nvdimmfs-bench-") as folder, contextlib.ExitStack() as mounts:
        machines = [("--machine", write_machine(Path(folder, f"{count}.toml"), count)) for count in SCALES]
        starts = [[start_time(READ, *machine) for machine in machines] for _ in range(STARTS)]
        start = tuple(statistics.median(times) for times in zip(*starts, strict=True))
        python, python_work = bare_start()
        work = tuple(map(processor_time, machines))
        systems = [mounts.enter_context(mounted(*machine)) for machine in machines]
        rows = [
            Scaled("start, s", start, python, "from exec to the first read; real: Python alone, to its end"),
            Scaled("start, CPU s", work, python_work, "of it, what processors work, whatever else they do"),
            Scaled("memory, MiB", tuple(map(resident, systems)), None, "of the daemon, before anybody looks"),
            Scaled("first read, us", tuple(map(first_read, systems)), None, "of a namespace not read before"),
            scaled("read, us", read_file, systems, f"{DEVICES}/namespace0.1/size", REAL_READ, seconds),
            scaled("readdir, us a name", list_directory, systems, DEVICES, MANY_NAMES, seconds),
            scaled("new namespace, us", remake_namespace, systems, f"{DEVICES}/region0", REAL_WRITTEN, seconds),
        ]
    print(json.dumps([row._asdict() for row in rows], indent=2) if as_json else scale_table(rows))
    return 0


def resident(system: Path) -> float:
    """MiB of memory that the daemon of a mount has."""
    status = (daemon_of(system) / "status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def processor_time(machine: Sequence[str]) -> float:
    """Seconds that processors work until a machine is mounted: for the command and for its daemon."""
    before = children_time()
    with mounted(*machine) as system:
        ticks = (daemon_of(system) / "stat").read_text().rpartition(")")[2].split()[11:13]
        return children_time() - before + sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def children_time() -> float:
    """Seconds that processors have worked for processes that this one has started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def bare_start() -> tuple[float, float]:
    """Seconds in which Python alone starts and ends, and those that processors work for it."""
    before = children_time()
    times = [
        stopwatch(partial(subprocess.run, [PYTHON, "-c", "pass"], check=True, env=ENVIRONMENT)) for _ in range(STARTS)
    ]
    return statistics.median(times), (children_time() - before) / STARTS


def first_read(system: Path) -> float:
    """Microseconds of a read of an attribute of a device not read before: the median of all namespaces."""
    names = [name for name in os.listdir(system / DEVICES) if name.startswith("namespace")]
    return 1e6 * statistics.median(
        stopwatch(partial(read_file, str(system / DEVICES / name / "size"))) for name in names
    )


def remake_namespace(region: str) -> None:
    """Make a namespace in a region, bind it, which makes a new seed, and delete it again."""
    seed = Path(region, "namespace_seed").read_text().strip()
    driver = os.path.join(region.partition("/devices/")[0], DRIVER)
    for path, value in (
        (f"{region}/{seed}/uuid", UUID),
        (f"{region}/{seed}/size", str(NAMESPACE_SIZE)),
        (f"{driver}/bind", seed),
        (f"{driver}/unbind", seed),
        (f"{region}/{seed}/size", "0"),
    ):
        descriptor = os.open(path, os.O_WRONLY)
        os.write(descriptor, value.encode())
        os.close(descriptor)


def scaled(
    what: str,
    call: Callable[[str], object],
    systems: Sequence[Path],
    where: str,
    candidates: tuple[str, ...],
    seconds: float,
) -> Scaled:
    """Microseconds of a call, or of a name of what it lists, on the mounts and on real sysfs, in turns."""
    real_call = rewriter if call is remake_namespace else call
    paths = [os.path.realpath(system / where) for system in systems]
    theirs, note = first_usable(real_call, candidates)
    calls = [partial(call, path) for path in paths] + [partial(real_call, theirs)] * bool(theirs)
    turns = Turns(calls, seconds)
    figures = [1e6 / turns.rate(number) for number in range(len(calls))]
    if call is list_directory:
        figures = [figure / len(os.listdir(path)) for figure, path in zip(figures, (*paths, theirs), strict=False)]
    if call is remake_namespace and theirs:
        figures[-1] *= WRITES
        note = f"{WRITES} writes; real: as many to {theirs}"
    return Scaled(what, tuple(figures[: len(systems)]), figures[-1] if theirs else None, note or f"{where}, {theirs}")


def scale_table(rows: list[Scaled]) -> str:
    """The figures, and the largest scale's as a multiple of the smallest's and of the real one."""
    head = "".join(f"{f'{count:,}':>10}" for count in SCALES)
    lines = [f"{'namespaces':<20}{head}{'real':>10}{'x small':>9}{'x real':>9}   on"]
    for what, figures, real, note in rows:
        largest = figures[-1]
        times = f"{largest / figures[0]:>9.2f}{'-' if real is None else format(largest / real, '.1f'):>9}"
        cells = "".join(f"{'-' if value is None else format(value, ',.2f'):>10}" for value in (*figures, real))
        lines.append(f"{what:<20}{cells}{times}   {note}")
    return "\n".join(lines)
