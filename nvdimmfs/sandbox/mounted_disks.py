"""Unmounting what the command has left mounted of the machine's disks, as the shutdown of a machine does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from nvdimmfs.formats.mount_table import parse_mounts
from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.device_node import NodeNumber
from nvdimmfs.sandbox.overmounts import has_changed

#: For how many names of disks to search each line of the mount table before it is parsed.
_FEW = 32


class MountedDisks:
    """Finds out what the command has mounted.

    The kernel takes milliseconds to write the mount table of a sandbox, which has hundreds of mounts; but it reports
    at once whether the table has changed since it was opened (poll(2), proc(5)).
    """

    def __init__(self) -> None:
        self._table = -1

    def watch(self, proc: int) -> None:
        """Begin, before the command is executed.

        Args:
            proc: an open /proc that shows this process.
        """
        self._table = os.open("self/mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)

    def unmount(self, disks: Mapping[str, NodeNumber]) -> None:
        """Unmount the file systems on disks, so that their data is on the media before the machine's process ends.

        Args:
            disks: the numbers of the block devices, by path.
        """
        if self._table < 0:
            return
        with os.fdopen(self._table, "rb") as table:
            self._table = -1
            targets = mounted_on(disks, table.read()) if disks and has_changed(table.fileno()) else []
        for target in reversed(targets):
            with contextlib.suppress(OSError):
                libc.umount(target)


def mounted_on(disks: Mapping[str, NodeNumber], table: bytes) -> list[Path]:
    """The mount points of the file systems on disks, in the order of a mount table (/proc/self/mountinfo)."""
    numbers = {f"{number.major}:{number.minor}" for number in disks.values()}
    words = [word.encode() for word in (*numbers, *disks)]
    if len(words) <= _FEW:  # a sandbox has some hundred mounts, few of which are of disks
        table = b"\n".join(line for line in table.split(b"\n") if any(word in line for word in words))
    return [mount.mountpoint for mount in parse_mounts(table) if mount.device in numbers or mount.source in disks]
