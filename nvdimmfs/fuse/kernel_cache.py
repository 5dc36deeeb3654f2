"""What the kernel remembers of the tree, and how it is made to forget.

Names and attributes may stay in the kernel's caches for a day, because every change to the tree passes through here.
The rule is: before the request that caused a change is answered, the kernel has forgotten what the change made
untrue.  So whoever saw their write(2) return sees no stale name, and neither does anybody they tell.  What changes by
itself, as time passes, is forgotten by a task of its own soon after.

Making it forget means system calls that wait for locks (a directory's, while somebody looks a name up in it), and those
who hold such a lock wait for an answer from this very process.  Hence they are made by a worker thread, while the
event loop goes on answering.  What the thread waits for is always a request that needs no such thread: lookups,
listings and attribute requests change nothing.  A write(2) that waits for the thread holds the lock of its own file
alone, which the thread never wants: an attribute has no pages, and a device's pages are dropped only when it is gone.
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

#: The kernel had forgotten already, or the mount has gone: either way it remembers nothing.
_FORGOTTEN = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTCONN})


class Kernel(Protocol):
    """The kernel's side of a mount.  Each call may block, and may fail with OSError."""

    def forget_name(self, directory: InodeT, name: bytes) -> None:
        """Drop a name, and what is cached below it."""

    def forget_attributes(self, inode: InodeT) -> None:
        """Drop what stat(2) shows."""

    def forget_pages(self, inode: InodeT) -> None:
        """Drop what stat(2) shows and the cached content."""


class MountedKernel:
    """The kernel that has this process's mount."""

    def forget_name(self, directory: InodeT, name: bytes) -> None:
        pyfuse3.invalidate_entry(directory, name)

    def forget_attributes(self, inode: InodeT) -> None:
        pyfuse3.invalidate_inode(inode, attr_only=True)

    def forget_pages(self, inode: InodeT) -> None:
        pyfuse3.invalidate_inode(inode)


class KernelCache:
    """Collects what a request made untrue, and has it forgotten.

    Args:
        inodes: what the kernel was told of.
        kernel: whom to tell.
    """

    def __init__(self, inodes: Inodes, kernel: Kernel) -> None:
        self._inodes = inodes
        self._kernel = kernel
        self._outdated: dict[tuple[Callable[..., None], *tuple[object, ...]], None] = {}
        self._left_over: dict[tuple[Callable[..., None], *tuple[object, ...]], None] = {}
        self._turn = trio.Lock()
        self._stopped = False

    @property
    def outdated(self) -> bool:
        """Whether the kernel may remember something that is no longer true."""
        return bool(self._outdated)

    def added(self, directory: Directory, node: Node) -> None:
        """A node appeared.  Its name needs no care, as the kernel does not remember what does not exist."""
        if isinstance(node, Directory):
            self._attributes_changed(directory)

    def removed(self, directory: Directory, node: Node) -> None:
        """A node leaves, with everything below it."""
        for leaving in subtree(node):
            self._leaves(leaving)
        if isinstance(node, Directory):
            self._attributes_changed(directory)

    def size_moved(self, attribute: Attribute[object]) -> None:
        """The kernel takes an attribute for larger than it is: somebody wrote far behind its end.

        The next write with O_APPEND would be farther still, and EFBIG in the end.
        """
        self._later(self._kernel.forget_attributes, attribute.ino)

    @property
    def has_left_over(self) -> bool:
        """Whether `forget_left_over` has something to do."""
        return bool(self._left_over)

    def leave_over(self) -> None:
        """Leave what is outdated now to `forget_left_over`.

        It changed because time passed, not by the request at hand, and that may hold a lock that forgetting waits for.
        """
        self._left_over.update(self._outdated)
        self._outdated.clear()

    async def forget_left_over(self) -> None:
        """Have the kernel forget what was left over; not for a request to call."""
        await self._forget(self._left_over)

    async def forget_outdated(self) -> None:
        """Return once the kernel remembers nothing that is untrue."""
        await self._forget(self._outdated)

    async def _forget(self, outdated: dict[tuple[Callable[..., None], *tuple[object, ...]], None]) -> None:
        calls = list(outdated)
        outdated.clear()
        async with self._turn:
            if not self._stopped:
                await trio.to_thread.run_sync(_make, calls)

    async def stop(self) -> None:
        """Leave the kernel alone from now on: the mount is about to end, and with it what the kernel remembers.

        Once nobody answers requests any more, a thread that waits for a lock would wait for ever.
        """
        async with self._turn:
            self._stopped = True

    def _leaves(self, node: Node) -> None:
        inode = self._inodes.outdate(node)
        if inode is None:
            self._inodes.discard(node)
            return
        assert node.parent is not None, "it is told before it happens"
        self._later(self._kernel.forget_name, node.parent.ino, node.name.encode(errors="surrogateescape"))
        if isinstance(node, BinaryFile):
            self._later(self._kernel.forget_pages, node.ino)
        elif isinstance(node, Directory):
            self._later(self._kernel.forget_attributes, node.ino)

    def _attributes_changed(self, directory: Directory) -> None:
        if self._inodes.outdate(directory):
            self._later(self._kernel.forget_attributes, directory.ino)

    def _later(self, call: Callable[..., None], *arguments: object) -> None:
        self._outdated[(call, *arguments)] = None


def _make(calls: list[tuple[Callable[..., None], *tuple[object, ...]]]) -> None:
    for call, *arguments in calls:
        try:
            call(*arguments)
        except OSError as failure:
            if failure.errno not in _FORGOTTEN:
                log.warning("the kernel did not forget: %s%s: %s", call.__name__, tuple(arguments), failure)
