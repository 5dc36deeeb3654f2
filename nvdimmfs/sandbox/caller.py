"""The thread whose system call waits for an answer: its memory, its open files and its rights."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from attrs import frozen

from nvdimmfs.sandbox import syscalls
from nvdimmfs.sandbox.node import NodeNumber

_PAGE = 4096


@frozen
class OpenFile:
    """A descriptor of the caller's.

    Attributes:
        place: where its file can be opened anew, below /proc.
        status: what fstat(2) tells.
        flags: as in open(2).
    """

    place: str
    status: os.stat_result
    flags: int

    @property
    def is_readable(self) -> bool:
        return not self.flags & os.O_PATH and self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def is_writable(self) -> bool:
        return not self.flags & os.O_PATH and self.flags & os.O_ACCMODE != os.O_RDONLY

    @property
    def kind(self) -> str:
        """`char` or `block` for a device that can be used; empty for anything else."""
        if self.flags & os.O_PATH:
            return ""
        return {stat.S_IFCHR: "char", stat.S_IFBLK: "block"}.get(stat.S_IFMT(self.status.st_mode), "")

    @property
    def number(self) -> NodeNumber:
        """A device's number."""
        return NodeNumber(os.major(self.status.st_rdev), os.minor(self.status.st_rdev))


@frozen
class Caller:
    """A thread that waits.  A thread id may be given out again, so whatever is learnt of it is checked afterwards.

    Attributes:
        thread: its id.
        proc: an open /proc in which it is.
        still_waits: whether it is still there.
    """

    thread: int
    proc: int
    still_waits: Callable[[], bool]

    def read(self, address: int, length: int) -> bytes:
        """Its memory.  EFAULT where there is none, ESRCH when the caller has gone."""
        data = syscalls.read_memory(self.thread, address, length)
        self._check()
        return data

    def write(self, address: int, data: bytes) -> None:
        """Change its memory.  EFAULT where there is none, or may not be written; ESRCH when the caller has gone."""
        self._check()
        syscalls.write_memory(self.thread, address, data)

    def text(self, address: int, length: int) -> bytes:
        """A text that ends with a NUL, without that, or its first bytes up to a length; errors as `read`."""
        text = bytearray()
        while b"\0" not in text and len(text) < length:
            rest_of_page = _PAGE - (address + len(text)) % _PAGE
            text += self.read(address + len(text), min(length - len(text), rest_of_page))
        return bytes(text.partition(b"\0")[0])

    def file(self, descriptor: int) -> OpenFile | None:
        """An open file; None when there is none of that number.  ESRCH when the caller has gone."""
        place = f"{self.thread}/fd/{descriptor}"
        try:
            status = os.stat(place, dir_fd=self.proc)
            flags = int(self._field(f"fdinfo/{descriptor}", "flags"), 8)
        except (OSError, ValueError):
            return None
        self._check()
        return OpenFile(place, status, flags)

    def open(self, file: OpenFile) -> int:
        """Open one of its files anew, for reading."""
        return os.open(file.place, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=self.proc)

    def path(self, file: OpenFile) -> str:
        """What one of its files is called."""
        return os.readlink(file.place, dir_fd=self.proc)

    def has_capability(self, number: int) -> bool:
        """Whether it has a capability in this process's user namespace; one that it made itself gives it none."""
        effective = int(self._field("status", "CapEff"), 16)
        namespace = os.stat(f"{self.thread}/ns/user", dir_fd=self.proc)
        self._check()
        return bool(effective >> number & 1) and os.path.samestat(namespace, os.stat("self/ns/user", dir_fd=self.proc))

    def _field(self, name: str, key: str) -> str:
        """A line `key: value` of one of its files in /proc; empty when there is none."""
        file = os.open(f"{self.thread}/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc)
        with os.fdopen(file) as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{key}:")), "")

    def _check(self) -> None:
        if not self.still_waits():
            raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))


@frozen
class CallerMemory:
    """A caller's memory from an address on, as `link.Memory`."""

    caller: Caller
    address: int

    def read(self, offset: int, length: int) -> bytes:
        return self.caller.read(self.address + offset, length)

    def write(self, offset: int, data: bytes) -> None:
        self.caller.write(self.address + offset, data)
