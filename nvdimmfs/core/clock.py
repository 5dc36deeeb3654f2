"""The machine's clock: what the kernel does later is scheduled on it.

Time is counted in nanoseconds from boot, and what moves it depends on the mode.  While an event is handled, it is the
time at which the event was due, however late it is handled: what it schedules in turn comes neither later nor in
another order because of that.
"""

from __future__ import annotations

import enum
import heapq
import time
from collections.abc import Callable

from attrs import define, field

from nvdimmfs.kernels.durations import Duration


class ClockMode(enum.Enum):
    """What moves a clock.

    Attributes:
        REAL: the host's clock.
        STEPS: what user space does, each act by its price (`kernels.durations.PRICES`); a poll(2) that would block, by
            as much as the next event is away; a sleep that is longer than the act before costs, by the rest.
        MANUAL: `Clock.advance` alone.
    """

    REAL = "real"
    STEPS = "steps"
    MANUAL = "manual"


@define(order=True)
class Event:
    """Something that will be done.

    Attributes:
        due: when, in nanoseconds from boot.
        number: how many were scheduled before; of those that are due at the same time, the lower number comes first.
        what: what will be done, for people.
        work: does it.
        is_cancelled: nothing will be done.
    """

    due: int
    number: int
    what: str = field(order=False)
    work: Callable[[], None] = field(order=False)
    is_cancelled: bool = field(default=False, order=False)

    def cancel(self) -> None:
        """Do nothing when it is due."""
        self.is_cancelled = True


def _ignore() -> None:
    """Do nothing."""


class Clock:
    """A machine's clock.

    It stands until `start`, or until user space does something for the first time.

    Attributes:
        mode: what moves it.
        is_booting: there is no user space yet, so that what looks like an act of it is none.
        earlier: called when an event is scheduled that is due before all others.
    """

    def __init__(
        self,
        mode: ClockMode = ClockMode.REAL,
        *,
        host: Callable[[], int] = time.monotonic_ns,
        after_event: Callable[[], None] = _ignore,
    ) -> None:
        """A clock that stands at 0.

        Args:
            mode: what moves it.
            host: the host's clock, in nanoseconds.
            after_event: called each time that an event was handled.
        """
        self.mode = mode
        self.is_booting = False
        self.earlier: Callable[[], None] = _ignore
        self._host = host
        self._after_event = after_event
        self._events: list[Event] = []
        self._scheduled = 0
        #: What acts and `advance` brought; REAL adds what has passed on the host.
        self._time = 0
        self._acted_at = 0
        self._started_at: int | None = None
        self._handled: Event | None = None

    @property
    def now(self) -> int:
        """Nanoseconds from boot."""
        if self._handled is not None:
            return self._handled.due
        if self._started_at is None or self.mode is not ClockMode.REAL:
            return self._time
        return self._time + self._host() - self._started_at

    @property
    def is_started(self) -> bool:
        """Whether user space is there."""
        return self._started_at is not None

    @property
    def next_due(self) -> int | None:
        """When the next event is due; None when there is none."""
        while self._events and self._events[0].is_cancelled:
            heapq.heappop(self._events)
        return self._events[0].due if self._events else None

    @property
    def pending(self) -> tuple[Event, ...]:
        """What will be done, in this order."""
        return tuple(sorted(event for event in self._events if not event.is_cancelled))

    @property
    def host_seconds_left(self) -> float | None:
        """Seconds of the host's time until the next event is due; None when the host's time brings none."""
        due = self.next_due
        if due is None or self.mode is not ClockMode.REAL or not self.is_started:
            return None
        return max(0, due - self.now) / 1e9

    def start(self) -> None:
        """User space is there: from now on time passes."""
        if self._started_at is None:
            self._started_at = self._host()
            self.earlier()

    def schedule(self, duration: Duration | int, work: Callable[[], None], what: str = "") -> Event:
        """Do something later.

        Args:
            duration: how much later; an integer is nanoseconds.
            work: what is to be done.
            what: the same in words; a `Duration` has its own.

        Returns:
            The event, which can be cancelled.
        """
        delay = duration.nanoseconds if isinstance(duration, Duration) else duration
        if isinstance(duration, Duration):
            what = what or duration.what
        event = Event(self.now + delay, self._scheduled, what, work)
        self._scheduled += 1
        heapq.heappush(self._events, event)
        if self._events[0] is event:
            self.earlier()
        return event

    def run_due(self) -> None:
        """Do what is due by now."""
        if self._events and self._handled is None and self._events[0].due <= self.now:
            self._run_until(self.now)

    def advance(self, nanoseconds: int) -> None:
        """Let time pass at once, in any mode, and do what is due by then."""
        self._pass(nanoseconds)
        self._acted_at = self.now

    def _pass(self, nanoseconds: int) -> None:
        if self._handled is not None:
            return
        self.run_due()
        try:
            self._run_until(self.now + nanoseconds)
        finally:
            self._time += nanoseconds
        self.earlier()

    def spend(self, price: Duration) -> None:
        """User space has done something: time passes by its price, or is found to have passed."""
        if self.is_booting:
            return
        self.start()
        if self.mode is ClockMode.STEPS:
            self._acted_at = self.now
            self._pass(price.nanoseconds)
        else:
            self.run_due()

    def wait_until(self, is_reached: Callable[[], bool]) -> None:
        """User space would wait for something, and do nothing else.

        Where time passes only by what user space does, go from event to event until it is there or none is left.
        """
        if self.mode is not ClockMode.STEPS:
            return
        self.start()
        while not is_reached() and (due := self.next_due) is not None:
            self.advance(due - self.now)

    @property
    def counts_sleep(self) -> bool:
        """Whether it matters that a process sleeps."""
        return self.mode is ClockMode.STEPS and self.next_due is not None

    def slept(self, nanoseconds: int) -> None:
        """The process that acted last has slept ever since, for so long; what its act took counts already."""
        if self.mode is ClockMode.STEPS:
            self._pass(max(0, self._acted_at + nanoseconds - self.now))

    def _run_until(self, end: int) -> None:
        while (due := self.next_due) is not None and due <= end:
            self._handled = heapq.heappop(self._events)
            try:
                self._handled.work()
                self._after_event()
            finally:
                self._handled = None
