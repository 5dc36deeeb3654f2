"""Moves of a walk that watch files of sysfs; the walk then asks which of them were notified, as poll(2) reports it."""

from __future__ import annotations

from nvdimmfs.lab.walker import DEVICES, Walker

#: Files that no walk watches: a scrub notifies in its own time, and a read of the other asks a DIMM, which the kernel
#: keeps for later writes (security_show, drivers/nvdimm/dimm_devs.c, Linux 6.1).
_NOT_WATCHED = frozenset({"scrub", "security"})

#: The folders with files of a device of the bus nd, and of a disk.
_FOLDERS = ("", "", "", "/nfit", "/firmware", "/power")
_FOLDERS_OF_DISKS = ("", "", "/queue")


def watch(walker: Walker) -> None:
    """Watch some files of a device, or of a disk."""
    devices, disks = walker.devices(), walker.disks()
    if disks and walker.happens(0.3):
        folder = f"class/block/{walker.choose(disks)}{walker.choose(_FOLDERS_OF_DISKS)}"
    elif devices:
        folder = f"{DEVICES}/{walker.choose(devices)}{walker.choose(_FOLDERS)}"
    else:
        return
    names = [name for name in walker.read_files(folder) if name not in _NOT_WATCHED]
    for _ in range(walker.number(1, 4)):
        if names:
            walker.ask({"op": "watch", "path": f"{folder}/{walker.choose(names)}"})
