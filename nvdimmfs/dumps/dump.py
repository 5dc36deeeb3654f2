"""Make dumps, and read them."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from nvdimmfs.core.system import System
from nvdimmfs.dumps.selection import rows
from nvdimmfs.dumps.text import HEADER, DumpError, Row, rows_of, text_of
from nvdimmfs.dumps.trees import HostSysfs, MachineSysfs

#: A folder that has these is a sysfs.
_SYSFS = ("bus", "devices")


def rows_of_machine(system: System) -> list[Row]:
    """The rows of a machine in this process.  Time does not pass for it, and it does not count for fault rules."""
    with system.clock.uncounted(), system.faults.uncounted():
        return list(rows(MachineSysfs(system.sys)))


def dump_of_machine(system: System) -> str:
    """The text of the dump of a machine in this process."""
    return text_of(rows_of_machine(system))


def dump_of_folder(folder: Path) -> str:
    """The text of the dump of a sysfs, or of a folder in which it is `sys`, such as a mount.  DumpError, OSError."""
    return text_of(rows(HostSysfs(_sysfs(folder))))


def rows_of_place(place: Path) -> list[Row]:
    """The rows of a folder as above, or of a file that holds a dump.  DumpError, OSError."""
    if stat.S_ISDIR(place.stat().st_mode):
        return list(rows(HostSysfs(_sysfs(place))))
    try:
        with place.open(encoding="ascii") as file:
            text = file.read(len(HEADER) + 1)
            if text.startswith(HEADER):  # anything else may have no end, such as a device
                text += file.read()
    except UnicodeDecodeError:
        raise DumpError(f"{place}: not a dump: it is no ASCII text") from None
    return list(rows_of(text, str(place)))


def _sysfs(folder: Path) -> Path:
    """The folder, or `sys` in it, whichever is a sysfs.  DumpError when neither is, OSError when it cannot be read."""
    if not stat.S_ISDIR(folder.stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    for place in (folder / "sys", folder):
        if all((place / name).is_dir() for name in _SYSFS):
            return place
    raise DumpError(f"{folder}: neither a mount of nvdimmfs nor a sysfs")
