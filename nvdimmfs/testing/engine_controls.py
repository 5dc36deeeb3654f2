"""How the clock and the modules of an `Engine` are reached."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

from nvdimmfs.core.clock import Clock
from nvdimmfs.core.module import Modules
from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.faults.faults import Fault, Faults
from nvdimmfs.kernels.durations import SECOND
from nvdimmfs.machine.control import traced_module_call
from nvdimmfs.testing.controls import ClockState, Pending
from nvdimmfs.testing.refusals import as_os_error
from nvdimmfs.traces.event import Op

#: Holds the machine's lock for one call.
Turn: TypeAlias = Callable[[], AbstractContextManager[None]]


class EngineClock:
    """The clock of a machine in this process."""

    def __init__(self, clock: Clock, turn: Turn) -> None:
        self._clock = clock
        self._turn = turn

    def state(self) -> ClockState:
        """What it shows now."""
        with self._turn():
            pending = tuple(Pending(event.due / SECOND, event.what) for event in self._clock.pending)
            return ClockState(self._clock.mode.value, self._clock.now, pending)

    def advance(self, nanoseconds: int) -> None:
        """Let time pass."""
        with self._turn():
            self._clock.advance(nanoseconds)


class EngineFault:
    """A fault rule of a machine in this process."""

    def __init__(self, fault: Fault, faults: Faults, turn: Turn) -> None:
        self._fault = fault
        self._faults = faults
        self._turn = turn

    def hits(self) -> int:
        """How often it has applied."""
        return self._fault.hits

    def remove(self) -> None:
        """Remove it, if it is there; a cut power stays cut."""
        with self._turn():
            try:
                self._faults.remove(self._fault)
            except KernelError as refusal:
                if refusal.errno != errno.EBUSY:
                    raise


class EngineModules:
    """The modules of a machine in this process."""

    def __init__(self, modules: Modules, system: System, turn: Turn) -> None:
        self._modules = modules
        self._system = system
        self._turn = turn

    def known(self) -> tuple[str, ...]:
        """The names of those that can be loaded."""
        with self._turn():
            return tuple(self._modules.known)

    def loaded(self) -> tuple[str, ...]:
        """The names of the loaded ones, in the order of loading."""
        with self._turn():
            return tuple(self._modules.loaded)

    def load(self, name: str) -> None:
        """Load one.  OSError."""
        with self._turn(), as_os_error(name), traced_module_call(self._system, Op.LOAD, name, 0):
            self._modules.load(name)

    def unload(self, name: str) -> None:
        """Unload one.  OSError."""
        with self._turn(), as_os_error(name), traced_module_call(self._system, Op.UNLOAD, name, 0):
            self._modules.unload(name)
