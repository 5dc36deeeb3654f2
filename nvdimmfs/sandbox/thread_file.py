"""The open files of another thread, as /proc shows them.

A descriptor can be that of another file at the next look.  So it is looked up once, and the file is held open by an
O_PATH descriptor.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator

from attrs import evolve, field, frozen

from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.device_node import NodeNumber

#: How often to look again when another thread has replaced a descriptor in the middle of a look.
_LOOKS = 16

#: Flags, mount and inode in fdinfo (seq_show, fs/proc/fd.c, since Linux 5.14).
_FDINFO = re.compile(rb"^flags:\t(\d+)\n(mnt_id:\t\d+\nino:\t\d+\n)", re.MULTILINE)

#: Bytes of a file in /proc to read at once.  The fields of fdinfo that matter here are in its first 100 bytes.
PROC_BUFFER = 1 << 16


@frozen
class ThreadFile:
    """An open file of the calling thread, held by an O_PATH descriptor of this process.

    Such a descriptor never calls the file system, neither when it is opened nor when it is closed: a file of a file
    system that does not answer can be looked at without waiting.  (A descriptor from pidfd_getfd(2) would wait in
    close(2) for the flush of a FUSE file.)

    Attributes:
        descriptor: the O_PATH descriptor.
        proc: an open /proc that shows this process.
        status: what statx(2) returns without asking the file system; kind and number of a file never change.
        flags: the flags with which the thread has the file open.
        inode: what fdinfo shows of its mount and its inode number.
        kind: `char` or `block` for a device that accepts requests; empty for anything else, O_PATH files included.
        number: the number of the device.
    """

    descriptor: int
    proc: int
    status: libc.FileStatus
    flags: int
    inode: bytes = b""
    kind: str = field(init=False)
    number: NodeNumber = field(init=False)

    def is_shown_by(self, fdinfo: bytes) -> bool:
        """Whether that is a file's fdinfo, and it was opened with the same flags."""
        return _OpenFile.of(fdinfo) == _OpenFile(self.flags, self.inode)

    def duplicate(self) -> ThreadFile:
        """The same, held by another descriptor."""
        return evolve(self, descriptor=os.dup(self.descriptor))

    @property
    def is_readable(self) -> bool:
        return not self.flags & os.O_PATH and self.flags & os.O_ACCMODE in (os.O_RDONLY, os.O_RDWR)

    @property
    def is_writable(self) -> bool:
        """Whether it can be written to.  A file with the access mode 3 is neither readable nor writable (open(2))."""
        return not self.flags & os.O_PATH and self.flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)

    @property
    def is_read_only(self) -> bool:
        """Whether it was opened with O_RDONLY, which is what nd_ioctl looks at (drivers/nvdimm/bus.c, Linux 6.1)."""
        return self.flags & os.O_ACCMODE == os.O_RDONLY

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.status.mode)

    @kind.default
    def _kind(self) -> str:
        if self.flags & os.O_PATH:
            return ""
        return {stat.S_IFCHR: "char", stat.S_IFBLK: "block"}.get(stat.S_IFMT(self.status.mode), "")

    @number.default
    def _number(self) -> NodeNumber:
        return NodeNumber.of(self.status.rdev)

    @property
    def path(self) -> str:
        """The path of the file, as /proc shows it."""
        return os.readlink(self._link, dir_fd=self.proc)

    def reopen(self) -> int:
        """Open the same file anew, read-only, and return the descriptor.  This may wait for the file system."""
        return os.open(self._link, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=self.proc)

    @property
    def _link(self) -> str:
        return f"self/fd/{self.descriptor}"


def open_file(directory: int, proc: int, descriptor: int, held: contextlib.ExitStack) -> ThreadFile | None:
    """The open file of a descriptor, until `held` is closed; None when the descriptor is not open."""
    for _ in range(_LOOKS):
        try:
            file = os.open(f"fd/{descriptor}", os.O_PATH | os.O_CLOEXEC, dir_fd=directory)
        except OSError:
            return None
        held.callback(os.close, file)
        try:
            theirs = _OpenFile.read(directory, f"fdinfo/{descriptor}")
        except OSError:
            return None
        own = _OpenFile.read(proc, f"self/fdinfo/{file}")
        if theirs is not None and own is not None and theirs.inode == own.inode:
            return ThreadFile(file, proc, libc.file_status(file), theirs.flags, theirs.inode)
    return None


def open_files(directory: int, proc: int) -> Iterator[ThreadFile]:
    """The files that a process has open, each until the next one.

    Args:
        directory: its directory in /proc.
        proc: an open /proc that shows this process.
    """
    for descriptor in numbers_in(directory, "fd"):
        with contextlib.ExitStack() as held:
            file = open_file(directory, proc, int(descriptor), held)
            if file is not None:
                yield file


def numbers_in(directory: int, name: str) -> list[str]:
    """The names in a directory below /proc that are numbers."""
    opened = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return [each for each in os.listdir(opened) if each.isdecimal()]  # noqa: PTH208  # it is open
    finally:
        os.close(opened)


def contents(directory: int, name: str) -> bytes:
    """The beginning of a file in /proc, read at once: the next read might show something else."""
    file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(file, PROC_BUFFER)
    finally:
        os.close(file)


@frozen
class _OpenFile:
    """What fdinfo shows of an open file.

    Attributes:
        flags: with which it is open.
        inode: the text of its mount and inode number.
    """

    flags: int
    inode: bytes

    @classmethod
    def read(cls, directory: int, name: str) -> _OpenFile | None:
        """None where the kernel does not show the inode."""
        return cls.of(contents(directory, name))

    @classmethod
    def of(cls, text: bytes) -> _OpenFile | None:
        """From the text of fdinfo, likewise."""
        found = _FDINFO.search(text)
        return found and cls(int(found[1], 8), found[2])


def shows_inode_numbers() -> bool:
    """Whether fdinfo shows the inode of an open file (Linux 5.14 and later)."""
    own = os.open("/proc/self/fdinfo", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _OpenFile.read(own, str(own)) is not None
    finally:
        os.close(own)
