"""The machine's clock, as far as a front end has to do with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """The machine's clock.

    Attributes:
        earlier: called when something is to be done before all that was to be done so far.
    """

    earlier: Callable[[], None]

    @property
    def host_seconds_left(self) -> float | None:
        """Seconds of the host's time until the next event is due; None when the host's time brings none."""

    def start(self) -> None:
        """User space is there: time passes from now on."""

    def run_due(self) -> None:
        """Do what is due by now."""

    def wait_until(self, is_reached: Callable[[], bool]) -> None:
        """A process would wait for something."""


class NoClock:
    """The clock of a tree in which nothing happens later."""

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
