"""Runs the work that is due on a machine's clock: before each request, and, without requests, when it is due."""

from __future__ import annotations

import math
from collections.abc import Callable, Sized
from typing import Protocol

import trio

from nvdimmfs.fuse.kernel_cache import KernelCache


class Clock(Protocol):
    """The machine's clock.

    Attributes:
        scheduled: the work that is due later.
        wake: wakes `Timekeeper.keep`: work may be due sooner than when it fell asleep.
    """

    @property
    def scheduled(self) -> Sized: ...

    wake: Callable[[], None]

    @property
    def host_seconds_left(self) -> float | None:
        """Seconds of the host's time until work is due; None when the host's time does not advance this clock."""

    def start(self) -> None:
        """Begin to count: user space can use the machine from now on."""

    def run_due(self) -> None:
        """Run the work that is due."""

    def wait_until(self, is_reached: Callable[[], bool]) -> None:
        """A process waits until a condition holds."""


class NoClock:
    """The clock of a tree in which no work is ever due."""

    def __init__(self) -> None:
        self.wake: Callable[[], None] = lambda: None
        self.scheduled: tuple[()] = ()

    @property
    def host_seconds_left(self) -> float | None:
        return None

    def start(self) -> None:
        """Nothing to do."""

    def run_due(self) -> None:
        """Nothing to do."""

    def wait_until(self, is_reached: Callable[[], bool]) -> None:
        """Nothing to do."""


class Timekeeper:
    """Runs a machine's clock.

    Args:
        clock: the machine's clock.
        kernel_cache: collects the cache entries that due work makes stale; the current request does not wait for their
            invalidation.
        begins: called before the work.
        report: called with each unexpected exception; the current request is answered all the same.

    Attributes:
        clock: the machine's clock.
        is_busy: whether `keep` has something to do.
    """

    def __init__(
        self,
        clock: Clock,
        kernel_cache: KernelCache,
        begins: Callable[[], None],
        report: Callable[[Exception], None],
    ) -> None:
        self.clock = clock
        self._begins = begins
        self._kernel_cache = kernel_cache
        self._report = report
        self.is_busy = True
        self._changed = trio.lowlevel.ParkingLot()
        clock.wake = self._wake
        kernel_cache.wake = self._wake

    def run_due(self) -> None:
        """Run the work that is due.  Called by every request; most find no work at all."""
        if not self.clock.scheduled and self._kernel_cache.stale is None:
            return
        self._begins()
        try:
            self.clock.run_due()
        except Exception as bug:
            self._report(bug)
        if self._kernel_cache.stale is not None:
            self._kernel_cache.postpone()

    async def keep(self) -> None:
        """Run work when it is due.  Sleeps in between, and for good while the host's time brings none."""
        while True:
            self.run_due()
            if self._kernel_cache.has_postponed:
                await self._kernel_cache.invalidate_postponed()
                continue
            seconds = self._kernel_cache.seconds_until_revisit
            with trio.move_on_after(min(seconds, self._seconds_to_sleep())):
                self.is_busy = False
                await self._changed.park()
            self.is_busy = True
            if seconds < math.inf:
                await self._kernel_cache.revisit()

    def _seconds_to_sleep(self) -> float:
        left = self.clock.host_seconds_left
        return math.inf if left is None else left

    def _wake(self) -> None:
        self.is_busy = True
        self._changed.unpark_all()
