"""debugfs, below sys/kernel/debug: for people, its files do not tell their size (fs/debugfs, Linux 6.1)."""

from __future__ import annotations

from typing import TypeVar

from nvdimmfs.core.system import System
from nvdimmfs.kernfs import Attribute, Directory

SubjectT = TypeVar("SubjectT")

#: Mode bits of the root: what it shows is for its owner (DEFAULT_MODE, fs/debugfs/inode.c).
DEBUGFS_PERMISSIONS = 0o700


class DebugAttribute(Attribute[SubjectT]):
    """A file in debugfs.  Its size is 0 whatever it holds."""

    __slots__ = ()
    size = 0


def debugfs(system: System) -> Directory:
    """The root, made when it is not there yet."""
    root = system.directory("kernel/debug")
    root.mode = root.mode & ~0o777 | DEBUGFS_PERMISSIONS
    return root
