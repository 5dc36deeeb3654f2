"""What the programs that measure share: a machine that is mounted, calls a second, and how they are printed."""

# ruff: noqa: PTH118, PTH208  # what is measured is system calls, without pathlib around them

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from scripts.own_python import PYTHON, ROOT

NVDIMMFS = (str(PYTHON), "-m", "nvdimmfs")
#: An installed nvdimmfs has its modules compiled.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

#: How often a start is measured, and how long it may take, in seconds.
STARTS = 5
START_TIMEOUT = 30.0

#: Below sys/: devices, the driver of namespaces, and the identity of those that are made.
DEVICES = "bus/nd/devices"
DRIVER = "bus/nd/drivers/nd_pmem"
UUID = "01234567-89ab-cdef-0123-456789abcdef"

#: A region on a DIMM of its own has so many at most: a label area of 256 KiB has room for twice as many labels 1.2.
NAMESPACES_A_REGION = 500
LABEL_AREA = 256 << 10
NAMESPACE_SIZE = 16 << 20
#: Room that a region has left, in namespaces.
SPARE = 100

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


def printed_by(*arguments: str) -> str:
    """What a command line prints.  When it fails, it has printed the reason."""
    argv = [*NVDIMMFS, *arguments]
    return subprocess.run(argv, check=True, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True).stdout


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


def read_file(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.read(descriptor, 4096)
    os.close(descriptor)


def list_directory(path: str) -> None:
    os.listdir(path)


def rewriter(path: str) -> None:
    """Write what the file holds.  What it holds is read once, before the first call that counts."""
    if path not in VALUES:
        VALUES[path] = Path(path).read_bytes()
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, VALUES[path])
    os.close(descriptor)


VALUES: dict[str, bytes] = {}


def first_usable(call: Callable[[str], object], candidates: Sequence[str]) -> tuple[str, str]:
    """The first file of real sysfs for which a call works; else nothing, and why."""
    reason = "/sys is not there"
    for candidate in candidates:
        path = os.path.realpath(os.path.join("/sys", candidate)) if call is not os.readlink else f"/sys/{candidate}"
        try:
            call(path)
        except OSError as error:
            reason = f"{path}: {error.strerror}"
        else:
            return path, ""
    return "", reason


def daemon_of(system: Path) -> Path:
    """The folder in /proc of the daemon of a mount."""
    return Path("/proc", os.getxattr(system.parent, "user.nvdimmfs.daemon").split()[0].decode())


def start_time(wanted: str, *machine: str) -> float:
    """Seconds from the start of `nvdimmfs mount` until a file in its sys/ could be read for the first time."""
    with tempfile.TemporaryDirectory(prefix="nvdimmfs-bench-") as directory:
        file = os.path.join(directory, "sys", wanted)
        started = time.perf_counter()
        mounting = subprocess.Popen([*NVDIMMFS, "mount", directory, *machine], cwd=ROOT, env=ENVIRONMENT)
        try:
            while True:
                try:
                    read_file(file)
                    return time.perf_counter() - started
                except OSError as error:
                    if mounting.poll() or time.perf_counter() - started > START_TIMEOUT:
                        sys.exit(f"bench: nothing to read after nvdimmfs mount: {error}")
                    time.sleep(0.001)
        finally:
            mounting.wait()
            command("umount", directory)


def write_machine(file: Path, namespaces: int) -> str:
    """A machine file with so many labelled namespaces; its name."""
    from nvdimmfs.machine_file import model
    from nvdimmfs.machine_file.writer import machine_text

    uuids = [str(uuid.UUID(int=number)) for number in range(1, namespaces + 1)]
    regions = [uuids[first : first + NAMESPACES_A_REGION] for first in range(0, namespaces, NAMESPACES_A_REGION)]
    label = model.LabelAreaDescription(LABEL_AREA, initialised="1.2")
    dimms = tuple(model.DimmDescription(f"dimm{number}", label=label) for number in range(len(regions)))
    ranges = tuple(
        model.RangeDescription(
            size=(NAMESPACES_A_REGION + SPARE) * NAMESPACE_SIZE,
            mappings=(model.MappingDescription(dimm.name),),
            namespaces=tuple(model.NamespaceDescription(identity, NAMESPACE_SIZE) for identity in region),
        )
        for dimm, region in zip(dimms, regions, strict=True)
    )
    file.write_text(machine_text(model.MachineDescription(buses=(model.BusDescription(dimms=dimms, ranges=ranges),))))
    return str(file)
