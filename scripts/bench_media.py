"""`scripts/bench media`: writes to media in memory, and in files that wait for the host's disk or do not."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import uuid
from pathlib import Path

from scripts.measuring import mounted, number, rate

#: A machine whose stores write to two label areas.
TWO_DIMMS = """
[[bus]]
dimm = [
    { name = "a", size = "64M", label = { initialised = "1.2" } },
    { name = "b", size = "64M", label = { initialised = "1.2" } },
]
range = [{ dimms = ["a", "b"] }]
"""
#: How the bytes of persistent memory are kept: the options of `mount`.
KEPT = {"memory": (), "store": ("--media",), "flush": ("--media-sync", "flush", "--media")}
BLOCK = 4096
BLOCKS = 1000


def measure_media(seconds: float, *, as_json: bool) -> int:
    """Writes a second to labels, to a disk and to a BTT, and of the host's disk."""
    rows = {}
    with tempfile.TemporaryDirectory(prefix="nvdimmfs-bench-") as folder:
        machine = Path(folder, "machine.toml")
        machine.write_text(TWO_DIMMS)
        for kept, options in KEPT.items():
            media = [str(Path(folder, kept))] if options else []
            with mounted("--machine", str(machine), *options, *media) as sysfs:
                rows[kept] = media_rates(sysfs, seconds)
        with Path(folder, "file").open("wb", buffering=0) as file:
            rows["host"] = {"fdatasync": rate(lambda: (file.write(bytes(BLOCK)), os.fdatasync(file)), seconds)}
    print(json.dumps(rows, indent=2) if as_json else media_table(rows))
    return 0


def media_rates(sysfs: Path, seconds: float) -> dict[str, float]:
    """How many writes a second a mounted machine answers."""
    nd, numbers = sysfs / "bus/nd", itertools.count()
    namespace = nd / "devices/namespace0.0"
    (namespace / "uuid").write_text(str(uuid.uuid4()))
    (namespace / "size").write_text(str(64 << 20))
    alt_name = os.open(namespace / "alt_name", os.O_WRONLY)
    labels = rate(lambda: os.write(alt_name, b"%d" % next(numbers)), seconds)
    os.close(alt_name)
    (nd / "drivers/nd_pmem/bind").write_text(namespace.name)
    disk = block_rate(sysfs.parent / "dev/pmem0", seconds)
    (nd / "drivers/nd_pmem/unbind").write_text(namespace.name)
    for name, value in {"sector_size": str(BLOCK), "uuid": str(uuid.uuid4()), "namespace": namespace.name}.items():
        (nd / "devices/btt0.0" / name).write_text(value)
    (nd / "drivers/nd_pmem/bind").write_text("btt0.0")
    return {"labels": labels, "disk, 4 KiB": disk, "btt, 4 KiB": block_rate(sysfs.parent / "dev/pmem0s", seconds)}


def block_rate(disk: Path, seconds: float) -> float:
    """Writes of a block a second, past the page cache."""
    numbers = itertools.count()
    descriptor = os.open(disk, os.O_WRONLY | os.O_DIRECT)
    try:
        return rate(lambda: os.pwrite(descriptor, bytes(BLOCK), BLOCK * (next(numbers) % BLOCKS)), seconds)
    finally:
        os.close(descriptor)


def media_table(rows: dict[str, dict[str, float]]) -> str:
    """The rates, one line for each way to keep the bytes."""
    names = list(rows["memory"])
    lines = [f"{kept:<12}{''.join(number(rows[kept][name]) for name in names)}" for kept in KEPT]
    head = f"{'writes/s':<12}{''.join(f'{name:>12}' for name in names)}"
    return "\n".join([head, *lines, f"fdatasync(2) of the host after 4 KiB: {rows['host']['fdatasync']:,.0f}/s"])
