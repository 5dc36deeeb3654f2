"""Who has a channel open, and whether what they must act on is done."""

from __future__ import annotations

import logging

import trio

from nvdimmfs.kernfs import Session

log = logging.getLogger(__name__)

#: How long a write waits for a sandbox, in seconds.  One that is stopped or stuck must not stop others for ever.
PATIENCE = 5.0


class Sessions:
    """The sessions of all open channels."""

    def __init__(self) -> None:
        self._open: list[Session] = []
        self._speakers = trio.lowlevel.ParkingLot()

    @property
    def behind(self) -> bool:
        """Whether one of them still has to act on something."""
        return any(session.has_unacknowledged for session in self._open)

    def opened(self, session: Session) -> None:
        """One more."""
        self._open.append(session)

    def closed(self, session: Session) -> None:
        """One less: nobody waits for it any longer."""
        if session in self._open:
            self._open.remove(session)
        session.close()
        self._speakers.unpark_all()

    def spoke(self) -> None:
        """One of them says something, perhaps that it is done."""
        self._speakers.unpark_all()

    async def catch_up(self) -> None:
        """Return once none of them is behind.  Who takes longer than `PATIENCE` is not waited for any more."""
        with trio.move_on_after(PATIENCE) as waiting:
            while self.behind:
                await self._speakers.park()
        if waiting.cancelled_caught:
            log.warning("a sandbox did not act on a change for %s seconds", PATIENCE)
            self._open = [session for session in self._open if not session.has_unacknowledged]
