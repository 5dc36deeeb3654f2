"""Folders put together from two: entries of the host, and entries of the machine.

A merged folder is one of its own (tmpfs) in which each entry is a bind mount of, or the same symbolic link as, the one
in the folder that it comes from.  What the machine has wins.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from attrs import Factory, define

from nvdimmfs.sandbox import syscalls


def show(source: Path, target: Path) -> None:
    """Let an entry appear in another place: a link as a link, anything else as a mount.

    What has vanished, or may not be looked at, is left out.
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
        syscalls.bind(source, target)
    except OSError:
        _delete(target)


def hide(target: Path) -> None:
    """Take away what `show` has made; nothing there is fine, too."""
    with contextlib.suppress(FileNotFoundError):
        if not target.is_symlink():
            with contextlib.suppress(OSError):
                syscalls.umount(target)
        _delete(target)


def _delete(target: Path) -> None:
    if stat.S_ISDIR(target.lstat().st_mode):
        target.rmdir()
    else:
        target.unlink()


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[Path]:
    """A way to a folder that stays when something is mounted on it."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def replace_folder(folder: Path, keep: Callable[[str], bool]) -> None:
    """Mount an empty folder over one, and show in it what of the old one is to be kept."""
    with kept(folder) as host:
        syscalls.mount("none", folder, "tmpfs", options="mode=755")
        for entry in sorted(host.iterdir()):
            if keep(entry.name):
                show(entry, folder / entry.name)


@define
class MergedView:
    """A folder tree merged of the host's and the machine's, such as /sys.

    Attributes:
        host: the host's.
        machine: the machine's.
        place: where it appears, an empty folder.
        is_merged: whether a folder that both have, by its path, has entries of both.  Else it is the machine's alone.
        hidden: paths that the host has and that must not be seen.
        file_systems: merged folders that look like a file system's mount point, and what /proc/mounts calls that.
        folders: the merged folders, by path; "" is the whole.
    """

    host: Path
    machine: Path
    place: Path
    is_merged: Callable[[str], bool]
    hidden: frozenset[str]
    file_systems: Mapping[str, str] = Factory(dict)
    folders: list[str] = Factory(list)

    def build(self) -> None:
        """Make it."""
        self._merge("")

    def changed(self, path: str, *, present: bool) -> None:
        """An entry of the machine's in a merged folder has come or gone."""
        hide(self.place / path)
        if present:
            show(self.machine / path, self.place / path)

    def _merge(self, folder: str) -> None:
        self.folders.append(folder)
        own, hosts = _names(self.machine / folder), _names(self.host / folder)
        for name in sorted(own | hosts):
            path = f"{folder}/{name}" if folder else name
            if name not in own and path in self.hidden:
                continue
            if path in self.file_systems:
                (self.place / path).mkdir()
                syscalls.mount(self.file_systems[path], self.place / path, "tmpfs", options="mode=700")
                self._merge(path)
            elif name in hosts and self._has_both(path, own=name in own):
                (self.place / path).mkdir()
                self._merge(path)
            else:
                show((self.machine if name in own else self.host) / path, self.place / path)

    def _has_both(self, path: str, *, own: bool) -> bool:
        """Whether a folder of the host's has to be put together of its entries."""
        if not _is_folder(self.host / path):
            return False
        if not own:
            return any(hidden.startswith(f"{path}/") for hidden in self.hidden)
        return self.is_merged(path) and _is_folder(self.machine / path)


def _names(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in folder.iterdir()}
    except FileNotFoundError:
        return set()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
