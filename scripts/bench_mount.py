"""`scripts/bench mount`: requests of a mount, beside the floor (scripts/floor.c) and beside real sysfs."""

# ruff: noqa: PTH208  # what is measured is system calls, without pathlib around them

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from scripts.bench_table import Goal, Row, at_least, in_turns
from scripts.measuring import daemon_of, first_usable, list_directory, mounted, read_file, rewriter, write_machine
from scripts.own_python import ROOT

#: How many namespaces the machine has, each of which is a name in the directory that is listed.
NAMESPACES = 1000

READ = "bus/nd/devices/region0/size"
LINK = "bus/nd/devices/region0"
LISTED = "bus/nd/devices"
#: A write brings the value that is there already, so that it changes nothing.
WRITTEN = "bus/nd/devices/pfn0.0/mode"

#: What is measured of real sysfs: the first that is there.
REAL_READ = ("class/net/lo/mtu", "kernel/mm/transparent_hugepage/enabled")
REAL_LINK = ("class/net/lo", "bus/cpu/devices/cpu0")
REAL_WRITTEN = ("class/net/lo/tx_queue_len", "class/net/lo/mtu", "kernel/mm/ksm/sleep_millisecs")
#: Real directories with many names.
MANY_NAMES = ("bus/memory/devices", "bus/platform/devices", "class/tty", "module")

#: The processors on which client and server run, out of those that there are; None for all.
PLACEMENTS: dict[str, tuple[int, int] | None] = {
    "placed by the scheduler": None,
    "on one processor": (0, 0),
    "a processor each": (0, 1),
}
#: The rate of open, read and close, as a multiple of the floor's.
OF_THE_FLOOR = {"placed by the scheduler": 0.25, "on one processor": 0.25, "a processor each": 1.0}


def mount_rows(seconds: float) -> list[Row]:
    """Requests of a mount."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="nvdimmfs-bench-"))
        machine = write_machine(Path(folder, "machine.toml"), NAMESPACES)
        sysfs = stack.enter_context(mounted("--machine", machine))
        floor, server = stack.enter_context(mounted_floor())
        servers = [int(daemon_of(sysfs).name), *([server] if server else [])]
        return [*floor_rows(sysfs, floor, servers, seconds), *sysfs_rows(sysfs, floor, seconds)]


def floor_rows(sysfs: Path, floor: Path | None, servers: Sequence[int], seconds: float) -> Iterator[Row]:
    """open + read + close, beside the floor, wherever client and server run."""
    ours = partial(read_file, os.path.realpath(sysfs / READ))
    theirs = None if floor is None else partial(read_file, str(floor / "attribute"))
    processors = sorted(os.sched_getaffinity(0))
    for name, places in PLACEMENTS.items():
        what = f"open + read + close, {name}"
        if places is not None and max(places) >= len(processors):
            yield Row(what, "/s", None, note="there is one processor only")
            continue
        with placed(places and [processors[place] for place in places], servers):
            row = in_turns(what, ours, theirs, seconds)
        yield row._replace(goal=at_least(OF_THE_FLOOR[name]), note="beside it: the floor" if theirs else "")


def sysfs_rows(sysfs: Path, floor: Path | None, seconds: float) -> list[Row]:
    """What the kernel answers from its caches, and a store, beside real sysfs."""
    names = [len(os.listdir(path)) for path in (sysfs / LISTED, first_usable(list_directory, MANY_NAMES)[0] or ".")]
    listing = beside_sysfs("readdir, names", list_directory, sysfs / LISTED, MANY_NAMES, at_least(0.5), seconds)
    return [
        beside_sysfs("stat", os.stat, sysfs / READ, REAL_READ, at_least(1.0), seconds),
        beside_sysfs("readlink", os.readlink, sysfs / LINK, REAL_LINK, at_least(1.0), seconds),
        by_names(listing, *names),
        *listing_beside_floor(sysfs, floor, seconds),
        beside_sysfs("open + write + close", rewriter, sysfs / WRITTEN, REAL_WRITTEN, None, seconds),
    ]


def listing_beside_floor(sysfs: Path, floor: Path | None, seconds: float) -> Iterator[Row]:
    """A listing beside one of the floor; nothing where that cannot be built."""
    if floor is None:
        return
    folders = [str(sysfs / LISTED), str(floor / "folder")]
    row = in_turns("readdir, names", *(partial(list_directory, folder) for folder in folders), seconds)
    yield by_names(row._replace(note="beside it: the floor"), *(len(os.listdir(folder)) for folder in folders))


def beside_sysfs(
    what: str, call: Callable[[str], object], path: Path, candidates: Sequence[str], goal: Goal | None, seconds: float
) -> Row:
    """A call on a file of the mount, and on one of real sysfs."""
    ours = str(path) if call is os.readlink else os.path.realpath(path)
    theirs, note = first_usable(call, candidates)
    call(ours)
    row = in_turns(what, partial(call, ours), partial(call, theirs) if theirs else None, seconds)
    return row._replace(goal=goal, note=note or f"beside it: {theirs}")


def by_names(row: Row, ours: int, theirs: int) -> Row:
    """The rates of listings as the rates of the names in them."""
    ratio = None if row.ratio is None else row.ratio * ours / theirs
    note = f"{ours:,} names; {row.note}, {theirs:,} names"
    beside = None if row.beside is None else row.beside * theirs
    return row._replace(figure=None if row.figure is None else row.figure * ours, beside=beside, ratio=ratio, note=note)


@contextlib.contextmanager
def mounted_floor() -> Iterator[tuple[Path | None, int]]:
    """A mount of the floor and the process that serves it; None and 0, with the reason, where it cannot be built."""
    with tempfile.TemporaryDirectory(prefix="nvdimmfs-bench-") as directory:
        program, folder = Path(directory, "floor"), Path(directory, "mount")
        if reason := build_floor(program, "floor.c"):
            print(f"bench: nothing is measured beside the floor: {reason}", file=sys.stderr)
            yield None, 0
            return
        folder.mkdir()
        with subprocess.Popen([program, folder]) as server:
            try:
                while not os.path.ismount(folder):
                    if server.poll() is not None:
                        sys.exit("bench: the floor cannot be mounted")
                    threading.Event().wait(0.01)
                yield folder, server.pid
            finally:
                unmount = ["umount", folder] if os.geteuid() == 0 else ["fusermount3", "-u", folder]
                subprocess.run(unmount, check=server.poll() is None)


def build_floor(program: Path, source: str) -> str:
    """Compile a floor of this folder; returns why not, or nothing."""
    missing = [tool for tool in ("gcc", "pkg-config") if shutil.which(tool) is None]
    if missing:
        return f"{missing[0]} is not installed"
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], capture_output=True, text=True, check=False)
    if flags.returncode:
        return "libfuse3-dev is not installed"
    subprocess.run(["gcc", "-O2", "-o", program, ROOT / "scripts" / source, *flags.stdout.split()], check=True)
    return ""


@contextlib.contextmanager
def placed(processors: Sequence[int] | None, servers: Sequence[int]) -> Iterator[None]:
    """Have this process run on the first of two processors, and the servers on the second; None changes nothing."""
    everywhere = os.sched_getaffinity(0)
    client, server = ({processors[0]}, {processors[1]}) if processors else (everywhere, everywhere)
    place(client, server, servers)
    try:
        yield
    finally:
        place(everywhere, everywhere, servers)


def place(client: set[int], server: set[int], servers: Sequence[int]) -> None:
    os.sched_setaffinity(0, client)
    for thread in threads_of(servers):
        os.sched_setaffinity(thread, server)


def threads_of(processes: Sequence[int]) -> list[int]:
    return [int(thread.name) for process in processes for thread in Path(f"/proc/{process}/task").iterdir()]
