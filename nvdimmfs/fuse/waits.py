"""Requests that fault rules delay: each waits by itself, and the others go on."""

from __future__ import annotations

import trio
from attrs import frozen

from nvdimmfs.fuse.peers import ProcFolder


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

    def __init__(self) -> None:
        self._end = trio.Event()

    async def wait(self, nanoseconds: int) -> None:
        """Wait so long, or until the mount ends."""
        if nanoseconds:
            with trio.move_on_after(nanoseconds / 1e9):
                await self._end.wait()

    def end(self) -> None:
        """The mount ends: wait no more."""
        self._end.set()
