"""How the clock and the modules of an `Engine` are reached."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeAlias

from nvdimmfs.errors import KernelError
from nvdimmfs.faults.faults import Fault
from nvdimmfs.kernels.durations import SECOND
from nvdimmfs.machine.device_calls import traced_module_call
from nvdimmfs.machine.machine import Machine
from nvdimmfs.testing.controls import ClockState, Pending
from nvdimmfs.testing.refusals import as_os_error
from nvdimmfs.traces.event import Op

#: Holds the lock for one call, which the machine that runs now is for: a power cycle replaces it.
Turn: TypeAlias = Callable[[], AbstractContextManager[Machine]]


class EngineClock:
    """The clock of a machine in this process."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def state(self) -> ClockState:
        """What it shows now."""
        with self._turn() as machine:
            clock = machine.system.clock
            pending = tuple(Pending(event.due / SECOND, event.what) for event in clock.pending)
            return ClockState(clock.mode.value, clock.now, pending)

    def advance(self, nanoseconds: int) -> None:
        """Let time pass."""
        with self._turn() as machine:
            machine.system.clock.advance(nanoseconds)


class EngineFault:
    """A fault rule of a machine in this process."""

    def __init__(self, fault: Fault, turn: Turn) -> None:
        self._fault = fault
        self._turn = turn

    def hits(self) -> int:
        """How often it has applied."""
        return self._fault.hits

    def remove(self) -> None:
        """Remove it, if it is there; a cut power stays cut."""
        with self._turn() as machine:
            faults = machine.system.faults
            try:
                if self._fault in faults:
                    faults.remove(self._fault)
            except KernelError as refusal:
                if refusal.errno != errno.EBUSY:
                    raise


class EngineModules:
    """The modules of a machine in this process."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def known(self) -> tuple[str, ...]:
        """The names of those that can be loaded."""
        with self._turn() as machine:
            return tuple(machine.persistent_memory.modules.known)

    def loaded(self) -> tuple[str, ...]:
        """The names of the loaded ones, in the order of loading."""
        with self._turn() as machine:
            return tuple(machine.persistent_memory.modules.loaded)

    def load(self, name: str) -> None:
        """Load one.  OSError."""
        with self._turn() as machine, as_os_error(name), traced_module_call(machine.system, Op.LOAD, name, 0):
            machine.persistent_memory.modules.load(name)

    def unload(self, name: str) -> None:
        """Unload one.  OSError."""
        with self._turn() as machine, as_os_error(name), traced_module_call(machine.system, Op.UNLOAD, name, 0):
            machine.persistent_memory.modules.unload(name)
