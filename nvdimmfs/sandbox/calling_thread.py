"""The thread whose system call waits for an answer: its memory, its open files and its capabilities.

Numbers (a thread id, a descriptor) can mean something else at the next look.  So each is looked up once, and what it
meant is held open: the thread by its directory in /proc, its memory by `mem` in there, a file by an O_PATH descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
from collections.abc import Callable, Iterator

from attrs import field, frozen

from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.errors import os_error
from nvdimmfs.sandbox.known_thread import KnownThread
from nvdimmfs.sandbox.mappings import has_writable, mappings, present_bytes
from nvdimmfs.sandbox.thread_file import ThreadFile, contents, open_file
from nvdimmfs.units import PAGE_SIZE

#: How many bytes to read ahead: the kernel looks for sizes in the first 256 bytes of the inputs, then of the outputs
#: (ND_CMD_MAX_ENVELOPE, drivers/nvdimm/bus.c, Linux 6.1).
AHEAD = 512

#: What the kernel escapes in the thread's name in /proc/PID/status: a backslash, and the end of a line.
_ESCAPED = re.compile(rb"\\(.)")

#: The number of seccomp filters in /proc/PID/status (Linux 5.9 and later).
_FILTERS = re.compile(rb"^Seccomp_filters:\t(\d+)$", re.MULTILINE)


#: The line of /proc/PID/status that follows the ids of users and groups (proc_pid_status in fs/proc/array.c).
_AFTER_IDENTITY = b"\nFDSize:\t"


@frozen
class _Identity:
    """Who a thread is: the id of its process, its real user id, and its name."""

    process: int
    user: int
    comm: str


@frozen
class CallingThread:
    """A thread that waits in a system call.

    Attributes:
        thread: the thread id.
        directory: the thread's directory in /proc.  Once the thread is gone, all lookups in it fail, even if another
            thread has the same id by then.
        proc: an open /proc that shows the thread and this process.
        identity: who it is.
        status: its status, as /proc shows it.
        still_waits: returns whether the system call still waits for its answer.
        held: closes what is held of the thread's files, when its call is answered.
        known: what is held of the thread beyond that.
    """

    thread: int
    directory: int
    proc: int
    identity: _Identity
    status: bytes
    still_waits: Callable[[], bool]
    held: contextlib.ExitStack = field(eq=False)
    known: KnownThread = field(eq=False)

    @property
    def process(self) -> int:
        """The id of its process."""
        return self.identity.process

    @property
    def user(self) -> int:
        """The thread's real user id."""
        return self.identity.user

    @property
    def comm(self) -> str:
        """The name of the thread."""
        return self.identity.comm

    @property
    def capabilities(self) -> int:
        """Its effective capabilities, in its own user namespace."""
        return int(_value(self.status, b"\nCapEff:\t"), 16)

    def read(self, address: int, length: int) -> bytes:
        """Read the thread's memory.  EFAULT where nothing is mapped, ESRCH when the thread is gone.

        This waits for as long as a page of the memory does not arrive.
        """
        data = libc.read_memory(self.thread, address, length)
        self._require_waiting()  # only then was it this thread's memory, and not that of a later one with the same id
        return data

    def read_present(self, address: int, length: int) -> bytes:
        """Read the thread's memory up to the first page that is not there: this waits for nothing.

        Errors end it, too, as memory that was unmapped at this moment.
        """
        try:
            length = present_bytes(self.directory, address, length)
            return self.read(address, length) if length else b""
        except OSError:
            return b""

    def write(self, address: int, data: bytes) -> None:
        """Write to the thread's memory.  EFAULT or EIO where nothing writable is mapped, ESRCH when it is gone.

        process_vm_writev(2) takes a thread id, which may be another thread's by the time of the call.  The open memory
        is the thread's own.  But it ignores write protection, and a wait for a page in it cannot be ended by a signal;
        hence the look at the mappings, and the read before, which makes the pages arrive.
        """
        with self.memory() as memory:
            with contextlib.suppress(OSError):
                libc.read_memory(self.thread, address, len(data))
            self._require_waiting()
            if not has_writable(self.directory, address, address + len(data)):
                raise os_error(errno.EFAULT)
            if os.pwrite(memory, data, address) != len(data):
                raise os_error(errno.EFAULT)

    @contextlib.contextmanager
    def memory(self) -> Iterator[int]:
        """A descriptor of the thread's memory, in which offsets are addresses; also once the thread has ended."""
        memory = os.open("mem", os.O_RDWR | os.O_CLOEXEC, dir_fd=self.directory)
        try:
            yield memory
        finally:
            os.close(memory)

    def read_string(self, address: int, length: int) -> bytes:
        """Read a NUL-terminated string without its NUL, at most `length` bytes of it; errors as `read`."""
        text = bytearray()
        while b"\0" not in text and len(text) < length:
            rest_of_page = PAGE_SIZE - (address + len(text)) % PAGE_SIZE
            text += self.read(address + len(text), min(length - len(text), rest_of_page))
        return bytes(text.partition(b"\0")[0])

    def file(self, descriptor: int) -> ThreadFile | None:
        """The open file of a descriptor; None when the descriptor is not open.  ESRCH when the thread is gone.

        Another thread may replace the descriptor at any time.  fdinfo shows flags, mount and inode of one and the same
        open file; they count only if this is the inode that is held here.
        """
        file = self.known.file(descriptor) or open_file(self.directory, self.proc, descriptor, self.held)
        if file is not None:
            self._require_waiting()
        return file

    def remember(self, descriptor: int, file: ThreadFile) -> None:
        """Hold a file for the next call, which mostly has the same descriptor: one that is a node of the machine."""
        with contextlib.suppress(OSError):  # the thread is gone, or too many files are open
            self.known.remember(descriptor, file)

    def mapped_file(self, address: int) -> tuple[int, int] | None:
        """The file system (st_dev) and inode of what is mapped at an address; None for nothing."""
        found = (mapping.file for mapping in mappings(self.directory) if mapping.start <= address < mapping.end)
        return next(found, None)

    def has_capability(self, number: int) -> bool:
        """Whether the thread has a capability in this process's user namespace.

        A capability that it has only in a user namespace of its own does not count.
        """
        namespace = os.stat("ns/user", dir_fd=self.directory)
        self._require_waiting()
        return bool(self.capabilities >> number & 1) and os.path.samestat(
            namespace, os.stat("self/ns/user", dir_fd=self.proc)
        )

    @property
    def has_own_filter(self) -> bool:
        """Whether it has a filter of seccomp(2) besides that of the sandbox and those that this process has as well."""
        filters = _filters(self.directory, "status") - _filters(self.proc, "thread-self/status")
        return filters > 1

    def _require_waiting(self) -> None:
        if not self.still_waits():
            raise os_error(errno.ESRCH)


def calling_thread(
    thread: int, proc: int, still_waits: Callable[[], bool], known: KnownThread, held: contextlib.ExitStack
) -> CallingThread:
    """The thread whose system call waits.  ENOENT, ESRCH when it is gone.

    Args:
        thread: its id.
        proc: an open /proc that shows it and this process.
        still_waits: returns whether the call still waits for its answer.
        known: holds the thread, also until the next call.
        held: closes what is held of its files.
    """
    status = known.look(thread, proc, still_waits)
    identity = _identity(status[: status.index(_AFTER_IDENTITY)])
    return CallingThread(thread, known.directory, proc, identity, status, still_waits, held, known)


@functools.lru_cache(maxsize=64)
def _identity(status: bytes) -> _Identity:
    """From the first lines of a thread's status, which are the same at most of its calls."""
    comm = _ESCAPED.sub(_unescaped, _value(status, b"Name:\t")).decode(errors="replace")
    process, user = int(_value(status, b"\nTgid:\t")), int(_value(status, b"\nUid:\t").split(b"\t", 1)[0])
    return _Identity(process, user, comm)


def _value(status: bytes, name: bytes) -> bytes:
    """The rest of a line of /proc/PID/status.

    The file is searched as bytes: text also ends a line at a carriage return, which the kernel does not escape in the
    thread's name, and the name comes first.
    """
    start = status.index(name) + len(name)
    return status[start : status.index(b"\n", start)]


def _unescaped(found: re.Match[bytes]) -> bytes:
    return b"\n" if found[1] == b"n" else found[1]


def _filters(directory: int, name: str) -> int:
    """How many filters of seccomp(2) the thread with that status has; 0 where the kernel does not show it."""
    found = _FILTERS.search(contents(directory, name))
    return 0 if found is None else int(found[1])


@frozen
class ThreadMemory:
    """A thread's memory, addressed relative to `address` (`control_client.ArgumentMemory`)."""

    caller: CallingThread
    address: int

    def read_present(self, length: int) -> bytes:
        """Bytes from the beginning up to the first that has not arrived, at most so many."""
        return self.caller.read_present(self.address, length)

    def read(self, offset: int, length: int) -> tuple[bytes, bytes]:
        """Bytes, and some that follow on the page where they end, which has arrived with them."""
        start = self.address + offset
        data = self.caller.read(start, length + min(AHEAD, -(start + length) % PAGE_SIZE))
        return data[:length], data[length:]

    def write(self, offset: int, data: bytes) -> None:
        self.caller.write(self.address + offset, data)
