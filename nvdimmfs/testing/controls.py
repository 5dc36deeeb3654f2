"""The parts of a machine under test that are no files: its clock, its modules, its checkpoints."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

import attrs

from nvdimmfs.kernels.durations import SECOND
from nvdimmfs.machine_file.type_checks import require
from nvdimmfs.testing.refusals import os_error
from nvdimmfs.units import S64_MAX

#: The largest time of the kernel, in nanoseconds (KTIME_MAX, include/linux/ktime.h).
_LONGEST_TIME = S64_MAX

#: A name of a module as a line of the debug file `modules` can have it.
_MODULE_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@attrs.frozen
class Pending:
    """Work of the kernel that is due later.

    Attributes:
        due: seconds from boot.
        what: what happens then.
    """

    due: float
    what: str


@attrs.frozen
class ClockState:
    """What a clock shows.

    Attributes:
        mode: what advances it.
        now: nanoseconds from boot.
        pending: the work that is due later, the earliest first.
    """

    mode: str
    now: int
    pending: tuple[Pending, ...]


class ClockSource(Protocol):
    """How a clock is reached."""

    def state(self) -> ClockState:
        """What it shows now."""

    def advance(self, nanoseconds: int) -> None:
        """Let time pass."""


class Clock:
    """A machine's clock."""

    def __init__(self, source: ClockSource) -> None:
        self._source = source

    @property
    def mode(self) -> str:
        """What advances it: "real", "steps" or "manual"."""
        return self._source.state().mode

    @property
    def now(self) -> float:
        """Seconds from boot."""
        return self._source.state().now / SECOND

    @property
    def pending(self) -> tuple[Pending, ...]:
        """The work that is due later, the earliest first."""
        return self._source.state().pending

    def advance(self, seconds: float) -> None:
        """Let time pass, in any mode, and do the work that is due by then.

        ValueError for a negative time, and for one of more than 292 years, which no clock of the kernel counts.
        """
        require("seconds", seconds, (int, float), "a number")
        if seconds < 0:
            raise ValueError(f"{seconds} s: time does not run backwards")
        if not seconds * SECOND <= _LONGEST_TIME:
            raise ValueError(f"{seconds} s: must be a time of at most {_LONGEST_TIME // SECOND} s")
        self._source.advance(round(seconds * SECOND))


class ModulesSource(Protocol):
    """How modules are reached."""

    def known(self) -> tuple[str, ...]:
        """The names of those that can be loaded."""

    def loaded(self) -> tuple[str, ...]:
        """The names of the loaded ones, in the order of loading."""

    def load(self, name: str) -> None:
        """Load one.  OSError."""

    def unload(self, name: str) -> None:
        """Unload one.  OSError."""


class Modules:
    """A machine's modules."""

    def __init__(self, source: ModulesSource) -> None:
        self._source = source

    @property
    def known(self) -> tuple[str, ...]:
        """The names of the modules that can be loaded."""
        return self._source.known()

    @property
    def loaded(self) -> tuple[str, ...]:
        """The names of the loaded modules, in the order of loading."""
        return self._source.loaded()

    def load(self, name: str) -> None:
        """Load a module, as insmod(8): those that it needs must be loaded.

        FileNotFoundError for an unknown module and for one whose needs are not loaded, FileExistsError for a loaded
        one.
        """
        self._source.load(_module_name(name))

    def unload(self, name: str) -> None:
        """Unload a module, as rmmod(8).  FileNotFoundError when it is not loaded, BlockingIOError while it is used."""
        self._source.unload(_module_name(name))


def _module_name(name: str) -> str:
    """A name that a module can have.  TypeError; FileNotFoundError for any other text, as from the kernel."""
    require("name", name, (str,), "a text")
    if not _MODULE_NAME.fullmatch(name):
        raise os_error(errno.ENOENT, name, (f"no module can have the name {name!r}",))
    return name


class Checkpoint:
    """A state of a machine under test, to which it can go back any number of times.

    As a context manager, it does so at the end.
    """

    def __init__(self, reset: Callable[[], None]) -> None:
        self._reset = reset

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.reset()

    def reset(self) -> None:
        """Make the machine what it was, the clock included; its `events` keep what was sent since.

        ValueError when the machine is closed.
        """
        self._reset()
