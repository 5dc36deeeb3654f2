"""Directories of the host that a sandbox replaces by a tmpfs with most of their entries: /dev, /run, /usr/lib.

Each entry is a mount, of which the host's /dev needs a hundred.  So a process that waits for its command makes such a
directory before (`prepare`), as a tree of mounts that is mounted nowhere (open_tree(2)).  `overmount` attaches it, and
adds what else the directory has now.  It begins anew where an entry is gone, which shows by name, kind or inode, and
where anything was mounted or unmounted meanwhile: to unmount an entry takes milliseconds, as the kernel waits for all
processors.

A mount keeps the host from giving up what is mounted.  So only entries of the directory's own file system are
prepared, and only if nothing is mounted on them or below.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from attrs import frozen

from nvdimmfs.formats.mount_table import parse_mounts
from nvdimmfs.inherited_files import keep_open
from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.merged_view import Entry, found_in, pinned, show_entry

#: Entries of a directory, by name.
Entries: TypeAlias = Mapping[str, Entry]

_MOUNT_TABLE = Path("/proc/self/mountinfo")


@frozen
class _Prepared:
    """A tmpfs with entries of a directory, for one sandbox.

    Attributes:
        tree: a descriptor of it.
        table: the open mount table, of which the kernel reports whether it has changed since.
        entries: what the directory had then, and the tmpfs shows.
    """

    tree: int
    table: int
    entries: Entries

    def attach(self, place: Path, kept: Entries) -> bool:
        """Mount it, if it shows nothing but what a directory has, and nothing was mounted since; whether it did."""
        try:
            if has_changed(self.table) or not self.entries.items() <= kept.items():
                return False
            libc.attach_tree(self.tree, place)
        except OSError:
            return False
        else:
            return True
        finally:
            os.close(self.tree)
            os.close(self.table)


#: What was prepared for the sandbox of this process, by directory.
_prepared: dict[Path, _Prepared] = {}


def prepare(directory: Path, keep: Callable[[str], bool]) -> None:
    """Prepare what `overmount` does with a directory, in a process that may mount.

    Nothing happens where the kernel refuses it, or has no open_tree(2) (before Linux 5.2).

    Args:
        directory: the directory, on a file system that is never unmounted.
        keep: accepts names, as that of `overmount` most probably will.
    """
    thread = threading.Thread(target=_prepare, args=(directory, keep), daemon=True)
    thread.start()
    thread.join()


def _prepare(directory: Path, keep: Callable[[str], bool]) -> None:
    """In a thread, the mounts of which end with it."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as failed:
        table = os.open(_MOUNT_TABLE, os.O_RDONLY | os.O_CLOEXEC)
        failed.callback(os.close, table)
        libc.unshare(libc.CLONE_NEWNS)
        libc.mount("none", "/", flags=libc.MS_REC | libc.MS_SLAVE)
        with pinned(directory) as host:
            entries = {name: each for name, each in _preparable(directory).items() if keep(name)}
            libc.mount("none", directory, "tmpfs", options="mode=755")
            _show(host, directory, entries)
            tree = libc.open_tree(directory)
        failed.pop_all()
        keep_open(tree)
        keep_open(table)
        _prepared[directory] = _Prepared(tree, table, entries)


def _preparable(directory: Path) -> Entries:
    """The entries that are on the directory's own file system, and have no mount on them or below."""
    mounted = {mount.mountpoint for mount in parse_mounts(_MOUNT_TABLE.read_bytes())}
    names = {point.relative_to(directory).parts[0] for point in mounted if directory in point.parents}
    return {name: entry for name, entry in found_in(str(directory)).items() if name not in names}


def overmount(directory: Path, keep: Callable[[str], bool], beside: Path | None = None) -> None:
    """Mount a tmpfs over a directory, and show in it those of the old entries that `keep` accepts by name.

    Args:
        directory: the directory.
        keep: accepts names.
        beside: a path where the tmpfs is until it has these entries, so that no other process misses one.
    """
    place = beside or directory
    with pinned(directory) as host:
        if beside is not None:
            beside.mkdir()
        kept = {name: entry for name, entry in found_in(str(host)).items() if keep(name)}
        prepared = _prepared.pop(directory, None)
        if prepared is not None and prepared.attach(place, kept):
            kept = {name: entry for name, entry in kept.items() if name not in prepared.entries}
        else:
            libc.mount("none", place, "tmpfs", options="mode=755")
        _show(host, place, kept)
    if beside is not None:
        libc.move_mount(beside, directory)
        beside.rmdir()


def _show(host: Path, place: Path, entries: Entries) -> None:
    for name, entry in sorted(entries.items()):
        show_entry(f"{host}/{name}", f"{place}/{name}", entry.kind)


def has_changed(table: int) -> bool:
    """Whether something was mounted or unmounted since a mount table was opened (proc(5))."""
    poll = select.poll()
    poll.register(table, select.POLLPRI)
    return bool(poll.poll(0))
