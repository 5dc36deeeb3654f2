"""Directories merged from two: entries of the host and entries of the machine.

A merged directory is a tmpfs in which each entry is a bind mount of the original entry, or a copy of the symbolic link
that it is.  Where both have an entry, the machine's is shown.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from attrs import Factory, define, field

from nvdimmfs.sandbox import libc


def show(source: Path, target: Path) -> None:
    """Make an entry appear at another path: a symbolic link as a link, anything else as a bind mount.

    An entry that has vanished, or that this process may not look at, is left out.
    """
    try:
        mode = source.lstat().st_mode
        if stat.S_ISLNK(mode):
            target.symlink_to(source.readlink())
            return
    except OSError:
        return
    if stat.S_ISDIR(mode):
        target.mkdir()
    else:
        target.touch()
    try:
        libc.bind_mount(source, target)
    except OSError:
        _delete(target)


def hide(target: Path) -> None:
    """Undo `show`.  Does nothing where nothing is shown."""
    with contextlib.suppress(FileNotFoundError):
        if not target.is_symlink():
            with contextlib.suppress(OSError):
                libc.umount(target)
        _delete(target)


def _delete(target: Path) -> None:
    if stat.S_ISDIR(target.lstat().st_mode):
        target.rmdir()
    else:
        target.unlink()


@contextlib.contextmanager
def pinned(directory: Path) -> Iterator[Path]:
    """A path that still leads to a directory after something has been mounted over it."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def overmount(directory: Path, keep: Callable[[str], bool]) -> None:
    """Mount a tmpfs over a directory, and show in it those of the old entries that `keep` accepts by name."""
    with pinned(directory) as host:
        libc.mount("none", directory, "tmpfs", options="mode=755")
        for entry in sorted(host.iterdir()):
            if keep(entry.name):
                show(entry, directory / entry.name)


@define
class MergedView:
    """A directory tree merged of the host's and the machine's, such as /sys.

    Attributes:
        host: the host's tree.
        machine: the machine's tree.
        target: an empty directory, in which the merged tree appears.
        is_merged: whether a directory that both trees have, given by its path, shows the entries of both.  Otherwise
            it shows the machine's alone.
        hidden: paths of the host's tree that must not be visible.
        known_link: returns what a symbolic link of the machine, given by its path, contains; None for entries that have
            to be looked at.
        file_systems: merged directories that look like mount points, and the file system's name in /proc/mounts.
        directories: the paths of the merged directories; "" is the top.
    """

    host: Path
    machine: Path
    target: Path
    is_merged: Callable[[str], bool]
    hidden: frozenset[str]
    known_link: Callable[[str], str | None] = field(default=lambda _path: None, kw_only=True)
    file_systems: Mapping[str, str] = Factory(dict)
    directories: list[str] = Factory(list)

    def build(self) -> None:
        """Create the merged tree."""
        self._merge("")

    def update_entry(self, path: str, *, present: bool) -> None:
        """Follow the machine, which has added or removed an entry of a merged directory."""
        hide(self.target / path)
        if present:
            show(self.machine / path, self.target / path)

    def _merge(self, directory: str) -> None:
        self.directories.append(directory)
        machine_names, host_names = _names(self.machine / directory), _names(self.host / directory)
        for name in sorted(machine_names | host_names):
            path = f"{directory}/{name}" if directory else name
            if name not in machine_names and path in self.hidden:
                continue
            if path in self.file_systems:
                (self.target / path).mkdir()
                libc.mount(self.file_systems[path], self.target / path, "tmpfs", options="mode=700")
                self._merge(path)
            elif name in host_names and self._must_merge(path, in_machine=name in machine_names):
                (self.target / path).mkdir()
                self._merge(path)
            elif name in machine_names:
                self._show_machine_entry(path)
            else:
                show(self.host / path, self.target / path)

    def _show_machine_entry(self, path: str) -> None:
        known = self.known_link(path)
        if known is None:
            show(self.machine / path, self.target / path)
        else:
            os.symlink(known, f"{self.target}/{path}")  # noqa: PTH211  # thousands of links: Path takes twice as long

    def _must_merge(self, path: str, *, in_machine: bool) -> bool:
        """Whether a directory of the host has to be put together entry by entry."""
        if not _is_directory(self.host / path):
            return False
        if not in_machine:
            return any(hidden.startswith(f"{path}/") for hidden in self.hidden)
        return self.is_merged(path) and _is_directory(self.machine / path)


def _names(directory: Path) -> set[str]:
    try:
        with os.scandir(directory) as entries:
            return {entry.name for entry in entries}
    except FileNotFoundError:
        return set()


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
