"""Unmounting what the command has left mounted of the machine's disks, as the shutdown of a machine does."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.device_node import NodeNumber

#: A character in octal, as the mount table writes blanks (proc_pid_mountinfo(5)).
_OCTAL = re.compile(r"\\([0-7]{3})")


def unmount_disks(disks: Mapping[str, NodeNumber], proc: int) -> None:
    """Unmount the file systems on disks, so that their data is on the media before the machine's process ends.

    Args:
        disks: the numbers of the block devices, by path.
        proc: an open /proc that shows this process.
    """
    if not disks:
        return
    descriptor = os.open("self/mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    with os.fdopen(descriptor, encoding="utf-8", errors="surrogateescape", newline="\n") as table:
        targets = mounted_on(disks, table.read())
    for target in reversed(targets):
        with contextlib.suppress(OSError):
            libc.umount(target)


def mounted_on(disks: Mapping[str, NodeNumber], table: str) -> list[Path]:
    """The mount points of the file systems on disks, in the order of a mount table (/proc/self/mountinfo)."""
    numbers = {f"{number.major}:{number.minor}" for number in disks.values()}
    found = []
    for line in filter(None, table.split("\n")):  # the kernel escapes no other control character in a name
        before, _, after = line.partition(" - ")
        _, _, number, _, target, *_ = before.split(" ")
        _, source, *_ = after.split(" ")
        if number in numbers or source in disks:
            found.append(Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), target)))
    return found
