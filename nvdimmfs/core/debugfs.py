"""debugfs, below sys/kernel/debug: the size of its files reads as 0 (fs/debugfs, Linux 6.1)."""

from __future__ import annotations

from typing import TypeVar

from nvdimmfs.core.system import System
from nvdimmfs.kernfs import Attribute, Directory, Order

SubjectT = TypeVar("SubjectT")

#: Mode bits of the root: only its owner may enter it (DEFAULT_MODE, fs/debugfs/inode.c).
DEBUGFS_PERMISSIONS = 0o700


class DebugAttribute(Attribute[SubjectT]):
    """A file in debugfs.  Its st_size is always 0."""

    __slots__ = ()
    size = 0


def debugfs(system: System) -> Directory:
    """The root directory; created by the first call."""
    root = system.directory("kernel/debug")
    root.order = Order.NEWEST
    root.mode = root.mode & ~0o777 | DEBUGFS_PERMISSIONS
    return root
