"""A FUSE file system over a folder that fails and dawdles as one on a network does.

    distant_files.py FOLDER MOUNTPOINT FAULTS

FAULTS is a file that is looked at for each request, with a fault a line: the name of a request, and `late` (it is
carried out after a moment), `never` (it is not answered), or the name of an errno.  Prints a line once it is mounted,
and another one for each request that is not answered.

As an NFS before version 4.2, it can neither allocate nor deallocate ranges of files, nor find holes.
"""

from __future__ import annotations

import errno
import functools
import itertools
import os
import sys
from pathlib import Path

import pyfuse3
import trio
from fuse_program import serve
from pyfuse3 import FUSEError

#: Seconds of `late`.
_LATE = 0.02


def request(handler):
    """A handler whose request may meet a fault; an OSError is its answer."""

    @functools.wraps(handler)
    async def handle(self, *arguments):
        await self.meet_fault(handler.__name__)
        try:
            return handler(self, *arguments)
        except OSError as failure:
            raise FUSEError(failure.errno) from None

    return handle


class Operations(pyfuse3.Operations):
    """The files of a folder, by numbers that are given once.

    The folder's own inode numbers will not do: its file system gives that of a removed file to the next one, which the
    kernel, and `paths`, would take for the removed one.
    """

    def __init__(self, folder: Path, faults: Path) -> None:
        super().__init__()
        self.paths = {pyfuse3.ROOT_INODE: folder}
        self.numbers = {folder: pyfuse3.ROOT_INODE}
        self.new_numbers = itertools.count(pyfuse3.ROOT_INODE + 1)
        self.faults = faults

    async def meet_fault(self, name: str) -> None:
        faults = dict(line.split() for line in self.faults.read_text().splitlines())
        match faults.get(name, faults.get("all", "")):
            case "":
                return
            case "late":
                await trio.sleep(_LATE)
            case "never":
                print(name, flush=True)
                await trio.sleep_forever()
            case number:
                raise FUSEError(getattr(errno, number))

    def entry(self, path: Path):
        found = path.lstat()
        entry = pyfuse3.EntryAttributes()
        if path not in self.numbers:
            self.place(next(self.new_numbers), path)
        entry.st_ino = self.numbers[path]
        entry.st_mode, entry.st_nlink, entry.st_size = found.st_mode, found.st_nlink, found.st_size
        entry.st_uid, entry.st_gid, entry.st_blocks = found.st_uid, found.st_gid, found.st_blocks
        entry.st_mtime_ns, entry.st_ctime_ns, entry.st_atime_ns = (
            found.st_mtime_ns,
            found.st_ctime_ns,
            found.st_atime_ns,
        )
        return entry

    def place(self, number: int, path: Path) -> None:
        self.paths[number] = path
        self.numbers[path] = number

    def displace(self, path: Path) -> int:
        """Give up the number of a path, which names no file any more.  Returns the number."""
        number = self.numbers.pop(path)
        del self.paths[number]
        return number

    def path(self, number: int) -> Path:
        try:
            return self.paths[number]
        except KeyError:
            raise FUSEError(errno.ESTALE) from None

    def at(self, parent: int, name: bytes) -> Path:
        return self.path(parent) / os.fsdecode(name)

    @request
    def lookup(self, parent, name, ctx):
        return self.entry(self.at(parent, name))

    @request
    def getattr(self, inode, ctx):
        return self.entry(self.path(inode))

    @request
    def setattr(self, inode, attr, fields, fh, ctx):
        if fields.update_size:
            os.truncate(self.path(inode), attr.st_size)
        if fields.update_mode:
            self.path(inode).chmod(attr.st_mode & 0o7777)
        return self.entry(self.path(inode))

    @request
    def statfs(self, ctx):
        found, answer = os.statvfs(self.paths[pyfuse3.ROOT_INODE]), pyfuse3.StatvfsData()
        for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail"):
            setattr(answer, name, getattr(found, name))
        return answer

    async def opendir(self, inode, ctx):
        return inode

    async def readdir(self, fh, start_id, token):
        for number, path in enumerate(sorted(self.paths[fh].iterdir()), 1):
            if number > start_id and not pyfuse3.readdir_reply(token, os.fsencode(path.name), self.entry(path), number):
                return

    async def releasedir(self, fh):
        """Nothing is kept."""

    async def fsyncdir(self, fh, datasync):
        await self.meet_fault("fsyncdir")

    @request
    def open(self, inode, flags, ctx):
        return pyfuse3.FileInfo(fh=os.open(self.path(inode), flags & ~(os.O_CREAT | os.O_APPEND)))

    @request
    def create(self, parent, name, mode, flags, ctx):
        path = self.at(parent, name)
        return pyfuse3.FileInfo(fh=os.open(path, flags | os.O_CREAT, mode)), self.entry(path)

    @request
    def read(self, fh, offset, size):
        return os.pread(fh, size, offset)

    @request
    def write(self, fh, offset, data):
        return os.pwrite(fh, data, offset)

    @request
    def fsync(self, fh, datasync):
        os.fsync(fh)

    @request
    def flush(self, fh):
        """Only a fault can make it fail."""

    async def release(self, fh):
        os.close(fh)

    @request
    def unlink(self, parent, name, ctx):
        path = self.at(parent, name)
        path.unlink()
        self.displace(path)

    @request
    def rmdir(self, parent, name, ctx):
        path = self.at(parent, name)
        path.rmdir()
        self.displace(path)

    @request
    def mkdir(self, parent, name, mode, ctx):
        self.at(parent, name).mkdir(mode)
        return self.entry(self.at(parent, name))

    @request
    def rename(self, old_parent, old_name, parent, name, flags, ctx):
        old, new = self.at(old_parent, old_name), self.at(parent, name)
        old.rename(new)
        if new in self.numbers:
            self.displace(new)
        self.place(self.displace(old), new)


def main() -> None:
    folder, mountpoint, faults = map(Path, sys.argv[1:])
    serve(Operations(folder, faults), str(mountpoint), {"fsname=distant", "default_permissions"})


if __name__ == "__main__":
    main()
