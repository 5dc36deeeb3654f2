"""The files of the code that this process runs, and whether they are still the same.

A look at hundreds of files takes milliseconds, for which each client would wait.  So the kernel reports what happens in
their directories (inotify(7)).  It reports what is done by one name of a file, on this host.  So files with more names,
those that a symbolic link leads to, and those of file systems that others may write to, are looked at each time.
"""

from __future__ import annotations

import os
import select
import stat
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Self

from attrs import define, frozen

import nvdimmfs
from nvdimmfs.formats.mount_table import parse_mounts
from nvdimmfs.sandbox import libc

#: Time of change, size and inode number of a file; None for one that cannot be found.
State = tuple[int, int, int] | None

_PACKAGE = Path(nvdimmfs.__file__).parent

#: Whatever changes a directory, or a file in it: IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO,
#: IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF (include/uapi/linux/inotify.h).
_CHANGES = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800

#: File systems that are written to by this host alone.
_OWN_FILE_SYSTEMS = frozenset({"ext2", "ext3", "ext4", "xfs", "f2fs", "tmpfs", "overlay"})


@frozen
class _Watch:
    """Reports of the kernel on files.

    Attributes:
        events: a descriptor, which poll(2) reports readable once something has happened.
        directories: the inode of each directory that is watched: another directory may take its place.
        others: the state of each file that is not watched.
    """

    events: int
    directories: dict[str, tuple[int, int]]
    others: dict[str, State]

    @classmethod
    def of(cls, files: Collection[str]) -> Self | None:
        """Watch files; None where a limit of the host forbids it."""
        own = _own_file_systems()
        watched = {path for path in files if _has_one_name(path, own)}
        directories = {os.path.dirname(path) for path in watched}  # noqa: PTH120  # hundreds of them
        try:
            events = libc.inotify()
        except OSError:
            return None
        try:
            for directory in directories:
                libc.watch(events, Path(directory), _CHANGES)
            return cls(events, {path: _inode(path) for path in directories}, _states(set(files) - watched))
        except OSError:
            os.close(events)
            return None

    @property
    def has_events(self) -> bool:
        poll = select.poll()
        poll.register(self.events, select.POLLIN)
        return bool(poll.poll(0))

    def is_quiet(self) -> bool:
        """Whether nothing has happened to any of the files."""
        try:
            same = all(_inode(path) == inode for path, inode in self.directories.items())
        except OSError:
            return False
        return same and not _differs(self.others) and not self.has_events


@define(eq=False)
class Code:
    """Files, and what they were."""

    _files: dict[str, State]
    _watch: _Watch | None
    _changed: bool = False

    @classmethod
    def of_this_process(cls) -> Self:
        """The files of all loaded modules, and of this package, which loads its other modules when it needs them."""
        loaded = {getattr(module, "__file__", None) or "" for module in [*sys.modules.values()]}
        own = {str(path) for path in _PACKAGE.rglob("*.py")}
        return cls.of((loaded | own) - {""})

    @classmethod
    def of(cls, files: Collection[str]) -> Self:
        """These files, as they are now."""
        watch = _Watch.of(files)  # before they are looked at, so that nothing is missed
        return cls(_states(files), watch)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a forked process has to keep open for `has_changed`."""
        return () if self._watch is None else (self._watch.events,)

    def has_changed(self) -> bool:
        """Whether a file is not what it was."""
        if not self._changed and self._watch is not None and self._watch.is_quiet():
            return False
        return self._changed or _differs(self._files)

    def watch_again(self) -> None:
        """Watch from now on, if something has happened: processes that are forked later need not look at each file.

        The watch before goes on for the processes that were forked meanwhile.
        """
        if self._watch is None or not self._watch.has_events:
            return
        os.close(self._watch.events)
        self._watch = _Watch.of(self._files)
        self._changed = self._changed or _differs(self._files)


def _differs(known: dict[str, State]) -> bool:
    return any(_state(path) != state for path, state in known.items())


def _states(paths: Iterable[str]) -> dict[str, State]:
    return {path: _state(path) for path in paths}


def _state(path: str) -> State:
    try:
        status = os.stat(path)  # noqa: PTH116  # hundreds of times
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _inode(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116  # for each client
    return status.st_dev, status.st_ino


def _has_one_name(path: str, file_systems: Collection[int]) -> bool:
    """Whether a file changes under this name alone, on one of these file systems."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return status.st_nlink == 1 and stat.S_ISREG(status.st_mode) and status.st_dev in file_systems


def _own_file_systems() -> frozenset[int]:
    """The numbers (st_dev) of mounted file systems that only this host writes to."""
    mounts = parse_mounts(Path("/proc/self/mountinfo").read_bytes())
    devices = {mount.device for mount in mounts if mount.type in _OWN_FILE_SYSTEMS}
    return frozenset(os.makedev(*map(int, device.split(":"))) for device in devices)
