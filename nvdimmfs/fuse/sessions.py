"""The open channels, and whether their readers have acknowledged all events."""

from __future__ import annotations

import logging

import trio
from attrs import define

from nvdimmfs.fuse.peers import Look, ProcFolder
from nvdimmfs.kernfs import Session

log = logging.getLogger(__name__)

#: How often to look at sandboxes that are behind, in seconds.
_LOOK_INTERVAL = 0.25

#: After so many looks without a sign of progress a sandbox is not waited for: at once if it sleeps or is stopped, since
#: it does not go on by itself then; later if it is at work, or cannot be seen.
_LOOKS_AT_SLEEPER = 3
_LOOKS = 20


@define(eq=False)
class _Connection:
    """An open channel.

    Attributes:
        session: the engine's end.
        thread: the id of the thread that opened the other end.
        messages: number of messages that it has sent.
        has_stalled: whether writes do not wait for it, because it did nothing while they waited.
    """

    session: Session
    thread: int
    messages: int = 0
    has_stalled: bool = False

    def __str__(self) -> str:
        return f"the sandbox of process {self.thread}" if self.thread else "a sandbox in another PID namespace"

    @property
    def is_awaited(self) -> bool:
        return self.session.has_unacknowledged and not self.has_stalled


@define
class _Watch:
    """How long a connection has shown no progress.

    Attributes:
        progress: differs after each message and each byte that is written back.
        trace: differs after the process has run.
        looks: how often in a row the progress was the same.
        asleep: how often in a row the process was asleep as well.
    """

    progress: tuple[int, int] = (-1, -1)
    trace: str = ""
    looks: int = 0
    asleep: int = 0

    def look(self, progress: tuple[int, int], look: Look) -> None:
        """Take note of a look."""
        is_asleep = bool(look.trace) and not look.is_at_work
        self.asleep = self.asleep + 1 if is_asleep and (progress, look.trace) == (self.progress, self.trace) else 0
        self.looks = self.looks + 1 if progress == self.progress else 0
        self.progress, self.trace = progress, look.trace

    @property
    def has_stalled(self) -> bool:
        return self.asleep >= _LOOKS_AT_SLEEPER - 1 or self.looks >= _LOOKS - 1


class Sessions:
    """The sessions of all open channels; `proc` shows the processes that opened them."""

    def __init__(self, proc: ProcFolder) -> None:
        self._open: list[_Connection] = []
        self._proc = proc
        self._bytes_written = 0
        self._progress = trio.lowlevel.ParkingLot()
        self._stopped = False

    @property
    def has_unacknowledged(self) -> bool:
        """Whether a session has events that it has not acknowledged yet."""
        return any(connection.session.has_unacknowledged for connection in self._open)

    def opened(self, session: Session, thread: int) -> None:
        """Add a session, which a thread has opened."""
        self._open.append(_Connection(session, thread))

    def closed(self, session: Session) -> None:
        """Close and remove a session, so that writes no longer wait for it."""
        self._open = [connection for connection in self._open if connection.session is not session]
        session.close()
        self._progress.unpark_all()

    def message_received(self, session: Session) -> None:
        """A session has sent a message, perhaps an acknowledgement.  If it had stalled, it is waited for again."""
        for connection in self._open:
            if connection.session is session:
                connection.messages += 1
                if connection.has_stalled:
                    connection.has_stalled = False
                    log.info("%s acts again, and is waited for", connection)
        self._progress.unpark_all()

    def wrote_back(self, length: int) -> None:
        """So many bytes of a disk that is leaving have arrived from the page cache of a session's block device."""
        self._bytes_written += length

    async def catch_up(self) -> None:
        """Return once no session is behind that still makes progress.

        Writing back a disk's page cache is progress, however long it lasts.  A session without progress has stalled: it
        is not waited for until it sends a message.
        """
        watches: dict[_Connection, _Watch] = {}
        while not self._stopped and (behind := [each for each in self._open if each.is_awaited]):
            with trio.move_on_after(_LOOK_INTERVAL) as interval:
                await self._progress.park()
            if interval.cancelled_caught:
                for connection in behind:
                    self._look_at(connection, watches.setdefault(connection, _Watch()))

    def stop(self) -> None:
        """Wait for no session any more: the mount is about to end."""
        self._stopped = True
        self._progress.unpark_all()

    def _look_at(self, connection: _Connection, watch: _Watch) -> None:
        watch.look((connection.messages, self._bytes_written), self._proc.look_at(connection.thread))
        if watch.has_stalled:
            connection.has_stalled = True
            log.warning("%s has not acted on a change, and is not waited for until it does", connection)
