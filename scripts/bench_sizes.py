"""`scripts/bench sizes`: what many namespaces, much memory and many clients cost, beside few, and a plot of it."""

from __future__ import annotations

import os
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import NamedTuple

from scripts.bench_mount import READ
from scripts.bench_scale import resident
from scripts.bench_table import ROUNDS, Row, at_least, at_most
from scripts.measuring import ENVIRONMENT, NVDIMMFS, mounted, read_file, start_time, stopwatch, write_machine
from scripts.own_python import ROOT

NAMESPACES = (10, 100, 1_000, 10_000)
RAM = ("8G", "1T", "64T", "1P")
CLIENTS = (1, 8, 50, 200)

#: What `run` is measured with: machines with gigabytes and with terabytes.
RUN_RAM = ("8G", "1T")

#: A client's count and the moment of its end, as it reports them.
_REPORT = struct.Struct("=Qd")
#: Reads between two looks at the clock.
_BATCH = 5


class Curve(NamedTuple):
    """A figure at each of several sizes.

    Attributes:
        what: what has the size.
        figures: the unit of each figure, and its value at each size.
    """

    what: str
    sizes: Sequence[str]
    figures: Mapping[str, Sequence[float]]


def size_rows(measured: tuple[Curve, Curve, Curve]) -> list[Row]:
    """The largest size of each curve, beside the smallest where a ratio is the goal."""
    namespaces, ram, clients = measured
    start, memory = namespaces.figures.values()
    ram_start, ram_memory = ram.figures.values()
    (rates,) = clients.figures.values()
    few, many = NAMESPACES[0], f"{NAMESPACES[-1]:,} namespaces"
    return [
        Row(f"mount, {many}", "s", start[-1], start[0], goal=at_most(4), note=f"to the first read; beside it: {few}"),
        Row(f"memory, {many}", "MiB", memory[-1], goal=at_most(100), note="of the daemon, before anybody looks"),
        Row("mount, 1 PiB of RAM", "s", ram_start[-1], goal=at_most(0.5), note=f"with {RAM[0]}: {ram_start[0]:.2f} s"),
        Row("memory, 1 PiB of RAM", "MiB", ram_memory[-1], goal=at_most(60), note="of the daemon"),
        run_row(),
        Row(f"{CLIENTS[-1]} clients", "/s", rates[-1], rates[0], goal=at_least(1), note="reads; beside it: 1 client"),
    ]


def curves(seconds: float) -> tuple[Curve, Curve, Curve]:
    """What namespaces, RAM and clients cost."""
    with tempfile.TemporaryDirectory(prefix="nvdimmfs-bench-") as folder:
        files = [write_machine(Path(folder, f"{count}.toml"), count) for count in NAMESPACES]
        sizes = [f"{count:,}" for count in NAMESPACES]
        namespaces = machine_curve("namespaces", sizes, [("--machine", file) for file in files])
    memory = machine_curve("RAM", RAM, [("--ram", size, "--memmap", "512M!4G") for size in RAM])
    with mounted("--memmap", "512M!4G") as sysfs:
        path = os.path.realpath(sysfs / READ)
        rates = rounds([partial(clients_rate, path, count, seconds) for count in CLIENTS])
    return namespaces, memory, Curve("clients", [str(count) for count in CLIENTS], {"reads a second": rates})


def machine_curve(what: str, sizes: Sequence[str], machines: Sequence[Sequence[str]]) -> Curve:
    """Seconds until machines can be read, and the memory of their daemons."""
    starts = rounds([partial(start_time, READ, *machine) for machine in machines])
    return Curve(what, sizes, {"seconds to the first read": starts, "MiB of memory": [*map(memory_of, machines)]})


def memory_of(machine: Sequence[str]) -> float:
    """MiB that the daemon of a machine has."""
    with mounted(*machine) as sysfs:
        return resident(sysfs)


def rounds(calls: Sequence[Callable[[], float]]) -> list[float]:
    """What each call returns: the median of several rounds, in which all have their turn."""
    results = [[call() for call in calls] for _ in range(ROUNDS)]
    return [statistics.median(values) for values in zip(*results, strict=True)]


def run_row() -> Row:
    """How much longer a command takes in a sandbox with terabytes of RAM."""
    turns = [[stopwatch(partial(run_true, size)) for size in RUN_RAM] for _ in range(ROUNDS)]
    longer = statistics.median(large - small for small, large in turns)
    return Row(f"run -- true, {RUN_RAM[1]}", "s more", longer, goal=at_most(0.4), note=f"than with {RUN_RAM[0]} of RAM")


def run_true(ram: str) -> None:
    subprocess.run([*NVDIMMFS, "run", "--ram", ram, "--", "true"], check=True, cwd=ROOT, env=ENVIRONMENT)


def clients_rate(path: str, count: int, seconds: float) -> float:
    """Reads a second of so many processes together."""
    reports, report = os.pipe()
    starts, start = os.pipe()
    clients = [fork_client(path, seconds, starts, report, start) for _ in range(count)]
    os.close(report)
    os.close(starts)
    begin = time.perf_counter()
    os.close(start)  # all begin
    with os.fdopen(reports, "rb") as file:
        ends = list(starmap(lambda done, end: (done, end), reports_in(file.read())))
    for client in clients:
        os.waitpid(client, 0)
    return sum(done for done, _ in ends) / (max(end for _, end in ends) - begin)


def reports_in(data: bytes) -> Iterator[tuple[int, float]]:
    return _REPORT.iter_unpack(data)


def fork_client(path: str, seconds: float, starts: int, report: int, start: int) -> int:
    """A process that reads a file again and again, from the moment at which `start` is closed."""
    client = os.fork()
    if client:
        return client
    os.close(start)
    os.read(starts, 1)
    end, done = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        for _ in range(_BATCH):
            read_file(path)
        done += _BATCH
    os.write(report, _REPORT.pack(done, time.perf_counter()))
    os._exit(0)


def plot(measured: Sequence[Curve], file: Path) -> None:
    """Draw figures against sizes, a panel for each curve."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "nvdimmfs"  # so that the same figures make the same file
    from matplotlib import pyplot
    from matplotlib.ticker import ScalarFormatter

    figure, panels = pyplot.subplots(1, len(measured), figsize=(4.2 * len(measured), 3.6), layout="constrained")
    for panel, curve in zip(panels, measured, strict=True):
        for number, (unit, values) in enumerate(curve.figures.items()):
            axis = panel if number == 0 else panel.twinx()
            colour = f"C{number}"
            axis.plot(curve.sizes, values, f"{'os'[number]}-", color=colour)
            axis.set_ylim(0, 1.15 * max(values))
            axis.set_ylabel(unit, color=colour)
            axis.yaxis.set_major_formatter(ScalarFormatter())
        panel.set_xlabel(curve.what)
        panel.grid(alpha=0.3)
    figure.suptitle("What size costs: each figure from 0")
    pyplot.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
