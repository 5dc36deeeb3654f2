"""What of a sysfs belongs to libnvdimm."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from nvdimmfs.dumps.text import Row
from nvdimmfs.dumps.trees import Sysfs

#: Dumped with everything below them.
BUSES = ("bus/nd", "bus/dax")
CLASSES = ("class/nd", "class/dax", "class/nfit_test_dimm")

#: Left out wherever they are: counters, and what depends on the host's power management and tracing.
LEFT_OUT = frozenset({"power", "wakeup", "bdi", "stat", "inflight", "trace"})


def rows(sysfs: Sysfs) -> Iterator[Row]:
    """The buses and classes, their devices with all below them, and what the devices' parents contain themselves."""
    for place in (*BUSES, *CLASSES):
        if _is_plain(sysfs, place):
            yield from _subtree(sysfs, place)
    devices = [device for device in _topmost(_devices(sysfs)) if _is_plain(sysfs, device)]
    for device in devices:
        yield from _subtree(sysfs, device)
    for parent in sorted({posixpath.dirname(device) for device in devices if _has_real_parent(device)}):
        yield from _own(sysfs, parent)


def _devices(sysfs: Sysfs) -> Iterator[str]:
    """The directories of all devices of the buses and classes."""
    for folder in (*(f"{bus}/devices" for bus in BUSES), *CLASSES):
        if not _is_plain(sysfs, folder):
            continue
        for name in sysfs.names(folder):
            row = sysfs.row(f"{folder}/{name}")
            if row is not None and row.target is not None:
                yield posixpath.normpath(f"{folder}/{row.target}")


def _topmost(paths: Iterator[str]) -> list[str]:
    """The paths that are not below another one, sorted.  What leads out of the sysfs is no device of it."""
    chosen: list[str] = []
    for path in sorted(set(paths), key=lambda path: path.split("/")):
        if path.startswith("devices/") and not (chosen and path.startswith(f"{chosen[-1]}/")):
            chosen.append(path)
    return chosen


def _is_plain(sysfs: Sysfs, path: str) -> bool:
    """Whether a path leads to a directory without following a link, which in a copy could lead out of it."""
    parts = path.split("/")
    found = (sysfs.row("/".join(parts[: length + 1])) for length in range(len(parts)))
    return all(row is not None and row.is_directory for row in found)


def _has_real_parent(device: str) -> bool:
    """Whether the directory above is a device, not a folder such as devices/platform or devices/virtual/CLASS."""
    return device.count("/") > 2 and not device.startswith("devices/virtual/")


def _own(sysfs: Sysfs, path: str) -> Iterator[Row]:
    """A directory with its files and links."""
    row = sysfs.row(path)
    if row is None:
        return
    yield row
    for name in sysfs.names(path):
        inner = None if name in LEFT_OUT else sysfs.row(f"{path}/{name}")
        if inner is not None and not inner.is_directory:
            yield inner


def _subtree(sysfs: Sysfs, path: str) -> Iterator[Row]:
    row = sysfs.row(path)
    if row is None:
        return
    yield row
    if row.is_directory:
        for name in sysfs.names(path):
            if name not in LEFT_OUT:
                yield from _subtree(sysfs, f"{path}/{name}")
