"""Other processes: whether one is at work, or stopped, or asleep."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from typing import NamedTuple

#: Lines of /proc/PID/task/TID/status of which one changes whenever the thread runs (fs/proc/array.c, Linux 6.1).
_RUNS = re.compile(r"^(?:State|(?:non)?voluntary_ctxt_switches):.*$", re.MULTILINE)

#: A thread that runs, is about to run, or waits for a device: it goes on by itself.
_AT_WORK = re.compile(r"^State:\s*[RD]", re.MULTILINE)

#: A thread that a signal or a debugger has stopped.
_STOPPED = re.compile(r"^State:\s*[Tt]", re.MULTILINE)

#: The name and the process of a thread in /proc/TID/status.  The file is searched as bytes: text also ends a line at a
#: carriage return, which a name may contain.
_IDENTITY = re.compile(rb"^Name:\t(?P<name>[^\n]*)\n(?:.*\n)*?Tgid:\t(?P<process>\d+)\n")

#: The signals of a thread, and of its process, that it has not acted on yet, a bit each.
_PENDING = re.compile(rb"^(?:SigPnd|ShdPnd):\t([0-9a-f]+)$", re.MULTILINE)

#: What the kernel escapes in a name (proc_task_name, fs/proc/array.c, Linux 6.1).
_ESCAPED = re.compile(rb"\\([n\\])")


class Look(NamedTuple):
    """What a look at a process found.

    Attributes:
        trace: changes whenever a thread of the process runs; empty when the process cannot be seen.
    """

    trace: str

    @property
    def is_at_work(self) -> bool:
        """Whether a thread of it goes on by itself."""
        return bool(_AT_WORK.search(self.trace))

    @property
    def is_stopped(self) -> bool:
        """Whether a thread of it was stopped."""
        return bool(_STOPPED.search(self.trace))


class ProcFolder:
    """The /proc of the moment at which this is made: a sandbox later mounts one that does not show all processes."""

    def __init__(self) -> None:
        self._descriptor = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __del__(self) -> None:
        os.close(self._descriptor)

    def look_at(self, thread: int) -> Look:
        """Look at the process that a thread belongs to.

        Args:
            thread: the thread's id, as FUSE passes it on; 0 for one in another PID namespace.
        """
        try:
            return Look("\n".join(self._statuses(thread)) if thread else "")
        except OSError:
            return Look("")

    def identity(self, thread: int) -> tuple[int | None, str]:
        """The process that a thread belongs to and the thread's name; the name is empty when it cannot be seen.

        Args:
            thread: as for `look_at`.
        """
        found = _IDENTITY.search(self._content(thread, "status"))
        return (int(found["process"]), _unescaped(found["name"])) if found else (thread or None, "")

    def is_killed(self, thread: int) -> bool:
        """Whether a thread has SIGKILL pending, which it will act on when it has the answer that it waits for."""
        pending = _PENDING.findall(self._content(thread, "status"))
        return any(int(mask, 16) >> (signal.SIGKILL - 1) & 1 for mask in pending)

    def name_of(self, thread: int) -> str:
        """The name of a thread (/proc/TID/comm); empty when it has ended, or is in another PID namespace."""
        return self._content(thread, "comm").decode(errors="replace").removesuffix("\n")

    def _content(self, thread: int, file: str) -> bytes:
        """The content of a file of a thread; empty when the thread has ended, or is in another PID namespace."""
        try:
            descriptor = os.open(f"{thread}/{file}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._descriptor)
            with os.fdopen(descriptor, "rb") as opened:
                return opened.read()
        except OSError:
            return b""

    def _statuses(self, thread: int) -> Iterator[str]:
        tasks = os.open(f"{thread}/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._descriptor)
        try:
            for task in sorted(os.listdir(tasks)):  # noqa: PTH208  # by descriptor
                status = os.open(f"{task}/status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=tasks)
                with os.fdopen(status) as file:
                    yield from _RUNS.findall(file.read())
        finally:
            os.close(tasks)


def _unescaped(name: bytes) -> str:
    """A name as /proc/PID/status has it, as text; what is not UTF-8 becomes surrogates."""
    text = _ESCAPED.sub(lambda match: b"\n" if match[1] == b"n" else b"\\", name)
    return text.decode(errors="surrogateescape")
