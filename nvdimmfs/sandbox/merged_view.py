"""Directories merged from two: entries of the host and entries of the machine.

A merged directory is a tmpfs in which each entry is a bind mount of the original entry, or a copy of the symbolic link
that it is.  Where both have an entry, the machine's is shown.
"""

from __future__ import annotations

import contextlib
import enum
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from attrs import Factory, define, field, frozen

from nvdimmfs.formats.name_hash import by_hash
from nvdimmfs.sandbox import libc


class Kind(enum.Enum):
    """What an entry of a directory is."""

    DIRECTORY = "directory"
    LINK = "link"
    FILE = "file"


class Entry(NamedTuple):
    """An entry of a directory, as the directory lists it."""

    kind: Kind
    inode: int


@frozen
class Addition:
    """An entry that neither the host nor the machine has like this.

    Attributes:
        content: the text of a file, or what a symbolic link contains.
        is_link: whether it is a symbolic link.
    """

    content: str
    is_link: bool = False

    def create(self, path: str) -> None:
        """Create it."""
        if self.is_link:
            os.symlink(self.content, path)  # noqa: PTH211
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o444)
        try:
            os.write(descriptor, self.content.encode())
        finally:
            os.close(descriptor)


def show(source: Path, target: Path) -> None:
    """Make an entry appear at another path: a symbolic link as a link, anything else as a bind mount.

    An entry that has vanished, or that this process may not look at, is left out.
    """
    try:
        mode = source.lstat().st_mode
    except OSError:
        return
    kind = Kind.LINK if stat.S_ISLNK(mode) else Kind.DIRECTORY if stat.S_ISDIR(mode) else Kind.FILE
    show_entry(str(source), str(target), kind)


def show_entry(source: str, target: str, kind: Kind) -> None:
    """Make an entry of a known kind appear.  The paths are texts: /sys has hundreds of entries."""
    if kind is Kind.LINK:
        with contextlib.suppress(OSError):
            os.symlink(os.readlink(source), target)  # noqa: PTH115, PTH211
        return
    _make_place(target, kind)
    _fill_place(source, target)


def _make_place(target: str, kind: Kind) -> None:
    """Make a directory or a file for a mount."""
    if kind is Kind.DIRECTORY:
        os.mkdir(target)  # noqa: PTH102
    else:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))


def _fill_place(source: str, target: str) -> None:
    """Mount an entry on its place, which goes where that is not possible: the entry has vanished."""
    try:
        libc.bind_mount(source, target)
    except OSError:
        _delete(Path(target))


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
        added: what takes the place of the entries at some paths, in merged directories.
        listed: the entries of directories of the machine, by name, as far as they are known already.
        listed_of_host: likewise, of directories of the host.
        file_systems: merged directories that look like mount points, and the file system's name in /proc/mounts.
        wait_for_machine: called before the first look at the machine's tree; for the entries that are known already,
            the tree is made before.
        directories: the paths of the merged directories; "" is the top.
    """

    host: Path
    machine: Path
    target: Path
    is_merged: Callable[[str], bool]
    hidden: frozenset[str]
    known_link: Callable[[str], str | None] = field(default=lambda _path: None, kw_only=True)
    listed: Mapping[str, Mapping[str, Kind]] = field(factory=dict, kw_only=True)
    listed_of_host: Mapping[str, Mapping[str, Kind]] = field(factory=dict, kw_only=True)
    added: Mapping[str, Addition] = field(factory=dict, kw_only=True)
    file_systems: Mapping[str, str] = Factory(dict)
    wait_for_machine: Callable[[], None] = field(default=lambda: None, kw_only=True)
    directories: list[str] = Factory(list)
    _of_machine: list[tuple[str, str]] = field(init=False, factory=list)
    _above_hidden: frozenset[str] = field(init=False)
    _newest_first: bool = field(init=False, default=True)

    def __attrs_post_init__(self) -> None:
        self._above_hidden = _above(self.hidden)

    def build(self) -> None:
        """Create the merged tree."""
        self._newest_first = _lists_newest_first(self.target)
        self._merge("")
        self.wait_for_machine()
        for source, target in self._of_machine:
            _fill_place(source, target)
        self._of_machine.clear()

    def update_entry(self, path: str, *, present: bool) -> None:
        """Follow the machine, which has added or removed an entry of a merged directory."""
        hide(self.target / path)
        if present:
            show(self.machine / path, self.target / path)

    def _merge(self, directory: str) -> None:
        self.directories.append(directory)
        prefix = f"{directory}/" if directory else ""
        machine = self.listed.get(directory)
        if machine is None:
            self.wait_for_machine()
            machine = entries_of(f"{self.machine}/{directory}")
        host = self.listed_of_host.get(directory)
        if host is None:
            host = entries_of(f"{self.host}/{directory}")
        added = [path.removeprefix(prefix) for path in self.added if path.rpartition("/")[0] == directory]
        for name in self._in_order_of_creation(directory, dict.fromkeys((*machine, *host, *added))):
            path = f"{prefix}{name}"
            if path in self.added:
                self.added[path].create(f"{self.target}/{path}")
            elif name not in machine and path in self.hidden:
                continue
            elif path in self.file_systems:
                (self.target / path).mkdir()
                libc.mount(self.file_systems[path], self.target / path, "tmpfs", options="mode=700")
                self._merge(path)
            elif self._must_merge(path, host.get(name), machine.get(name)):
                (self.target / path).mkdir()
                self._merge(path)
            elif name in machine:
                self._show_machine_entry(path, machine[name])
            else:
                show_entry(f"{self.host}/{path}", f"{self.target}/{path}", host[name])

    def _in_order_of_creation(self, directory: str, names: Iterable[str]) -> list[str]:
        """The names in the order in which they have to be created, so that the tmpfs lists them as sysfs would.

        Another file system keeps the host's order; the machine's names are listed first there, as the newest.
        """
        listed = list(names) if directory in self.file_systems else by_hash(names)
        return listed[::-1] if self._newest_first else listed

    def _show_machine_entry(self, path: str, kind: Kind) -> None:
        source, target = f"{self.machine}/{path}", f"{self.target}/{path}"
        known = self.known_link(path)
        if known is not None:
            os.symlink(known, target)  # noqa: PTH211  # thousands of links: Path takes twice as long
        elif kind is Kind.LINK:
            self.wait_for_machine()
            show_entry(source, target, kind)
        else:
            _make_place(target, kind)
            self._of_machine.append((source, target))

    def _must_merge(self, path: str, host: Kind | None, machine: Kind | None) -> bool:
        """Whether a directory of the host has to be put together entry by entry."""
        if host is not Kind.DIRECTORY:
            return False
        if machine is None:
            return path in self._above_hidden
        return machine is Kind.DIRECTORY and self.is_merged(path)


def _above(paths: Iterable[str]) -> frozenset[str]:
    """All directories that lead to these paths."""
    above: set[str] = set()
    for path in paths:
        directory = path.rpartition("/")[0]
        while directory and directory not in above:
            above.add(directory)
            directory = directory.rpartition("/")[0]
    return frozenset(above)


def _lists_newest_first(directory: Path) -> bool:
    """Whether the tmpfs that a directory is in lists the newest name first, which differs between releases of Linux."""
    names = ("older", "newer")
    for name in names:
        (directory / name).mkdir()
    try:
        return next(name for name in os.listdir(directory) if name in names) == "newer"  # noqa: PTH208  # names alone
    finally:
        for name in names:
            (directory / name).rmdir()


def entries_of(directory: str) -> dict[str, Kind]:
    """The kinds of what a directory has; nothing when it does not exist."""
    return {name: entry.kind for name, entry in found_in(directory).items()}


def found_in(directory: str) -> dict[str, Entry]:
    """What a directory has, without entries that this process may not look at; nothing when it does not exist."""
    try:
        with os.scandir(directory) as entries:
            return {each.name: Entry(kind, each.inode()) for each in entries if (kind := _kind(each)) is not None}
    except FileNotFoundError:
        return {}


def _kind(entry: os.DirEntry[str]) -> Kind | None:
    """What an entry is; None for one that this process may not look at.  Most file systems list that with the name."""
    try:
        if entry.is_symlink():
            return Kind.LINK
        return Kind.DIRECTORY if entry.is_dir(follow_symlinks=False) else Kind.FILE
    except OSError:
        return None
