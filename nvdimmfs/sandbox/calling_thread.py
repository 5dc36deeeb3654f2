"""The thread whose system call waits for an answer: its memory, its open files and its capabilities."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from attrs import frozen

from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.device_node import NodeNumber

_PAGE = 4096


@frozen
class ThreadFile:
    """An open file of the calling thread.

    Attributes:
        link: its link in /proc, relative to /proc; opening the link opens the file anew.
        status: the result of fstat(2).
        flags: the flags of open(2).
    """

    link: str
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
        """`char` or `block` for a device that accepts requests; empty for anything else, O_PATH files included."""
        if self.flags & os.O_PATH:
            return ""
        return {stat.S_IFCHR: "char", stat.S_IFBLK: "block"}.get(stat.S_IFMT(self.status.st_mode), "")

    @property
    def number(self) -> NodeNumber:
        """The number of the device."""
        return NodeNumber(os.major(self.status.st_rdev), os.minor(self.status.st_rdev))


@frozen
class CallingThread:
    """A thread that waits in a system call.

    The kernel may reuse a thread id.  Each method therefore checks, after it has read by the id, that the call still
    waits: only then did the data belong to this thread.

    Attributes:
        thread: the thread id.
        proc: an open /proc that shows the thread.
        still_waits: returns whether the system call still waits for its answer.
    """

    thread: int
    proc: int
    still_waits: Callable[[], bool]

    def read(self, address: int, length: int) -> bytes:
        """Read the thread's memory.  EFAULT where nothing is mapped, ESRCH when the thread has gone."""
        data = libc.read_memory(self.thread, address, length)
        self._require_waiting()
        return data

    def write(self, address: int, data: bytes) -> None:
        """Write to the thread's memory.  EFAULT where nothing writable is mapped, ESRCH when the thread has gone."""
        self._require_waiting()
        libc.write_memory(self.thread, address, data)

    def read_string(self, address: int, length: int) -> bytes:
        """Read a NUL-terminated string without its NUL, at most `length` bytes of it; errors as `read`."""
        text = bytearray()
        while b"\0" not in text and len(text) < length:
            rest_of_page = _PAGE - (address + len(text)) % _PAGE
            text += self.read(address + len(text), min(length - len(text), rest_of_page))
        return bytes(text.partition(b"\0")[0])

    def file(self, descriptor: int) -> ThreadFile | None:
        """The open file of a descriptor; None when the descriptor is not open.  ESRCH when the thread has gone."""
        link = f"{self.thread}/fd/{descriptor}"
        try:
            status = os.stat(link, dir_fd=self.proc)
            flags = int(self._proc_field(f"fdinfo/{descriptor}", "flags"), 8)
        except (OSError, ValueError):
            return None
        self._require_waiting()
        return ThreadFile(link, status, flags)

    def reopen(self, file: ThreadFile) -> int:
        """Open one of the thread's files anew, read-only, and return the descriptor."""
        return os.open(file.link, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=self.proc)

    def path(self, file: ThreadFile) -> str:
        """The path of one of the thread's files, as /proc shows it."""
        return os.readlink(file.link, dir_fd=self.proc)

    def has_capability(self, number: int) -> bool:
        """Whether the thread has a capability in this process's user namespace.

        A capability that it has only in a user namespace of its own does not count.
        """
        effective = int(self._proc_field("status", "CapEff"), 16)
        namespace = os.stat(f"{self.thread}/ns/user", dir_fd=self.proc)
        self._require_waiting()
        return bool(effective >> number & 1) and os.path.samestat(namespace, os.stat("self/ns/user", dir_fd=self.proc))

    def _proc_field(self, name: str, key: str) -> str:
        """The value of a `key: value` line in one of the thread's files in /proc; empty when there is no such line."""
        file = os.open(f"{self.thread}/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.proc)
        with os.fdopen(file) as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{key}:")), "")

    def _require_waiting(self) -> None:
        if not self.still_waits():
            raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))


@frozen
class ThreadMemory:
    """A thread's memory, addressed relative to `address` (`control_client.ArgumentMemory`)."""

    caller: CallingThread
    address: int

    def read(self, offset: int, length: int) -> bytes:
        return self.caller.read(self.address + offset, length)

    def write(self, offset: int, data: bytes) -> None:
        self.caller.write(self.address + offset, data)
