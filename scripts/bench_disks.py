"""`scripts/bench disks`: reads and writes of disks, in a sandbox and on a mount, beside tmpfs and the floor."""

from __future__ import annotations

import itertools
import json
import mmap
import os
import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from scripts.bench_mount import mounted_floor
from scripts.bench_scale import resident
from scripts.bench_table import ROUNDS, Row, at_least, at_most, beside
from scripts.measuring import DEVICES, DRIVER, UUID, mounted, printed_by, rate, stopwatch
from scripts.own_python import PYTHON, ROOT

MACHINE = ("--ram", "4G", "--memmap", "512M!4G")

#: Bytes that are read or written from beginning to end, and of each request.
LENGTH = 64 << 20
BLOCK = 1 << 20
#: Bytes of a sector of the BTT.
SECTOR = 4096

MIB = 1 << 20


def disk_rows(seconds: float) -> list[Row]:
    """Disks in a sandbox, then those of a mount."""
    with tempfile.TemporaryDirectory(prefix="nvdimmfs-bench-", dir="/dev/shm") as folder:  # is a tmpfs
        file = Path(folder, "file")
        file.write_bytes(bytes(LENGTH))
        call = f"import sys; sys.path[:0] = {[str(ROOT)]}; from scripts.bench_disks import print_turns; print_turns"
        call += f"('/dev/pmem0', {str(file)!r})"
        printed = printed_by("run", *MACHINE, "--", str(PYTHON), "-c", call)
        rows = beside_tmpfs("/dev/pmem0 in a sandbox", json.loads(printed))
        with mounted(*MACHINE) as sysfs, mounted_floor() as (floor, _):
            before = resident(sysfs)
            disks = [str(sysfs.parent / "dev/pmem0"), str(file), *([str(floor / "disk")] if floor else [])]
            measured = turns(*disks)
            rows += beside_tmpfs("dev/pmem0 of a mount", measured)
            rows += beside_floor("dev/pmem0 of a mount", measured)
            grown = (resident(sysfs) - before) * MIB
            rows.append(Row("memory of bytes written", "B", grown / LENGTH, goal=at_most(1.1), note="for each byte"))
            rows.append(btt_row(sysfs, seconds))
    return rows


def print_turns(disk: str, file: str) -> None:
    """Print `turns` as JSON, for a process that has started this one in a sandbox."""
    print(json.dumps(turns(disk, file)))


def turns(*paths: str) -> dict[str, list[list[float]]]:
    """MiB a second of each round, of each path, by what was done.

    A write ends when the bytes have reached the disk, and a read finds none of them in the page cache.
    """
    buffer = mmap.mmap(-1, BLOCK)
    buffer.write(os.urandom(BLOCK))
    calls: dict[str, Callable[[str], None]] = {"write": partial(write_all, buffer), "read": partial(read_all, buffer)}
    rounds = [{what: [speed(call, path) for path in paths] for what, call in calls.items()} for _ in range(ROUNDS)]
    return {what: [each[what] for each in rounds] for what in calls}


def speed(call: Callable[[str], None], path: str) -> float:
    return LENGTH / MIB / stopwatch(partial(call, path))


def write_all(buffer: mmap.mmap, path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    for offset in range(0, LENGTH, BLOCK):
        os.pwrite(descriptor, buffer, offset)
    os.fsync(descriptor)
    os.close(descriptor)


def read_all(buffer: mmap.mmap, path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    for offset in range(0, LENGTH, BLOCK):
        os.preadv(descriptor, [buffer], offset)
    os.close(descriptor)


def beside_tmpfs(disk: str, measured: dict[str, list[list[float]]]) -> list[Row]:
    note = f"{BLOCK // MIB} MiB at a time; beside it: a file on tmpfs"
    pairs = {what: [speeds[:2] for speeds in rounds] for what, rounds in measured.items()}
    return [beside(f"{what} {disk}", "MiB/s", pairs[what], at_least(0.5), note) for what in pairs]


def beside_floor(disk: str, measured: dict[str, list[list[float]]]) -> list[Row]:
    """The same beside the floor; nothing where it cannot be built."""
    pairs = {what: [(ours, *floor) for ours, _, *floor in rounds] for what, rounds in measured.items()}
    note = "beside it: the floor"
    measurable = [what for what in pairs if len(pairs[what][0]) > 1]
    return [beside(f"{what} {disk}", "MiB/s", pairs[what], None, note) for what in measurable]


def btt_row(sysfs: Path, seconds: float) -> Row:
    """Writes a second of sectors of a BTT, in no order, past the page cache."""
    driver, btt = sysfs / DRIVER, sysfs / DEVICES / "btt0.0"
    (driver / "unbind").write_text("namespace0.0")
    for name, value in {"sector_size": str(SECTOR), "uuid": UUID, "namespace": "namespace0.0"}.items():
        (btt / name).write_text(value)
    (driver / "bind").write_text("btt0.0")
    descriptor = os.open(sysfs.parent / "dev/pmem0s", os.O_WRONLY | os.O_DIRECT)
    sectors = itertools.cycle(random.Random(0).sample(range(LENGTH // SECTOR), 1000))
    try:
        writes = rate(lambda: os.pwrite(descriptor, bytes(SECTOR), SECTOR * next(sectors)), seconds)
    finally:
        os.close(descriptor)
    return Row("BTT, 4 KiB writes in no order", "/s", writes, goal=at_least(15_000), note="past the page cache")
