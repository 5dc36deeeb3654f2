"""The names and attributes that the kernel caches, and how they are invalidated.

The kernel may cache names and attributes for a day, because every change to the tree passes through here.  The rule:
before the reply to a request is sent, everything that the request made stale has been invalidated.  So a process whose
write(2) has returned sees no stale name, and neither does any process that it then notifies.  Changes that happen as
time passes, without a request, are invalidated soon after, by a task of their own.

Invalidation makes system calls that wait for locks, such as a directory's lock, which the kernel holds while it looks
up a name; and the holder of that lock waits for a reply from this very process.  A worker thread therefore makes these
calls, while the event loop goes on replying.  The thread only ever waits for requests that need no invalidation
themselves: lookups, listings and attribute requests change nothing.  A write(2) that waits for the thread holds only
the lock of its own file.  The thread never takes that lock: an attribute has no pages, and a device's pages are dropped
only once the device has been removed.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import Protocol

import pyfuse3
import trio
from pyfuse3 import InodeT

from nvdimmfs.fuse.inode import Inodes, subtree
from nvdimmfs.kernfs import Attribute, BinaryFile, Directory, Node

log = logging.getLogger(__name__)

#: Errnos that mean that nothing is cached: the kernel had no such entry, or the mount has ended.
_NOT_CACHED = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTCONN})


class CacheInvalidator(Protocol):
    """Invalidates entries of the kernel's caches.  Each call may block, and may raise OSError."""

    def invalidate_name(self, directory: InodeT, name: bytes) -> None:
        """Drop a name, and everything cached below it."""

    def invalidate_attributes(self, inode: InodeT) -> None:
        """Drop the attributes that stat(2) shows."""

    def invalidate_pages(self, inode: InodeT) -> None:
        """Drop the attributes that stat(2) shows, and the page cache."""


class FuseInvalidator:
    """Invalidates the caches of this process's mount."""

    def invalidate_name(self, directory: InodeT, name: bytes) -> None:
        pyfuse3.invalidate_entry(directory, name)

    def invalidate_attributes(self, inode: InodeT) -> None:
        pyfuse3.invalidate_inode(inode, attr_only=True)

    def invalidate_pages(self, inode: InodeT) -> None:
        pyfuse3.invalidate_inode(inode)


class KernelCache:
    """Collects the cache entries that a request made stale, and invalidates them.

    Args:
        inodes: the inodes that the kernel refers to.
        invalidator: makes the calls.
    """

    def __init__(self, inodes: Inodes, invalidator: CacheInvalidator) -> None:
        self._inodes = inodes
        self._invalidator = invalidator
        self._stale: dict[tuple[Callable[..., None], *tuple[object, ...]], None] = {}
        self._postponed: dict[tuple[Callable[..., None], *tuple[object, ...]], None] = {}
        self._lock = trio.Lock()
        self._stopped = False

    @property
    def is_stale(self) -> bool:
        """Whether the kernel may cache something that has changed."""
        return bool(self._stale)

    def added(self, directory: Directory, node: Node) -> None:
        """A node was added.  Its name needs no invalidation, because lookups that find nothing are not cached."""
        if isinstance(node, Directory):
            self._attributes_changed(directory)

    def removed(self, directory: Directory, node: Node) -> None:
        """A node is being removed, with everything below it."""
        for descendant in subtree(node):
            self._invalidate_removed(descendant)
        if isinstance(node, Directory):
            self._attributes_changed(directory)

    def size_moved(self, attribute: Attribute[object]) -> None:
        """The kernel's cached size of an attribute has grown, because of a write beyond the attribute's end.

        The next write with O_APPEND would go to that offset, and so on, until one fails with EFBIG.
        """
        self._defer(self._invalidator.invalidate_attributes, attribute.ino)

    @property
    def has_postponed(self) -> bool:
        """Whether `invalidate_postponed` has something to do."""
        return bool(self._postponed)

    def postpone(self) -> None:
        """Leave everything that is stale now to `invalidate_postponed`.

        It changed because time passed, not through the current request, which may hold a lock that invalidation needs.
        """
        self._postponed.update(self._stale)
        self._stale.clear()

    async def invalidate_postponed(self) -> None:
        """Invalidate the postponed entries; must not be called by a request."""
        await self._invalidate(self._postponed)

    async def invalidate_stale(self) -> None:
        """Return once the kernel caches nothing stale."""
        await self._invalidate(self._stale)

    async def _invalidate(self, stale: dict[tuple[Callable[..., None], *tuple[object, ...]], None]) -> None:
        calls = list(stale)
        stale.clear()
        async with self._lock:
            if not self._stopped:
                await trio.to_thread.run_sync(_make, calls)

    async def stop(self) -> None:
        """Make no more calls: the mount is about to end, and the kernel's caches end with it.

        Once requests are no longer answered, a thread that waits for a lock would wait for ever.
        """
        async with self._lock:
            self._stopped = True

    def _invalidate_removed(self, node: Node) -> None:
        inode = self._inodes.outdate(node)
        if inode is None:
            self._inodes.discard(node)
            return
        assert node.parent is not None, "listeners are notified before the removal"
        self._defer(self._invalidator.invalidate_name, node.parent.ino, node.name.encode(errors="surrogateescape"))
        if isinstance(node, BinaryFile):
            self._defer(self._invalidator.invalidate_pages, node.ino)
        elif isinstance(node, Directory):
            self._defer(self._invalidator.invalidate_attributes, node.ino)

    def _attributes_changed(self, directory: Directory) -> None:
        if self._inodes.outdate(directory):
            self._defer(self._invalidator.invalidate_attributes, directory.ino)

    def _defer(self, call: Callable[..., None], *arguments: object) -> None:
        self._stale[(call, *arguments)] = None


def _make(calls: list[tuple[Callable[..., None], *tuple[object, ...]]]) -> None:
    for call, *arguments in calls:
        try:
            call(*arguments)
        except OSError as failure:
            if failure.errno not in _NOT_CACHED:
                log.warning("the kernel's cache may be stale: %s%s: %s", call.__name__, tuple(arguments), failure)
