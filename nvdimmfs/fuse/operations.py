"""The FUSE requests, answered as Linux's sysfs answers them to root."""

# ruff: noqa: ARG002  # what a handler is given is for pyfuse3 to say

from __future__ import annotations

import errno
import itertools
import logging
import os
import stat
from collections.abc import Callable, Sequence

import pyfuse3
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    ModeT,
    PollHandle,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
    XAttrNameT,
)

from nvdimmfs.errors import KernelError
from nvdimmfs.fuse.border import answered
from nvdimmfs.fuse.identity import DAEMON_XATTR, own_identity
from nvdimmfs.fuse.inode import BLOCK_SIZE, CACHE_TIMEOUT, Inodes
from nvdimmfs.fuse.kernel_cache import Kernel, KernelCache, MountedKernel
from nvdimmfs.fuse.open_file import OpenAttribute, OpenBinaryFile, OpenChannel, OpenDirectory, OpenFile
from nvdimmfs.fuse.pollers import Pollers
from nvdimmfs.fuse.sessions import Sessions
from nvdimmfs.fuse.timekeeping import Clock, NoClock, Timekeeper
from nvdimmfs.kernfs import ATTRIBUTE_SIZE, Attribute, BinaryFile, Channel, Directory, Node, Symlink, Tree

log = logging.getLogger(__name__)

#: Longest name (NAME_MAX, include/uapi/linux/limits.h); statfs(2) tells it.
NAME_MAX = 255

#: Namespaces of extended attributes that kernfs stores (kernfs_xattr_handlers, fs/kernfs/inode.c, Linux 6.1).
_STORED_XATTRS = (b"trusted.", b"security.")
#: ... and those that it knows.
_XATTR_NAMESPACES = (*_STORED_XATTRS, b"user.")


class Operations(pyfuse3.Operations):
    """A tree as a file system.

    sysfs lets nobody make, rename or remove a file: the errnos below are what a real 6.1 kernel gave to root.  The
    rest is kernfs: chmod(2), chown(2) and utimensat(2) are taken and kept, truncation and O_TRUNC are taken and
    ignored, one write(2) is one store whatever its offset.  The kernel checks permissions (default_permissions).

    Two requests could be spared by answering them with ENOSYS once.  close(2) is: its flush is a third of the time of
    open, read and close (70 of 210 microseconds).  opendir(2) is not, although it takes 130 of the 430 microseconds of
    listing 24 names: without its handle pyfuse3 does not tell `readdir` which directory is meant.  The names and
    attributes that a listing brings are cached all the same.

    Args:
        tree: what to show.
        clock: the machine's clock; None for a tree in which nothing happens later.
        cache: whether the kernel may keep names and attributes; False sends every stat(2) here.
        kernel: how to make the kernel forget; tests bring their own.
        started: called when the kernel begins to send requests.
        strict: keep unexpected exceptions in `bugs`, for tests that want none.

    Attributes:
        sessions: the open channels.
        timekeeper: has the machine's clock do what is due.
    """

    supports_dot_lookup = False  # for NFS export only

    def __init__(
        self,
        tree: Tree,
        *,
        clock: Clock | None = None,
        cache: bool = True,
        kernel: Kernel | None = None,
        started: Callable[[], None] = lambda: None,
        strict: bool = False,
    ) -> None:
        super().__init__()
        self.inodes = Inodes(tree, CACHE_TIMEOUT if cache else 0.0)
        self.kernel_cache = KernelCache(self.inodes, kernel or MountedKernel())
        self.sessions = Sessions()
        self.bugs: list[Exception] | None = [] if strict else None
        self.timekeeper = Timekeeper(clock or NoClock(), self.kernel_cache, self._report)
        self._started = started
        self._identity = own_identity()  # now: in a sandbox, /proc will be that of processes among which this is none
        self._numbers = itertools.count(1)
        self._files: dict[FileHandleT, OpenFile] = {}
        self._directories: dict[FileHandleT, OpenDirectory] = {}
        self._pollers = Pollers()
        self._leaving: set[BinaryFile] = set()
        tree.subscribe(self)

    def run_due(self) -> None:
        """Do what is due by now."""
        self.timekeeper.run_due()

    def _report(self, bug: Exception) -> None:
        log.error("a bug in nvdimmfs: what was due", exc_info=bug)
        if self.bugs is not None:
            self.bugs.append(bug)

    # What the tree tells

    def added(self, directory: Directory, node: Node) -> None:
        """A node has appeared."""
        self.kernel_cache.added(directory, node)

    def instantiated(self, directory: Directory, node: Node) -> None:
        """The kernel remembers nothing of a node that nobody has seen."""

    def removed(self, directory: Directory, node: Node) -> None:
        """A node leaves."""
        self.kernel_cache.removed(directory, node)
        if isinstance(node, BinaryFile):
            self._leaving.add(node)

    def notified(self, node: Node) -> None:
        """Wake the processes that wait in poll(2) for a file."""
        self._pollers.wake(InodeT(node.ino))

    # Names and attributes

    def init(self) -> None:
        """The kernel is there."""
        self.timekeeper.clock.start()
        self._started()

    @answered
    def lookup(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> EntryAttributes:
        """ENOENT is not cached, so that names may appear at any time."""
        node = self.inodes.directory(parent_inode).get(name.decode(errors="surrogateescape"))
        if node is None:
            raise FUSEError(errno.ENOENT)
        inode = self.inodes.of(node)
        inode.lookups += 1
        return self.inodes.entry(inode)

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        for number, lookups in inode_list:
            self.inodes.forget(number, lookups)

    @answered
    def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        return self.inodes.entry(self.inodes[inode])

    @answered
    def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """Keep what is set; a new size is only noted, in mtime."""
        target = self.inodes[inode]
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

    @answered
    def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        node = self.inodes[inode].node
        if not isinstance(node, Symlink):
            raise FUSEError(errno.EINVAL)
        return node.text.encode(errors="surrogateescape")

    @answered
    def statfs(self, ctx: RequestContext) -> StatvfsData:
        """What simple_statfs (fs/libfs.c) tells of sysfs: nothing is stored, so nothing is full."""
        answer = StatvfsData()
        answer.f_bsize = BLOCK_SIZE
        answer.f_frsize = BLOCK_SIZE
        answer.f_namemax = NAME_MAX
        return answer

    # Directories

    @answered
    def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        handle = next(self._numbers)
        self._directories[handle] = OpenDirectory(self.inodes.directory(inode))
        return handle

    @answered
    def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """`.`, `..`, then the nodes; an entry's number is its position in the listing."""
        opened = self._directories[fh]
        nodes = opened.listing(start_id)
        directory = opened.directory
        dots = ((b".", directory), (b"..", directory.parent or directory))
        for position, (name, dot) in list(enumerate(dots))[start_id:]:
            if not pyfuse3.readdir_reply(token, name, self.inodes.entry(self.inodes.of(dot)), position + 1):
                return
        for position in range(max(0, start_id - len(dots)), len(nodes)):
            node = nodes[position]
            if node.parent is not directory:
                continue
            inode = self.inodes.of(node)
            name = node.name.encode(errors="surrogateescape")
            if not pyfuse3.readdir_reply(token, name, self.inodes.entry(inode), position + len(dots) + 1):
                return
            inode.lookups += 1

    @answered
    def releasedir(self, fh: FileHandleT) -> None:
        self._directories.pop(fh, None)

    @answered
    def fsyncdir(self, fh: FileHandleT, datasync: bool) -> None:
        raise FUSEError(errno.EINVAL)

    # Files

    @answered
    def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """O_TRUNC is noted in mtime, and truncates nothing."""
        target = self.inodes[inode]
        opened = _opened(target.node, flags)
        if flags & os.O_TRUNC:
            target.modified()
        if isinstance(opened, OpenChannel):
            self.sessions.opened(opened.session)
        handle = next(self._numbers)
        self._files[handle] = opened
        if not isinstance(opened, OpenChannel):
            self.timekeeper.sleepers.opened(handle, ctx.pid)
        return FileInfo(fh=handle, direct_io=opened.direct, keep_cache=False)

    @answered
    def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        self.timekeeper.acted(fh)
        return self._files[fh].read(off, size)

    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        """Answered once every sandbox has acted on what a store changed: then the nodes in its /dev are there.

        Until then, a disk that goes takes what a sandbox has still in the page cache of its block device: as when the
        kernel removes a disk, which writes its page cache back first (del_gendisk, block/genhd.c, Linux 6.1).
        """
        try:
            return await self._write(fh, off, buf)
        finally:
            if self.sessions.behind and isinstance(self._files.get(fh), OpenAttribute):
                await self.sessions.catch_up()
            if not self.sessions.behind:
                self._leaving.clear()

    @answered
    def _write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        opened = self._files[fh]
        self.timekeeper.acted(fh)
        if isinstance(opened, OpenAttribute):
            if off > ATTRIBUTE_SIZE:
                self.kernel_cache.size_moved(opened.node)
        elif isinstance(opened, OpenBinaryFile):
            self.inodes[opened.node.ino].modified()
            if opened.node in self._leaving and self.sessions.behind:
                return opened.write_late(off, buf)
        elif isinstance(opened, OpenChannel):
            self.sessions.spoke()
        try:
            return opened.write(off, buf)
        except KernelError as refusal:
            log.info("a write to %s is refused: %s", opened.node.path, refusal)  # the caller gets a bare errno
            raise

    @answered
    def flush(self, fh: FileHandleT) -> None:
        """Nothing waits here for close(2).  ENOSYS says so once and for all, and spares a request a file."""
        raise FUSEError(errno.ENOSYS)

    @answered
    def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        self._files[fh].sync()

    @answered
    def release(self, fh: FileHandleT) -> None:
        opened = self._files.pop(fh, None)
        self.timekeeper.sleepers.closed(fh)
        if isinstance(opened, OpenChannel):
            self.sessions.closed(opened.session)
        if isinstance(opened, OpenAttribute | OpenChannel):
            self._pollers.remove(InodeT(opened.node.ino), fh)

    @answered
    def poll(
        self,
        inode: InodeT,
        fh: FileHandleT,
        poll_handle: PollHandle | None,
        ctx: RequestContext,
    ) -> int:
        """Never ENOSYS: the kernel would remember it, and nothing could be polled any more.

        A new handle takes the place of the last one for the same open file: the kernel keeps one waiting list for it.
        With a handle, the process waits if it is interested in nothing but notifications, which is not known here.
        """
        opened = self._files[fh]
        if poll_handle is not None:
            self._pollers.add(inode, fh, poll_handle)
            if isinstance(opened, OpenAttribute):
                self.timekeeper.clock.wait_until(lambda: opened.is_notified)
        return opened.ready()

    # What sysfs has no room for

    @answered
    def create(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: ModeT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> tuple[FileInfo, EntryAttributes]:
        raise FUSEError(errno.EACCES)

    @answered
    def mknod(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: ModeT,
        rdev: int,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """A regular file is created rather than made, hence its other errno (vfs_create and vfs_mknod, fs/namei.c)."""
        raise FUSEError(errno.EACCES if stat.S_ISREG(mode) else errno.EPERM)

    @answered
    def mkdir(self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext) -> EntryAttributes:
        raise FUSEError(errno.EPERM)

    @answered
    def symlink(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        target: FileNameT,
        ctx: RequestContext,
    ) -> EntryAttributes:
        raise FUSEError(errno.EPERM)

    @answered
    def link(
        self,
        inode: InodeT,
        new_parent_inode: InodeT,
        new_name: FileNameT,
        ctx: RequestContext,
    ) -> EntryAttributes:
        raise FUSEError(errno.EPERM)

    @answered
    def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        raise FUSEError(errno.EPERM)

    @answered
    def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        raise FUSEError(errno.EPERM)

    @answered
    def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        """No flag of renameat2(2) is known here."""
        raise FUSEError(errno.EINVAL if flags else errno.EPERM)

    # Extended attributes

    @answered
    def setxattr(self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext) -> None:
        _check_xattr_name(name)
        if not name.startswith(_STORED_XATTRS):
            raise FUSEError(errno.ENOTSUP)
        self.inodes[inode].xattrs[name] = value

    @answered
    def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        """user.* has never been set, whereas other namespaces do not exist; only the root knows `DAEMON_XATTR`."""
        if inode == pyfuse3.ROOT_INODE and name == DAEMON_XATTR.encode():
            return self._identity
        _check_xattr_name(name)
        if not name.startswith(_XATTR_NAMESPACES):
            raise FUSEError(errno.ENOTSUP)
        value = self.inodes[inode].xattrs.get(name)
        if value is None:
            raise FUSEError(errno.ENODATA)
        return value

    @answered
    def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        """trusted.* is for root's eyes only."""
        names = self.inodes[inode].xattrs
        return [name for name in names if ctx.uid == 0 or not name.startswith(b"trusted.")]

    @answered
    def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        _check_xattr_name(name)
        if not name.startswith(_STORED_XATTRS):
            raise FUSEError(errno.ENOTSUP)
        if self.inodes[inode].xattrs.pop(name, None) is None:
            raise FUSEError(errno.ENODATA)


def _check_xattr_name(name: XAttrNameT) -> None:
    """EINVAL for a namespace without a name in it."""
    if name in _XATTR_NAMESPACES:
        raise FUSEError(errno.EINVAL)


def _opened(node: Node, flags: FlagT) -> OpenFile:
    if isinstance(node, Attribute):
        return OpenAttribute(node, flags)
    if isinstance(node, BinaryFile):
        return OpenBinaryFile(node, flags)
    if isinstance(node, Channel):
        return OpenChannel(node)
    raise FUSEError(errno.EINVAL)
