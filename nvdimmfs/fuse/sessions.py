"""The open channels, and whether their readers have acknowledged all events."""

from __future__ import annotations

import logging

import trio

from nvdimmfs.kernfs import Session

log = logging.getLogger(__name__)

#: How long a write waits for sandboxes to acknowledge its events, in seconds.  A sandbox that is stopped must not block
#: other users of the machine for ever.
CATCH_UP_TIMEOUT = 5.0


class Sessions:
    """The sessions of all open channels."""

    def __init__(self) -> None:
        self._open: list[Session] = []
        self._waiting = trio.lowlevel.ParkingLot()

    @property
    def has_unacknowledged(self) -> bool:
        """Whether a session has events that it has not acknowledged yet."""
        return any(session.has_unacknowledged for session in self._open)

    def opened(self, session: Session) -> None:
        """Add a session."""
        self._open.append(session)

    def closed(self, session: Session) -> None:
        """Close and remove a session, so that writes no longer wait for it."""
        if session in self._open:
            self._open.remove(session)
        session.close()
        self._waiting.unpark_all()

    def message_received(self) -> None:
        """Check again whether a session is behind: one has sent a message, perhaps an acknowledgement."""
        self._waiting.unpark_all()

    async def catch_up(self) -> None:
        """Return once no session is behind.  One that stays behind for `CATCH_UP_TIMEOUT` is not waited for again."""
        with trio.move_on_after(CATCH_UP_TIMEOUT) as waiting:
            while self.has_unacknowledged:
                await self._waiting.park()
        if waiting.cancelled_caught:
            log.warning("a sandbox did not acknowledge a change within %s seconds", CATCH_UP_TIMEOUT)
            self._open = [session for session in self._open if not session.has_unacknowledged]
