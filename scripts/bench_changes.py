"""`scripts/bench changes`: what changes a machine: stores, drivers that bind and unbind, ioctls through a sandbox."""

from __future__ import annotations

import os
import statistics
from functools import partial
from pathlib import Path

from scripts.bench_table import ROUNDS, Row, Turns, at_least
from scripts.measuring import DEVICES, DRIVER, UUID, mounted, printed_by
from scripts.own_python import PYTHON

PFN = "pfn0.0"

#: Ioctls between two looks at the clock.
CALLS = 500

#: Reads labels again and again, and prints how often a second.  As `struct nd_cmd_get_config_data_hdr` (ndctl.h).
IOCTLS = f"""
import fcntl, struct, time
GET_CONFIG_SIZE, GET_CONFIG_DATA, LENGTH = 0xC00C4E04, 0xC00C4E05, 4096
device = open("/dev/nmem0", "rb+", buffering=0)
status, size, most = struct.unpack("3I", fcntl.ioctl(device, GET_CONFIG_SIZE, bytes(12)))
length = min(LENGTH, most)
argument = bytearray(struct.pack("2I", 0, length) + bytes(4 + length))
for _ in range({ROUNDS}):
    begin = time.perf_counter()
    for _ in range({CALLS}):
        fcntl.ioctl(device, GET_CONFIG_DATA, argument)
    print({CALLS} / (time.perf_counter() - begin), length)
"""


def change_rows(seconds: float) -> list[Row]:
    """Each of them, a second."""
    with mounted("--memmap", "512M!4G") as sysfs:
        rows = [store_row(sysfs, "mode", "pmem", seconds), store_row(sysfs, "align", str(2 << 20), seconds)]
        rows.append(bind_row(sysfs, seconds))
    return [*rows, ioctl_row()]


def store_row(sysfs: Path, name: str, text: str, seconds: float) -> Row:
    """write(2) to an attribute of a pfn device, which is open."""
    attribute = os.open(sysfs / DEVICES / PFN / name, os.O_WRONLY)
    try:
        figure = Turns([partial(os.pwrite, attribute, text.encode(), 0)], seconds).rate(0)
    finally:
        os.close(attribute)
    return Row(f"a store of {name}", "/s", figure, goal=at_least(8000), note=f"write(2) of {text}")


def bind_row(sysfs: Path, seconds: float) -> Row:
    """A pfn device that is bound and unbound: the disk, its info block and its pages come and go."""
    driver, pfn = sysfs / DRIVER, sysfs / DEVICES / PFN
    (driver / "unbind").write_text("namespace0.0")
    (pfn / "uuid").write_text(UUID)
    (pfn / "namespace").write_text("namespace0.0")
    files = [os.open(driver / name, os.O_WRONLY) for name in ("bind", "unbind")]
    try:
        figure = Turns([lambda: [os.pwrite(file, PFN.encode(), 0) for file in files]], seconds).rate(0)
    finally:
        for file in files:
            os.close(file)
    return Row("bind + unbind of a pfn device", "/s", figure, goal=at_least(500))


def ioctl_row() -> Row:
    """Reads of a label area by a command in a sandbox, timed in there."""
    printed = printed_by("run", "--machine", "qemu-nfit", "--", str(PYTHON), "-c", IOCTLS).split()
    rates, lengths = printed[::2], printed[1::2]
    figure = statistics.median(map(float, rates))
    return Row("an ioctl in a sandbox", "/s", figure, goal=at_least(3000), note=f"{lengths[0]} bytes of a label area")
