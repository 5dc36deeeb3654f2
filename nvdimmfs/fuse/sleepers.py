"""Processes that sleep.  Where only the acts of user space advance the clock, a sleep is one of these acts.

FUSE passes on the id of the process that opens a file.  /proc shows whether it sleeps or waits for a processor.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict

from pyfuse3 import FileHandleT

#: The numbers of nanosleep(2) and clock_nanosleep(2), by machine.
_SLEEPING_CALLS = {"x86_64": (b"35", b"230"), "aarch64": (b"101", b"115")}.get(os.uname().machine, ())

#: How many processes to remember: when the last one has exited, the one before it counts.
_REMEMBERED = 16


class Sleepers:
    """The processes that acted last, and the time of the last act.

    /proc is opened at once, because a sandbox later mounts a /proc that does not show this process.
    """

    def __init__(self) -> None:
        self._proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._openers: dict[FileHandleT, int] = {}
        self._processes: OrderedDict[int, None] = OrderedDict()
        self._acted_at = time.monotonic()

    def opened(self, handle: FileHandleT, process: int) -> None:
        """A process opened a file."""
        self._openers[handle] = process

    def closed(self, handle: FileHandleT) -> None:
        """The file was closed."""
        self._openers.pop(handle, None)

    def acted(self, handle: FileHandleT) -> None:
        """A process read or wrote an open file."""
        self._acted_at = time.monotonic()
        process = self._openers.get(handle)
        if process is None:
            return
        self._processes[process] = None
        self._processes.move_to_end(process)
        while len(self._processes) > _REMEMBERED:
            self._processes.popitem(last=False)

    @property
    def idle(self) -> float:
        """Seconds since the last act."""
        return time.monotonic() - self._acted_at

    @property
    def is_asleep(self) -> bool:
        """Whether the process that acted last, of those that still exist, is in nanosleep(2)."""
        while self._processes:
            process = next(reversed(self._processes))
            call = self._call_of(process)
            if call is not None:
                return call in _SLEEPING_CALLS
            del self._processes[process]
        return False

    def close(self) -> None:
        """Close /proc."""
        os.close(self._proc)

    def _call_of(self, process: int) -> bytes | None:
        """The number of the call that a process waits in; another text when there is none; None: it has exited."""
        try:
            file = os.open(f"{process}/syscall", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
        except PermissionError:
            return b""
        except OSError:
            return None
        try:
            return os.read(file, 64).partition(b" ")[0].strip()
        except PermissionError:
            return b""
        except OSError:
            return None
        finally:
            os.close(file)
