"""Runs the work that is due on a machine's clock: before each request, and, without requests, when it is due."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import trio
from pyfuse3 import FileHandleT

from nvdimmfs.fuse.kernel_cache import KernelCache
from nvdimmfs.fuse.sleepers import Sleepers

#: Seconds without a request after which to check whether the process that acted last sleeps, and for how many seconds
#: to repeat the check if it does not.
SLEEP_CHECK = 0.05
SLEEP_WATCH = 1.0


class Clock(Protocol):
    """The machine's clock.

    Attributes:
        earlier: called when work is scheduled that is due before all other work.
    """

    earlier: Callable[[], None]

    @property
    def host_seconds_left(self) -> float | None:
        """Seconds of the host's time until work is due; None when the host's time does not advance this clock."""

    def start(self) -> None:
        """Begin to count: user space can use the machine from now on."""

    def run_due(self) -> None:
        """Run the work that is due."""

    def wait_until(self, is_reached: Callable[[], bool]) -> None:
        """A process waits until a condition holds."""

    @property
    def counts_sleep(self) -> bool:
        """Whether the sleep of a process advances this clock."""

    def slept(self, nanoseconds: int) -> None:
        """The process that acted last has slept for that long since."""


class NoClock:
    """The clock of a tree in which no work is ever due."""

    def __init__(self) -> None:
        self.earlier: Callable[[], None] = lambda: None

    @property
    def host_seconds_left(self) -> float | None:
        return None

    def start(self) -> None:
        """Nothing to do."""

    def run_due(self) -> None:
        """Nothing to do."""

    def wait_until(self, is_reached: Callable[[], bool]) -> None:
        """Nothing to do."""

    @property
    def counts_sleep(self) -> bool:
        return False

    def slept(self, nanoseconds: int) -> None:
        """Nothing to do."""


class Timekeeper:
    """Runs a machine's clock.

    Args:
        clock: the machine's clock.
        kernel_cache: collects the cache entries that due work makes stale; the current request does not wait for their
            invalidation.
        report: called with each unexpected exception; the current request is answered all the same.

    Attributes:
        clock: the machine's clock.
        sleepers: the processes that acted last.
    """

    def __init__(self, clock: Clock, kernel_cache: KernelCache, report: Callable[[Exception], None]) -> None:
        self.clock = clock
        self.sleepers = Sleepers()
        self._kernel_cache = kernel_cache
        self._report = report
        self._changed = trio.lowlevel.ParkingLot()
        self._watches = False
        clock.earlier = self._look_again

    def run_due(self) -> None:
        """Run the work that is due."""
        self._guarded(self.clock.run_due)

    def acted(self, handle: FileHandleT) -> None:
        """A process read or wrote an open file."""
        self.sleepers.acted(handle)
        if not self._watches and self.clock.counts_sleep:
            self._look_again()

    async def keep(self) -> None:
        """Run work when it is due.  Sleeps while no work is scheduled and no process acts."""
        while True:
            self.run_due()
            if self._kernel_cache.has_postponed:
                await self._kernel_cache.invalidate_postponed()
                continue
            with trio.move_on_after(self._seconds_to_sleep()):
                await self._changed.park()
            if self._watches:
                self._count_sleep()

    def _seconds_to_sleep(self) -> float:
        if self._watches:
            return max(SLEEP_CHECK, self.sleepers.idle / 4)
        left = self.clock.host_seconds_left
        return math.inf if left is None else left

    def _count_sleep(self) -> None:
        """Advance the clock while the process that acted last sleeps; stop checking when it does something else."""
        idle = self.sleepers.idle
        if idle < SLEEP_CHECK:
            return
        if self.sleepers.is_asleep:
            self._guarded(lambda: self.clock.slept(round(idle * 1e9)))
            self._watches = self.clock.counts_sleep
        elif idle > SLEEP_WATCH:
            self._watches = False

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as bug:
            self._report(bug)
        if self._kernel_cache.is_stale:
            self._kernel_cache.postpone()
            self._wake()

    def _look_again(self) -> None:
        self._watches = self.clock.counts_sleep
        self._wake()

    def _wake(self) -> None:
        self._changed.unpark_all()
