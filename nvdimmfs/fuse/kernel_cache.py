"""The names and attributes that the kernel caches, and how they are invalidated.

The kernel may cache names and attributes for a day, because every change to the tree passes through here.  The rule:
before the reply to a request is sent, the kernel no longer uses anything that the request made stale.  So a process
whose write(2) has returned sees no stale name, and neither does any process that it then notifies.  Changes that happen
as time passes, without a request, are invalidated soon after, by a task of their own.

A stale name leaves the kernel's cache in one of two ways.

While no process has a directory of the mount open, this process makes the kernel drop it.  The kernel then takes the
lock of the name's directory, which it also holds while it looks up a name there; and then it waits for a reply from
this very process.  A worker thread therefore makes these calls, while the event loop goes on replying.  The thread only
ever waits for requests that need no invalidation themselves: lookups and attribute requests change nothing.  Opening a
directory waits until the thread is done.

While a process has a directory open, it may be listing it into memory that it provides as late as it likes (a page
that a file system of its own never delivers), and the kernel holds the directory's lock for that long; through
rename(2) any other directory's lock as well.  No thread may wait for that.  So the name stays, but leads nowhere: the
cached attributes of the node are dropped, which takes no lock, and each request for the node that may have come by the
name is answered with ENOENT, or with ESTALE where the name leads to another node by now (`Inodes.reached`).  On ESTALE
the kernel looks the name up anew, and drops the old one itself.  Once no directory is open, the names that were left
are dropped as above.
"""

from __future__ import annotations

import errno
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol, Self, TypeVar

import pyfuse3
import trio
from attrs import define, field
from pyfuse3 import InodeT

from nvdimmfs.fuse.inode import CachedName, Inodes
from nvdimmfs.fuse.worker import Worker
from nvdimmfs.kernfs import Attribute, BinaryFile, Directory, Node, Symlink, subtree

log = logging.getLogger(__name__)

#: Errnos that mean that nothing is cached: the kernel had no such entry, or the mount has ended.
_NOT_CACHED = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTCONN})

#: How long to wait, in seconds, before each further try to drop attributes that the kernel does not have yet, although
#: a reply with them was sent: it processes the reply at this moment.  The request waits for these tries.
_TRY_AGAIN_AFTER = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064)

#: How often to try afterwards, in seconds: the kernel processes a listing as slowly as the process takes it.
_RETRY_INTERVAL = 0.1

#: How long after a name was dropped its node stays unreachable, in seconds: a process that followed the name just
#: before may be about to ask for the node.
_UNREACHABLE_FOR = 2.0


ArgumentsT = TypeVar("ArgumentsT", bound=tuple[object, ...])


class CacheInvalidator(Protocol):
    """Invalidates entries of the kernel's caches.  Each call may block, and may raise OSError."""

    def invalidate_name(self, directory: InodeT, name: bytes) -> None:
        """Drop a name, and everything cached below it."""

    def invalidate_attributes(self, inode: InodeT) -> None:
        """Drop the attributes that stat(2) shows.  Takes no lock that a process can hold."""

    def invalidate_pages(self, inode: InodeT) -> None:
        """Write back what mappings have changed, then drop the attributes that stat(2) shows, and the page cache."""


class FuseInvalidator:
    """Invalidates the caches of this process's mount."""

    def invalidate_name(self, directory: InodeT, name: bytes) -> None:
        pyfuse3.invalidate_entry(directory, name)

    def invalidate_attributes(self, inode: InodeT) -> None:
        pyfuse3.invalidate_inode(inode, attr_only=True)

    def invalidate_pages(self, inode: InodeT) -> None:
        pyfuse3.invalidate_inode(inode)


@define
class _Stale:
    """What the kernel may have cached, and must not use any more.

    Attributes:
        names: by the inode number of the removed node that they lead to.
        attributes: inodes of which stat(2) would show old attributes.
        pages: inodes that have old pages and attributes.
    """

    names: dict[InodeT, CachedName] = field(factory=dict)
    attributes: dict[InodeT, None] = field(factory=dict)
    pages: dict[InodeT, None] = field(factory=dict)

    def __bool__(self) -> bool:
        return bool(self.names or self.attributes or self.pages)

    def add(self, other: Self) -> None:
        """Add all that another one has."""
        self.names |= other.names
        self.attributes |= other.attributes
        self.pages |= other.pages


class KernelCache:
    """Collects the cache entries that a request made stale, and invalidates them.

    Args:
        inodes: the inodes that the kernel refers to.
        invalidator: makes the calls.

    Attributes:
        stale: what has changed since the last call, and the kernel may have cached; None for nothing, as most requests
            find.
        wake: wakes `Timekeeper.keep`: there is something new for `invalidate_postponed` or `revisit` to do.
    """

    def __init__(self, inodes: Inodes, invalidator: CacheInvalidator) -> None:
        self._inodes = inodes
        self._invalidator = invalidator
        self.stale: _Stale | None = None
        self._postponed = _Stale()
        self._worker = Worker()
        self._lock = trio.Lock()
        self._open_directories = 0
        self._awaited: list[InodeT] = []
        self._dropped: deque[tuple[float, InodeT]] = deque()
        self._drops_names = False
        self._names_dropped = trio.lowlevel.ParkingLot()
        self._stopped = False
        self.wake: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Start the thread that makes the calls, so that none need be started later.  RuntimeError."""
        self._worker.start()

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

    def revoked(self, node: Node) -> None:
        """Pages of a node can no longer be used."""
        if self._inodes.outdate(node):
            self._changed().pages[InodeT(node.ino)] = None

    def restored(self) -> None:
        """Everything may have changed: modes, sizes, and the bytes of devices."""
        for node in self._inodes.restored():
            self._inodes.outdate(node)
            changed = self._changed()
            stale = changed.pages if isinstance(node, BinaryFile) else changed.attributes
            stale[InodeT(node.ino)] = None

    def size_moved(self, attribute: Attribute[object]) -> None:
        """The kernel's cached size of an attribute has grown, because of a write beyond the attribute's end.

        The next write with O_APPEND would go to that offset, and so on, until one fails with EFBIG.
        """
        self._changed().attributes[InodeT(attribute.ino)] = None

    async def directory_opens(self) -> None:
        """A process opens a directory: return once no call needs the lock of one."""
        while self._drops_names:
            await self._names_dropped.park()
        self._open_directories += 1

    def directory_closed(self) -> None:
        """A process has closed a directory, and so no longer lists it."""
        self._open_directories -= 1
        if self.has_postponed:
            self.wake()

    @property
    def has_postponed(self) -> bool:
        """Whether `invalidate_postponed` has something to do."""
        if self._stopped:
            return False
        return bool(self._postponed) or (not self._open_directories and bool(self._inodes.stale_names))

    def postpone(self) -> None:
        """Leave everything that is stale now to `invalidate_postponed`.

        It changed because time passed, not through the current request, which may hold a lock that invalidation needs.
        """
        self._postponed.add(self._take_stale())
        self.wake()

    async def invalidate_postponed(self) -> None:
        """Invalidate the postponed entries, and drop names that were left.  The kernel then uses nothing stale.

        Only a request that holds no lock which an invalidation needs may wait for this: one that reads a channel.
        """
        stale, self._postponed = self._postponed, _Stale()
        stale.names |= self._inodes.stale_names
        await self._invalidate(stale)

    @property
    def seconds_until_revisit(self) -> float:
        """Seconds until `revisit` has something to do; infinity when it has nothing."""
        if self._stopped:
            return math.inf
        if self._awaited:
            return _RETRY_INTERVAL
        return max(0.0, self._dropped[0][0] - trio.current_time()) if self._dropped else math.inf

    @property
    def is_behind(self) -> bool:
        """Whether the kernel may use something that an earlier request, or time, has made stale."""
        return self._lock.locked() or bool(self._postponed)

    async def revisit(self) -> None:
        """Drop the attributes that the kernel did not have yet, and let nodes be reached again.

        Must not be called by a request.
        """
        async with self._lock:
            if self._awaited and not self._stopped:
                self._awaited = await self._not_cached_yet(self._awaited)
        while self._dropped and self._dropped[0][0] <= trio.current_time():
            self._inodes.unreachable.pop(self._dropped.popleft()[1], None)

    async def invalidate_stale(self) -> None:
        """Return once the kernel uses nothing stale."""
        await self._invalidate(self._take_stale())

    def _take_stale(self) -> _Stale:
        stale, self.stale = self.stale or _Stale(), None
        return stale

    async def stop(self) -> None:
        """Make no more calls: the mount is about to end, and the kernel's caches end with it.

        Once requests are no longer answered, a thread that waits for a lock would wait forever.
        """
        async with self._lock:
            self._stopped = True

    async def _invalidate(self, stale: _Stale) -> None:
        async with self._lock:
            if self._stopped:
                return
            if stale.names and self._open_directories:
                await self._lead_nowhere(stale.names)
            elif stale.names:
                await self._drop(stale.names)
            if stale.attributes:
                await self._call(self._invalidator.invalidate_attributes, stale.attributes)
            if stale.pages:
                await self._call(self._invalidator.invalidate_pages, stale.pages)

    async def _drop(self, names: Mapping[InodeT, CachedName]) -> None:
        async with self._no_directory_opens():
            calls = [
                (InodeT(each.directory.ino), each.name.encode(errors="surrogateescape")) for each in names.values()
            ]
            await self._worker.run(_make, self._invalidator.invalidate_name, calls)
        for inode in names:
            if self._inodes.stale_names.pop(inode, None):
                self._dropped.append((trio.current_time() + _UNREACHABLE_FOR, inode))

    @asynccontextmanager
    async def _no_directory_opens(self) -> AsyncIterator[None]:
        self._drops_names = True
        try:
            yield
        finally:
            self._drops_names = False
            self._names_dropped.unpark_all()

    async def _lead_nowhere(self, names: Mapping[InodeT, CachedName]) -> None:
        """Make every request by these names arrive here.

        The kernel may still be processing a reply with a node that was found just before it left the tree.  Attributes
        that it stores afterwards would be used for a day: so try again until it has them, or has forgotten the node.
        """
        known = {inode: name for inode, name in names.items() if self._inodes.refers_to_removed(inode)}
        self._inodes.stale_names |= known
        self._inodes.unreachable |= known
        awaited = await self._not_cached_yet(known)
        for seconds in _TRY_AGAIN_AFTER:
            if not awaited:
                return
            await trio.sleep(seconds)
            awaited = await self._not_cached_yet(awaited)
        if awaited:
            self._awaited = list(dict.fromkeys([*self._awaited, *awaited]))
            self.wake()

    async def _not_cached_yet(self, inodes: Iterable[InodeT]) -> list[InodeT]:
        """Drop attributes.  Returns the inodes that the kernel refers to, and has no attributes of."""
        failed = await self._call(self._invalidator.invalidate_attributes, inodes)
        return [inode for inode in failed if self._inodes.refers_to_removed(inode)]

    async def _call(self, call: Callable[[InodeT], None], inodes: Iterable[InodeT]) -> list[InodeT]:
        """Make a call for each inode, in the thread.  Returns those of which the kernel had cached nothing."""
        failed = await self._worker.run(_make, call, [(inode,) for inode in inodes])
        return [inode for (inode,) in failed]

    def _invalidate_removed(self, node: Node) -> None:
        number = InodeT(node.ino)
        if self._inodes.outdate(node) is None:
            self._inodes.discard(node)
            return
        assert node.parent is not None, "listeners are notified before the removal"
        stale = self._changed()
        stale.names[number] = CachedName(node.parent, node.name)
        if isinstance(node, BinaryFile | Symlink):
            stale.pages[number] = None
        elif isinstance(node, Directory):
            stale.attributes[number] = None

    def _attributes_changed(self, directory: Directory) -> None:
        if self._inodes.outdate(directory):
            self._changed().attributes[InodeT(directory.ino)] = None

    def _changed(self) -> _Stale:
        if self.stale is None:
            self.stale = _Stale()
        return self.stale


def _make(call: Callable[..., None], calls: Iterable[ArgumentsT]) -> list[ArgumentsT]:
    """Make a call with each of several lists of arguments.  Returns those for which the kernel had cached nothing."""
    not_cached = []
    for arguments in calls:
        try:
            call(*arguments)
        except OSError as failure:
            if failure.errno in _NOT_CACHED:
                not_cached.append(arguments)
            else:
                log.warning("the kernel's cache may be stale: %s%s: %s", call.__name__, arguments, failure)
    return not_cached
