"""The machine's clock, on which the kernel's later work is scheduled.

Time is counted in nanoseconds from boot.  The mode determines how it advances.  While an event is handled, the time is
that at which the event was due, even if it is handled late: so a delay changes neither the times nor the order of the
events that it schedules.
"""

from __future__ import annotations

import contextlib
import enum
import heapq
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, Protocol

from attrs import define, field

from nvdimmfs.kernels.durations import Duration


class ClockMode(enum.Enum):
    """How a clock advances.

    Attributes:
        REAL: with the host's clock.
        STEPS: with each act of user space, by the price of the act (`kernels.durations.PRICES`); with a poll(2) that
            would block, to the next event.
        MANUAL: by `Clock.advance` only.
    """

    REAL = "real"
    STEPS = "steps"
    MANUAL = "manual"


@define(order=True)
class Event:
    """Scheduled work.

    Attributes:
        due: the time at which it is due, nanoseconds from boot.
        number: the number of events scheduled before it; events due at the same time are handled in this order.
        what: a description of the work.
        work: the work.
        is_cancelled: the work will not be done.
    """

    due: int
    number: int
    what: str = field(order=False)
    work: Callable[[], None] = field(order=False)
    is_cancelled: bool = field(default=False, order=False)

    def cancel(self) -> None:
        """Cancel the event: its work will not be done."""
        self.is_cancelled = True


class WorkTracer(Protocol):
    """Records work that is due."""

    def work(self, event: Event) -> AbstractContextManager[None]:
        """The work of an event is done in this context."""


def _ignore() -> None:
    """Do nothing."""


class Clock:
    """A machine's clock.

    It stands still until `start`, or until the first act of user space.

    Attributes:
        mode: how it advances.
        scheduled: the work that is due later, with what was cancelled, as a heap.
        is_booting: user space does not run yet, and no act counts as its.
        wake: wakes the mount: an event may be due sooner than when it fell asleep.
        tracer: records the work that is done; None while none is recorded.
    """

    #: Not part of a snapshot.
    UNSAVED: ClassVar[frozenset[str]] = frozenset({"tracer", "wake", "_host"})

    def __init__(
        self,
        mode: ClockMode = ClockMode.REAL,
        *,
        host: Callable[[], int] = time.monotonic_ns,
        after_event: Callable[[], None] = _ignore,
    ) -> None:
        """A clock that stands at 0.

        Args:
            mode: how it advances.
            host: the host's clock, in nanoseconds.
            after_event: called after each event.
        """
        self.mode = mode
        self.is_booting = False
        self._is_uncounted = False
        self.wake: Callable[[], None] = _ignore
        self.tracer: WorkTracer | None = None
        self._host = host
        self._after_event = after_event
        self.scheduled: list[Event] = []
        self._scheduled = 0
        #: The time from acts and `advance`; REAL adds the time that has passed on the host.
        self._time = 0
        #: The price of the act at hand, where it is not the usual one.
        self._price: int | None = None
        self._prolonged = 0
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
        """Whether user space runs."""
        return self._started_at is not None

    @property
    def next_due(self) -> int | None:
        """The time at which the next event is due; None without events."""
        while self.scheduled and self.scheduled[0].is_cancelled:
            heapq.heappop(self.scheduled)
        return self.scheduled[0].due if self.scheduled else None

    @property
    def pending(self) -> tuple[Event, ...]:
        """The scheduled events, in the order in which they are due."""
        return tuple(sorted(event for event in self.scheduled if not event.is_cancelled))

    @property
    def host_seconds_left(self) -> float | None:
        """Seconds of host time until the next event is due; None if host time does not advance the clock to one."""
        due = self.next_due
        if due is None or self.mode is not ClockMode.REAL or not self.is_started:
            return None
        return max(0, due - self.now) / 1e9

    def start(self) -> None:
        """User space runs: from now on time passes."""
        if self._started_at is None:
            self._started_at = self._host()
            self.wake()

    def count(self) -> None:
        """Add the time that has passed on the host to the time that was counted, before a snapshot."""
        self._time = self.now
        self._count_from_now()

    def resume(self) -> None:
        """Go on from the time of a snapshot, as if none had passed since `count`."""
        self._count_from_now()
        self.wake()

    def _count_from_now(self) -> None:
        if self._started_at is not None:
            self._started_at = self._host()

    def schedule(self, duration: Duration | int, work: Callable[[], None], what: str = "") -> Event:
        """Schedule work.

        Args:
            duration: the delay; an integer is nanoseconds.
            work: the work.
            what: a description of the work; a `Duration` has its own.

        Returns:
            The event, which can be cancelled.
        """
        delay = duration.nanoseconds if isinstance(duration, Duration) else duration
        if isinstance(duration, Duration):
            what = what or duration.what
        event = Event(self.now + delay, self._scheduled, what, work)
        self._scheduled += 1
        heapq.heappush(self.scheduled, event)
        if self.scheduled[0] is event:
            self.wake()
        return event

    def run_due(self) -> None:
        """Handle the events that are due."""
        if self.scheduled and self._handled is None and self.scheduled[0].due <= self.now:
            self._run_until(self.now)

    def advance(self, nanoseconds: int) -> None:
        """Advance the clock, in any mode, and handle the events that are due by then."""
        if self._handled is not None:
            return
        self.run_due()
        try:
            self._run_until(self.now + nanoseconds)
        finally:
            self._time += nanoseconds
        self.wake()

    def spend(self, price: Duration) -> None:
        """Count an act of user space: the clock advances by its price, or host time has passed."""
        cost = price.nanoseconds if self._price is None else self._price
        self._price = None
        if self.is_booting or self._is_uncounted:
            return
        prolonged, self._prolonged = self._prolonged, 0
        if self._started_at is None:
            self.start()
        if self.mode is ClockMode.STEPS:
            self.advance(cost + prolonged)
        elif prolonged and self.mode is ClockMode.REAL:
            self.advance(prolonged)
        elif self.scheduled:
            self.run_due()

    def price_act(self, price: Duration) -> None:
        """Give the act at hand this price; of several, the highest.  There is no such act at boot."""
        if self.is_booting or self._is_uncounted:
            return
        self._price = max(self._price or 0, price.nanoseconds)

    def prolong_act(self, nanoseconds: int) -> None:
        """The act at hand takes so much longer than it would, by a fault rule; in mode MANUAL that has no effect.

        Nor has it at boot, nor in scheduled work, for which no process waits.
        """
        if not (self.is_booting or self._is_uncounted or self._handled):
            self._prolonged += nanoseconds

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        """What happens in this context counts as no act of user space, so that it does not advance the clock."""
        before, self._is_uncounted = self._is_uncounted, True
        try:
            yield
        finally:
            self._is_uncounted = before

    def wait_until(self, is_reached: Callable[[], bool]) -> None:
        """A process waits for a condition and does nothing else.

        In mode STEPS, handle event after event until the condition is reached or no event is left.
        """
        if self.mode is not ClockMode.STEPS:
            return
        self.start()
        while not is_reached() and (due := self.next_due) is not None:
            self.advance(due - self.now)

    def _run_until(self, end: int) -> None:
        while (due := self.next_due) is not None and due <= end:
            self._handled = heapq.heappop(self.scheduled)
            try:
                with nullcontext() if self.tracer is None else self.tracer.work(self._handled):
                    self._handled.work()
                    self._after_event()
            finally:
                self._handled = None
