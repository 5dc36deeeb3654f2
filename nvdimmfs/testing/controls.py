"""The parts of a machine under test that are no files: its clock, its modules, its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self, TypeAlias

import attrs

from nvdimmfs.core.clock import Clock as MachineClock
from nvdimmfs.core.module import Modules as MachineModules
from nvdimmfs.kernels.durations import SECOND
from nvdimmfs.machine.checkpoint import Checkpoint as MachineCheckpoint
from nvdimmfs.testing.refusals import as_os_error

#: Holds the machine's lock for one call.
Turn: TypeAlias = Callable[[], AbstractContextManager[None]]


@attrs.frozen
class Pending:
    """Work of the kernel that is due later.

    Attributes:
        due: seconds from boot.
        what: what happens then.
    """

    due: float
    what: str


class Clock:
    """A machine's clock."""

    def __init__(self, clock: MachineClock, turn: Turn) -> None:
        self._clock = clock
        self._turn = turn

    @property
    def mode(self) -> str:
        """What advances it: "real", "steps" or "manual"."""
        return self._clock.mode.value

    @property
    def now(self) -> float:
        """Seconds from boot."""
        with self._turn():
            return self._clock.now / SECOND

    @property
    def pending(self) -> tuple[Pending, ...]:
        """The work that is due later, the earliest first."""
        with self._turn():
            return tuple(Pending(event.due / SECOND, event.what) for event in self._clock.pending)

    def advance(self, seconds: float) -> None:
        """Let time pass, in any mode, and do the work that is due by then.  ValueError for a negative time."""
        if seconds < 0:
            raise ValueError(f"{seconds} s: time does not run backwards")
        with self._turn():
            self._clock.advance(round(seconds * SECOND))


class Modules:
    """A machine's modules."""

    def __init__(self, modules: MachineModules, turn: Turn) -> None:
        self._modules = modules
        self._turn = turn

    @property
    def known(self) -> tuple[str, ...]:
        """The names of the modules that can be loaded."""
        with self._turn():
            return tuple(self._modules.known)

    @property
    def loaded(self) -> tuple[str, ...]:
        """The names of the loaded modules, in the order of loading."""
        with self._turn():
            return tuple(self._modules.loaded)

    def load(self, name: str) -> None:
        """Load a module, as insmod(8): those that it needs must be loaded.

        FileNotFoundError for an unknown module and for one whose needs are not loaded, FileExistsError for a loaded
        one.
        """
        with self._turn(), as_os_error(name):
            self._modules.load(name)

    def unload(self, name: str) -> None:
        """Unload a module, as rmmod(8).  FileNotFoundError when it is not loaded, BlockingIOError while it is used."""
        with self._turn(), as_os_error(name):
            self._modules.unload(name)


class Checkpoint:
    """A state of an engine's machine, to which it can go back any number of times.

    As a context manager, it does so at the end.
    """

    def __init__(self, checkpoint: MachineCheckpoint, turn: Turn) -> None:
        self._checkpoint = checkpoint
        self._turn = turn

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.reset()

    def reset(self) -> None:
        """Make the machine what it was, the clock included.  `Engine.events` keeps what was sent since.  ValueError."""
        with self._turn():
            self._checkpoint.reset()
