"""The FUSE requests, answered as Linux's sysfs answers root.  pyfuse3 documents the handlers' arguments."""

# ruff: noqa: ARG002  # pyfuse3 determines the arguments of a handler

from __future__ import annotations

import errno
import functools
import itertools
import logging
import os
import stat
from collections.abc import Callable, Coroutine, Sequence
from typing import cast

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    PollHandle,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
    XAttrNameT,
)

from nvdimmfs.errors import KernelError, refused_by_host
from nvdimmfs.fuse.callers import Callers
from nvdimmfs.fuse.daemon_identity import own_identity
from nvdimmfs.fuse.handler import fuse_handler
from nvdimmfs.fuse.inode import BLOCK_SIZE, CACHE_TIMEOUT, Inodes
from nvdimmfs.fuse.kernel_cache import CacheInvalidator, FuseInvalidator, KernelCache
from nvdimmfs.fuse.leaving_disks import LeavingDisks
from nvdimmfs.fuse.peers import ProcFolder
from nvdimmfs.fuse.pollers import Pollers
from nvdimmfs.fuse.refused_operations import RefusedOperations
from nvdimmfs.fuse.sessions import Sessions
from nvdimmfs.fuse.timekeeping import Clock, NoClock, Timekeeper
from nvdimmfs.fuse.waits import RequestCaller, Waits
from nvdimmfs.fuse.xattrs import ExtendedAttributes
from nvdimmfs.kernfs import ATTRIBUTE_SIZE, BinaryFile, Directory, Node, Symlink, Tree
from nvdimmfs.kernfs.open_attribute import OpenAttribute
from nvdimmfs.kernfs.open_file import (
    OpenBinaryFile,
    OpenChannel,
    OpenDirectory,
    OpenFile,
    open_delay,
    open_node,
    read_delay,
    write_delay,
)
from nvdimmfs.kernfs.traced_calls import traced_open, traced_poll, traced_read, traced_sync, traced_write

log = logging.getLogger(__name__)

#: Longest name (NAME_MAX, include/uapi/linux/limits.h), which statfs(2) reports.
NAME_MAX = 255

#: Entries of a listing that do not count as looked up.
_DOTS = (".", "..")


class Operations(RefusedOperations):
    """A tree as a file system.

    It behaves as kernfs: chmod(2), chown(2) and utimensat(2) succeed and have effect, truncation and O_TRUNC succeed
    without effect, and one write(2) is one store, whatever its offset.  The kernel checks permissions
    (default_permissions).

    Two requests could be avoided by replying ENOSYS to the first of each.  For the flush of close(2) this is done: it
    costs a third of open, read and close (70 of 210 microseconds).  For opendir(2) it is not, although that costs 130
    of the 430 microseconds of listing 24 names: without a handle, pyfuse3 does not pass the directory to `readdir`.
    The kernel caches the names and attributes of a listing in either case.

    Args:
        tree: the tree to show.
        clock: the machine's clock; None for a tree in which nothing is due later.
        cache: whether the kernel may cache names and attributes; False makes it send every stat(2) here.
        invalidator: invalidates the kernel's caches; tests pass a substitute.
        started: called when the kernel begins to send requests.
        strict: collect unexpected exceptions in `bugs`, for tests that fail on them.

    Attributes:
        sessions: the open channels.
        timekeeper: runs the work that is due on the machine's clock.
    """

    supports_dot_lookup = False  # for NFS export only

    def __init__(
        self,
        tree: Tree,
        *,
        clock: Clock | None = None,
        cache: bool = True,
        invalidator: CacheInvalidator | None = None,
        started: Callable[[], None] = lambda: None,
        strict: bool = False,
    ) -> None:
        super().__init__()
        self.inodes = Inodes(tree, CACHE_TIMEOUT if cache else 0.0)
        self._refusals = tree.refusals
        self._faults = tree.faults
        self.kernel_cache = KernelCache(self.inodes, invalidator or FuseInvalidator())
        self._tree = tree
        self._proc = ProcFolder()
        self._waits = Waits(self._proc)
        self.sessions = Sessions(self._proc)
        tree.caller_of = Callers(self._proc).of_thread
        self.bugs: list[Exception] | None = [] if strict else None
        self._leaving = LeavingDisks(self.sessions)
        self.timekeeper = Timekeeper(clock or NoClock(), self.kernel_cache, self._leaving.request_begins, self._report)
        #: Runs the work that is due on the machine's clock.
        self.run_due = self.timekeeper.run_due
        self._started = started
        # Now, because a sandbox later mounts a /proc that does not show this process.
        self._xattrs = ExtendedAttributes(self.inodes, own_identity())
        self._numbers = itertools.count(1)
        self._files: dict[FileHandleT, OpenFile] = {}
        self._directories: dict[FileHandleT, OpenDirectory] = {}
        self._pollers = Pollers()
        self._caller = RequestCaller(0, 0, self._proc)
        tree.subscribe(self)

    async def stop(self) -> None:
        """The mount is about to end: wait for nothing that others do."""
        self._waits.end()
        self.sessions.stop()
        await self.kernel_cache.stop()

    def _report(self, bug: Exception) -> None:
        if isinstance(bug, OSError):
            log.warning("work that was due failed: %s", refused_by_host(bug))
            return
        log.error("a bug in nvdimmfs: work that was due failed", exc_info=bug)
        if self.bugs is not None:
            self.bugs.append(bug)

    # Notifications from the tree

    def added(self, directory: Directory, node: Node) -> None:
        """A node was added."""
        self.kernel_cache.added(directory, node)
        if isinstance(node, BinaryFile):
            self._leaving.added()

    def instantiated(self, directory: Directory, node: Node) -> None:
        """The kernel has cached nothing that would have changed."""
        self.inodes.instantiated(directory, node)

    def removed(self, directory: Directory, node: Node) -> None:
        """A node is being removed."""
        self.kernel_cache.removed(directory, node)
        if isinstance(node, BinaryFile):
            self._leaving.removed(node)

    def notified(self, node: Node) -> None:
        """Wake the processes that wait in poll(2) for a file."""
        self._pollers.wake(InodeT(node.ino))

    def poll_again(self) -> None:
        """Wake all processes that wait in poll(2)."""
        self._pollers.wake_all()

    def revoked(self, node: Node) -> None:
        """Take the pages from those that have them mapped; what they have changed is written first."""
        self.kernel_cache.revoked(node)

    def resetting(self) -> None:
        """Nothing to do: each change is reported."""

    def restored(self) -> None:
        """Modes and contents may have changed."""
        self.kernel_cache.restored()

    # Names and attributes

    def init(self) -> None:
        """The kernel begins to send requests."""
        self.timekeeper.clock.start()
        self._started()

    @fuse_handler
    def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        """ENOENT is not cached, so that a new name is visible at once."""
        node = self.inodes.directory(parent_inode).peek(name.decode(errors="surrogateescape"))
        if node is None:
            raise FUSEError(errno.ENOENT)
        inode = self.inodes.seen(node)
        self.inodes.refer(inode)
        return self.inodes.entry(inode)

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        for number, lookups in inode_list:
            self.inodes.forget(number, lookups)

    @fuse_handler
    def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """Also the answer to fstat(2), which looks the same: a thread is taken to ask for what it has open."""
        if inode in self.inodes.unreachable and self._has_open(ctx.pid, inode):
            return self.inodes.entry(self.inodes[inode])
        return self.inodes.entry(self.inodes.member(inode) or self.inodes.reached(inode))

    def _has_open(self, thread: int, inode: InodeT) -> bool:
        opened: list[OpenFile | OpenDirectory] = [*self._files.values(), *self._directories.values()]
        return any(each.opener == thread and each.node.ino == inode for each in opened)

    @fuse_handler
    def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Set the attributes, except the size: a new size only updates mtime.

        The kernel leaves it to this server to take away S_ISUID and S_ISGID when the owner changes, or an ordinary user
        truncates the file (`fuse.init_exchange`).  A request to set nothing asks for that alone: of chown(2) that names
        neither an owner nor a group, or of a write by an ordinary user.
        """
        target = self.inodes.reached(inode) if fh is None else self.inodes[inode]
        sets_owner = not (fields.update_mode or fields.update_size or fields.update_atime or fields.update_mtime)
        if sets_owner or (fields.update_size and ctx.uid):
            target.take_away_set_id()
        if fields.update_mode:
            target.node.mode = stat.S_IFMT(target.node.mode) | stat.S_IMODE(attr.st_mode)
        if fields.update_uid:
            target.uid = attr.st_uid
        if fields.update_gid:
            target.gid = attr.st_gid
        if fields.update_atime:
            target.atime_ns = attr.st_atime_ns
        if fields.update_size:
            target.modified()
        if fields.update_mtime:
            target.mtime_ns = attr.st_mtime_ns
        target.changed()
        return self.inodes.entry(target)

    @fuse_handler
    def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        member = self.inodes.member(inode)
        if member:
            return member.directory.text_of(member).encode(errors="surrogateescape")
        node = self.inodes.reached(inode).node
        if not isinstance(node, Symlink):
            raise FUSEError(errno.EINVAL)
        return node.text.encode(errors="surrogateescape")

    @fuse_handler
    def statfs(self, ctx: RequestContext) -> StatvfsData:
        """As simple_statfs (fs/libfs.c) answers for sysfs: all counts are 0."""
        answer = StatvfsData()
        answer.f_bsize = BLOCK_SIZE
        answer.f_frsize = BLOCK_SIZE
        answer.f_namemax = NAME_MAX
        return answer

    # Directories

    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """Wait while the kernel drops names, for which no process may be listing a directory."""
        await self.kernel_cache.directory_opens()
        handle: FileHandleT | None = None
        try:
            handle = await self._opendir(inode, ctx)
        finally:
            if handle is None:
                self.kernel_cache.directory_closed()
        return handle

    @fuse_handler
    def _opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """The kernel keeps nothing of what it lists for another user.

        It lists name by name, and caches each one only after it was copied to that user's memory, however late.  By
        then the node may have left the tree.
        """
        self.inodes.reached(inode)
        handle = next(self._numbers)
        may_cache = ctx.uid == self.inodes.uid
        self._directories[handle] = OpenDirectory(self.inodes.directory(inode), ctx.pid, may_cache=may_cache)
        return handle

    @fuse_handler
    def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """`.`, `..`, then the nodes in the order of the file system; an entry's number is the offset after it."""
        opened, inodes, reply = self._directories[fh], self.inodes, pyfuse3.readdir_reply
        entry = inodes.entry if opened.may_cache else inodes.uncached_entry
        for name, node, following in opened.entries(start_id):
            inode = inodes.seen(node)
            if not reply(token, name.encode("utf-8", "surrogateescape"), entry(inode), following):
                return
            if name not in _DOTS:
                inodes.refer(inode)

    @fuse_handler
    def releasedir(self, fh: FileHandleT) -> None:
        del self._directories[fh]
        self.kernel_cache.directory_closed()

    @fuse_handler
    def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        raise FUSEError(errno.EINVAL)

    # Files

    def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> Coroutine[object, object, FileInfo]:
        return self._open_late(inode, flags, ctx) if self._faults.delays else self._open(inode, flags, ctx)

    async def _open_late(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        caller = RequestCaller(ctx.uid, ctx.pid, self._proc)
        await self._waits.wait(open_delay(self.inodes.reached(inode).node, caller), ctx.pid)
        return await self._open(inode, flags, ctx)

    @fuse_handler
    def _open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """O_TRUNC updates mtime, and truncates nothing."""
        target = self.inodes.reached(inode)
        caller = self._caller
        if caller.thread != ctx.pid or caller.uid != ctx.uid:  # mostly the same one calls again
            caller = self._caller = RequestCaller(ctx.uid, ctx.pid, self._proc)
        try:
            if (tracer := self._tree.tracer) is None:
                opened = open_node(target.node, flags, caller)
            else:
                opened = traced_open(tracer, target.node, flags, ctx.pid, caller)
        except KernelError as refusal:
            self._refusals.report(refusal, "open", target.node.path, thread=ctx.pid)
            raise
        opened.opener = ctx.pid
        if flags & os.O_TRUNC:
            target.modified()
        if isinstance(opened, OpenChannel):
            self.sessions.opened(opened.session, ctx.pid)
        handle = next(self._numbers)
        self._files[handle] = opened
        return FileInfo(fh=handle, direct_io=opened.direct, keep_cache=False)

    def read(self, fh: FileHandleT, off: int, size: int) -> Coroutine[object, object, bytes]:
        is_late = self._faults.delays or self.kernel_cache.is_behind
        return self._read_late(fh, off, size) if is_late else self._read(fh, off, size)

    async def _read_late(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """A channel reports no change before the kernel has dropped what the change made stale.

        Otherwise a sandbox that learns of a new disk could reach, by its name, the one that a reset has removed.
        """
        opened = self._files[fh]
        if isinstance(opened, OpenChannel):
            await self.kernel_cache.invalidate_postponed()
        await self._waits.wait(read_delay(opened, off), opened.opener)
        return await self._read(fh, off, size)

    @fuse_handler
    def _read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        opened = self._files[fh]
        try:
            if (tracer := self._tree.tracer) is None:
                if opened.direct:
                    return opened.read(off, size)
                return self._read_bytes(cast("OpenBinaryFile", opened), off, size)
            return traced_read(tracer, opened, off, size)
        except (KernelError, OSError) as refusal:
            self._refusals.report(refusal, "read", opened.node.path, thread=opened.opener)
            raise

    def _read_bytes(self, opened: OpenBinaryFile, off: int, size: int) -> bytes:
        """pyfuse3 copies the bytes into its reply, of any buffer, unless the reply waits for an invalidation."""
        if self.kernel_cache.stale is not None:
            return opened.read(off, size)
        return cast("bytes", opened.view(off, size))

    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        """One store after the other, each of which ends when every sandbox has updated the nodes in its /dev."""
        if self._faults.delays:
            opened = self._files[fh]
            await self._waits.wait(write_delay(opened), opened.opener)
        write = functools.partial(self._write, fh, off, buf)
        if isinstance(self._files[fh], OpenBinaryFile):
            return await write()
        if isinstance(self._files[fh], OpenChannel):
            return await self._leaving.during(write)
        return await self._leaving.one_store(write)

    @fuse_handler
    def _write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        opened = self._files[fh]
        try:
            if (tracer := self._tree.tracer) is None:
                return self._write_to(opened, off, buf)
            return traced_write(tracer, opened, off, buf, lambda offset, data: self._write_to(opened, offset, data))
        except (KernelError, OSError) as refusal:
            self._refusals.report(refusal, "write", opened.node.path, thread=opened.opener, data=buf)
            raise

    def _write_to(self, opened: OpenFile, off: int, buf: bytes) -> int:
        if isinstance(opened, OpenBinaryFile):
            return self._write_bytes(opened, off, buf)
        self._leaving.request_begins()
        if isinstance(opened, OpenAttribute) and off > ATTRIBUTE_SIZE:
            self.kernel_cache.size_moved(opened.node)
        try:
            return opened.write(off, buf)
        except KernelError as refusal:
            log.info("a write to %s is refused: %s", opened.node.path, refusal)  # the caller gets the errno only
            raise
        finally:
            if isinstance(opened, OpenChannel):
                self.sessions.message_received(opened.session)

    def _write_bytes(self, opened: OpenBinaryFile, off: int, buf: bytes) -> int:
        self.inodes[opened.node.ino].modified()
        if self._leaving.accepts(opened.node):
            self.sessions.wrote_back(len(buf))
            return opened.write_late(off, buf)
        return opened.write(off, buf)

    @fuse_handler
    def flush(self, fh: FileHandleT) -> None:
        """close(2) has nothing to do here.  After one ENOSYS the kernel sends no more flush requests."""
        raise FUSEError(errno.ENOSYS)

    @fuse_handler
    def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        opened = self._files[fh]
        is_late = isinstance(opened, OpenBinaryFile) and self._leaving.accepts(opened.node)
        sync = opened.sync_late if isinstance(opened, OpenBinaryFile) and is_late else opened.sync
        if (tracer := self._tree.tracer) is None:
            sync()
        else:
            traced_sync(tracer, opened, sync)

    @fuse_handler
    def release(self, fh: FileHandleT) -> None:
        opened = self._files.pop(fh, None)
        if isinstance(opened, OpenChannel):
            self.sessions.closed(opened.session)
        if opened is not None and self._pollers.are_waiting:
            self._pollers.remove(InodeT(opened.node.ino), fh)

    @fuse_handler
    def poll(
        self,
        inode: InodeT,
        fh: FileHandleT,
        poll_handle: PollHandle | None,
        ctx: RequestContext,
    ) -> int:
        """Never ENOSYS: after one, the kernel would poll no file of this mount any more.

        A new handle replaces the previous one of the same open file, because the kernel keeps one wait queue per file.
        With a handle, the process waits if it is interested only in notifications; FUSE does not pass its events on.
        """
        opened = self._files[fh]
        if (tracer := self._tree.tracer) is None:
            return self._poll(inode, fh, opened, poll_handle)
        return traced_poll(tracer, opened, ctx.pid, lambda: self._poll(inode, fh, opened, poll_handle))

    def _poll(self, inode: InodeT, fh: FileHandleT, opened: OpenFile, poll_handle: PollHandle | None) -> int:
        if poll_handle is not None:
            self._pollers.add(inode, fh, poll_handle)
            if isinstance(opened, OpenAttribute):
                self.timekeeper.clock.wait_until(lambda: opened.is_notified)
        return opened.ready()

    # Extended attributes

    @fuse_handler
    def setxattr(self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext) -> None:
        self._xattrs.set(inode, name, value)

    @fuse_handler
    def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        return self._xattrs.get(inode, name)

    @fuse_handler
    def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        return self._xattrs.names(inode, ctx.uid)

    @fuse_handler
    def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        self._xattrs.remove(inode, name)
