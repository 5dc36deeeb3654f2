"""Where a dump comes from: a sysfs of the host, the sys/ of a mount, or the tree of a machine in this process."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Protocol

from attrs import frozen

from nvdimmfs.dumps.text import Row, errno_name
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Attribute, Directory, Symlink
from nvdimmfs.kernfs.open_file import open_node
from nvdimmfs.kernfs.path import resolve

#: Bytes of a file that are read at most.  No attribute exceeds a page, but any folder can be given.
_LARGEST = 1 << 20


class Sysfs(Protocol):
    """A sysfs.  Paths have no leading slash; links are not followed."""

    def row(self, path: str) -> Row | None:
        """What is at a path; None when nothing is there (any more)."""

    def names(self, path: str) -> list[str]:
        """The names in a directory; empty when there is none (any more)."""


@frozen
class HostSysfs:
    """A sysfs behind system calls.

    Attributes:
        root: where it is mounted.
    """

    root: Path

    def row(self, path: str) -> Row | None:
        place = self.root / path
        try:
            status = place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        mode = stat.filemode(status.st_mode)
        try:
            if stat.S_ISLNK(status.st_mode):
                return Row(mode, path, target=str(place.readlink()))
            if stat.S_ISREG(status.st_mode) and status.st_mode & 0o444:
                return Row(mode, path, _content(place))
        except FileNotFoundError:
            return None
        except OSError as refusal:
            return Row(mode, path, errno=errno_name(refusal.errno or 0))
        return Row(mode, path)

    def names(self, path: str) -> list[str]:
        try:
            return os.listdir(self.root / path)  # noqa: PTH208  # names, not paths
        except (FileNotFoundError, NotADirectoryError):
            return []


def _content(place: Path) -> bytes:
    """Read a file to its end.  A file that would block, such as a pipe in a copy of a sysfs, is empty."""
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        chunks: list[bytes] = []
        left = _LARGEST
        while left and (chunk := os.read(descriptor, left)):
            chunks.append(chunk)
            left -= len(chunk)
        return b"".join(chunks)
    finally:
        os.close(descriptor)


@frozen
class MachineSysfs:
    """The /sys of a machine in this process.

    Attributes:
        root: the directory /sys.
    """

    root: Directory

    def row(self, path: str) -> Row | None:
        try:
            node = resolve(self.root, path, follow_last=False)
        except KernelError:
            return None
        mode = stat.filemode(node.mode)
        if isinstance(node, Symlink):
            return Row(mode, path, target=node.text)
        if not isinstance(node, Attribute) or not node.mode & 0o444:
            return Row(mode, path)
        try:
            return Row(mode, path, open_node(node, os.O_RDONLY).read(0, _LARGEST))
        except KernelError as refusal:
            return Row(mode, path, errno=errno_name(refusal.errno))

    def names(self, path: str) -> list[str]:
        try:
            node = resolve(self.root, path, follow_last=False)
        except KernelError:
            return []
        return list(node.children) if isinstance(node, Directory) else []
