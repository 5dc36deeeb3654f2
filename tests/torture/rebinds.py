"""Disks that several sandboxes rebind at the same time stay block devices with the bytes that were written.

    python tests/torture/rebinds.py --seed N --minutes M

A turn starts four sandboxes.  Each unbinds and binds its namespace 25 times, while other programs attach and
detach loop devices.  Every /dev/pmemN must be a block device, have the number that sysfs shows, and hold what was
written before the unbind.  It needs root and loop devices.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import _paths  # noqa: F401  # before the modules that it makes importable
import sandboxes
from torturing import Trial, run
from watchdog import WATCHDOG

SANDBOXES = 4
REBINDS = 25

#: Rebinds a disk and prints a line for each time in which it was not as it should be.
_REBIND = """
import os, pathlib, random, stat, sys
rounds, chance = int(sys.argv[1]), random.Random(int(sys.argv[2]))
driver = pathlib.Path("/sys/bus/nd/drivers/nd_pmem")
disk = pathlib.Path("/dev/pmem0")
number = pathlib.Path("/sys/block/pmem0/dev")
for round in range(rounds):
    data, offset = chance.randbytes(4096), chance.randrange(512 << 8) << 12
    with disk.open("rb+") as file:
        file.seek(offset)
        file.write(data)
    (driver / "unbind").write_text("namespace0.0")
    if disk.exists():
        print("round", round, "the node is there after unbind")
    (driver / "bind").write_text("namespace0.0")
    status = disk.stat()
    if not stat.S_ISBLK(status.st_mode):
        print("round", round, "not a block device")
    elif number.read_text().strip() != f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}":
        print("round", round, "sysfs shows another number")
    with disk.open("rb") as file:
        file.seek(offset)
        if file.read(4096) != data:
            print("round", round, "other bytes at", offset)
"""

#: Takes free loop devices away, as losetup(8) does.
_TAKE = "while test -e {file}; do device=$(losetup -f --show {file}) && losetup -d $device; done 2> /dev/null"


def body(trial: Trial) -> None:
    if not sandboxes.is_root():
        raise SystemExit("rebinds: needs root")
    with tempfile.TemporaryDirectory(prefix="nvdimmfs-rebinds-") as folder:
        file = Path(folder, "file")
        file.write_bytes(bytes(1 << 20))
        thief = subprocess.Popen(["sh", "-c", _TAKE.format(file=file)], stdin=subprocess.DEVNULL)
        try:
            while trial.goes_on():
                _turn(trial)
        finally:
            file.unlink()
            thief.wait()


def _turn(trial: Trial) -> None:
    processes = []
    for _ in range(SANDBOXES):
        seed = trial.random.randrange(1 << 32)
        command = (sys.executable, "-c", _REBIND, str(REBINDS), str(seed))
        processes.append((seed, sandboxes.start(*command, options=sandboxes.TWO_RANGES, stderr=subprocess.STDOUT)))
    for seed, process in processes:
        output, _ = process.communicate(timeout=WATCHDOG)
        if output or process.returncode:
            trial.failed(f"status {process.returncode}: {output}", [f"{REBINDS} rebinds, random.Random({seed})"])
        trial.count("rebinds", REBINDS)
    trial.count("sandboxes", SANDBOXES)


if __name__ == "__main__":
    sys.exit(run(__doc__.splitlines()[0], body))
