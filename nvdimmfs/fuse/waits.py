"""Requests that fault rules delay: each waits by itself, and the others go on."""

from __future__ import annotations

import errno

import trio
from attrs import frozen
from pyfuse3 import FUSEError

from nvdimmfs.fuse.peers import ProcFolder

#: How often to look whether a process that waits was killed, in seconds.  It can only end when it has its answer.
_LOOK_INTERVAL = 0.2


@frozen
class RequestCaller:
    """The process that opened a file, see `faults.faults.Caller`.

    Attributes:
        uid: its user.
        thread: the thread that opened the file.
        proc: shows the thread.
    """

    uid: int
    thread: int
    proc: ProcFolder

    @property
    def command(self) -> str:
        """The thread's name now; empty when it has ended."""
        return self.proc.name_of(self.thread)


class Waits:
    """The waits of all requests."""

    def __init__(self, proc: ProcFolder) -> None:
        self._proc = proc
        self._end = trio.Event()

    async def wait(self, nanoseconds: int, thread: int) -> None:
        """Wait so long, or until the mount ends.  EINTR when the thread was killed meanwhile: it waits for the answer.

        Args:
            nanoseconds: how long.
            thread: the id of the thread that opened the file; 0 for one that cannot be seen.
        """
        end = trio.current_time() + nanoseconds / 1e9
        while not self._end.is_set() and (now := trio.current_time()) < end:
            with trio.move_on_at(min(end, now + _LOOK_INTERVAL) if thread else end):
                await self._end.wait()
            if thread and self._proc.is_killed(thread):
                raise FUSEError(errno.EINTR)

    def end(self) -> None:
        """The mount ends: wait no more."""
        self._end.set()
