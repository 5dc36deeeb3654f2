"""The FUSE requests that sysfs refuses: to create, rename and remove files."""

# ruff: noqa: ARG002  # pyfuse3 determines the arguments of a handler

from __future__ import annotations

import errno
import stat
from collections.abc import Callable

import pyfuse3
from pyfuse3 import EntryAttributes, FileInfo, FileNameT, FlagT, FUSEError, InodeT, ModeT, RequestContext

from nvdimmfs.fuse.handler import fuse_handler
from nvdimmfs.fuse.kernel_cache import KernelCache


class RefusedOperations(pyfuse3.Operations):
    """What no user may do in sysfs, with the errnos that a real 6.1 kernel returned to root.

    Attributes:
        kernel_cache, bugs, run_due: see `HandlerHost`.
    """

    kernel_cache: KernelCache
    bugs: list[Exception] | None
    run_due: Callable[[], None]

    @fuse_handler
    def create(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: ModeT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> tuple[FileInfo, EntryAttributes]:
        raise FUSEError(errno.EACCES)

    @fuse_handler
    def mknod(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: ModeT,
        rdev: int,
        ctx: RequestContext,
    ) -> EntryAttributes:
        """EACCES for a regular file, which vfs_create would create; EPERM for others, by vfs_mknod (fs/namei.c)."""
        raise FUSEError(errno.EACCES if stat.S_ISREG(mode) else errno.EPERM)

    @fuse_handler
    def mkdir(self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext) -> EntryAttributes:
        raise FUSEError(errno.EPERM)

    @fuse_handler
    def symlink(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        target: FileNameT,
        ctx: RequestContext,
    ) -> EntryAttributes:
        raise FUSEError(errno.EPERM)

    @fuse_handler
    def link(
        self,
        inode: InodeT,
        new_parent_inode: InodeT,
        new_name: FileNameT,
        ctx: RequestContext,
    ) -> EntryAttributes:
        raise FUSEError(errno.EPERM)

    @fuse_handler
    def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        raise FUSEError(errno.EPERM)

    @fuse_handler
    def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        raise FUSEError(errno.EPERM)

    @fuse_handler
    def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        """EINVAL for any flag of renameat2(2)."""
        raise FUSEError(errno.EINVAL if flags else errno.EPERM)
