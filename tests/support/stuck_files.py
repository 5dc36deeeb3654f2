"""A FUSE file system of one file, of which some requests are never answered.

    stuck_files.py MOUNTPOINT never-read | never-written

Prints a line once the file, `MOUNTPOINT/file`, is there, and another one for the first request that stays unanswered.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

import pyfuse3
import trio
from fuse_program import serve

FILE = pyfuse3.InodeT(2)
SIZE = 1 << 16
NEVER_READ = "never-read"


class Operations(pyfuse3.Operations):
    """A root directory with one file in it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    async def getattr(self, inode, ctx=None):
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        entry.st_mode = stat.S_IFREG | 0o666 if inode == FILE else stat.S_IFDIR | 0o755
        entry.st_nlink = 1
        entry.st_size = SIZE if inode == FILE else 0
        entry.st_uid, entry.st_gid = os.getuid(), os.getgid()
        return entry

    async def setattr(self, inode, attr, fields, fh, ctx):
        return await self.getattr(inode)

    async def lookup(self, parent_inode, name, ctx=None):
        if name != b"file":
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(FILE)

    async def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(1), keep_cache=True)

    async def flush(self, fh):
        raise pyfuse3.FUSEError(errno.ENOSYS)

    async def read(self, fh, off, size):
        if self.kind == NEVER_READ:
            await never()
        return bytes(size)

    async def write(self, fh, off, buf):
        await never()


async def never():
    print("asked", flush=True)
    await trio.sleep_forever()


def main() -> None:
    mountpoint, kind = sys.argv[1:]
    options = {"fsname=stuck", "default_permissions"} | ({"allow_other"} if os.getuid() == 0 else set())
    serve(Operations(kind), mountpoint, options)


if __name__ == "__main__":
    main()
