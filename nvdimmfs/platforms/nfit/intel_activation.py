"""Firmware activation by Intel's functions, with the states that the kernel caches (drivers/acpi/nfit/intel.c, 6.1).

The states of the bus and of each DIMM are read once and cached until firmware is armed, disarmed or activated.  Only
`busy` is not cached.
"""

from __future__ import annotations

import errno
from typing import TypeVar

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.dimm_functions import IntelFunction
from nvdimmfs.formats.intel_dsm import (
    ActivateArm,
    ActivateBus,
    ActivateBusInfo,
    ActivateDimmInfo,
    BusFunction,
)
from nvdimmfs.formats.ndctl import BUS_FAMILY_INTEL, DIMM_FAMILY_INTEL, Package, command_mask
from nvdimmfs.formats.structure import Structure
from nvdimmfs.nd.bus import NvdimmBus
from nvdimmfs.nd.dimm import DimmDevice
from nvdimmfs.nd.firmware_activation import ActivationResult, ActivationState
from nvdimmfs.platforms.nfit.command import call

#: The functions of a bus that firmware activation needs, a bit each.
BUS_ACTIVATION = command_mask(BusFunction)

#: States and results by number (ND_INTEL_FWA_..., ND_INTEL_DIMM_FWA_...); other results are failures.
STATES = (ActivationState.IDLE, ActivationState.ARMED, ActivationState.BUSY)
RESULTS = (
    ActivationResult.NONE,
    ActivationResult.NOT_STAGED,
    ActivationResult.SUCCESS,
    ActivationResult.NEED_RESET,
)


_StructureT = TypeVar("_StructureT", bound=Structure)


def _call(
    bus: NvdimmBus, dimm: DimmDevice | None, function: BusFunction | IntelFunction, payload: _StructureT, size_in: int
) -> _StructureT:
    """Call a function of the bus or a DIMM and return the payload.  All of it counts as output, including inputs."""
    family = BUS_FAMILY_INTEL if dimm is None else DIMM_FAMILY_INTEL
    package = Package(family, function, size_in, payload.size())
    return payload.from_bytes(call(bus, dimm, package, payload.to_bytes()))


class IntelBusActivation:
    """The kernel's cache of a bus's activation state.

    Attributes:
        count: activations so far; a DIMM's state from before the last one is not used.
        no_idle: devices need not be idle.
    """

    def __init__(self, bus: NvdimmBus, capability: str) -> None:
        self._bus = bus
        self.capability = capability
        self._state: ActivationState | None = None
        self.count = 0
        self.no_idle = False

    def state(self) -> ActivationState:
        if self._state is None or self._state is ActivationState.BUSY:
            info = _call(self._bus, None, BusFunction.FW_ACTIVATE_BUS_INFO, ActivateBusInfo(), 0)
            self._state = STATES[info.state]
            if self._state is ActivationState.ARMED and info.activate_time > info.max_quiesce_time:
                self._state = ActivationState.OVERFLOW
        return self._state

    def forget_state(self) -> None:
        """Read the state from the platform next time."""
        self._state = None

    def activate(self) -> None:
        if self.state() not in (ActivationState.ARMED, ActivationState.OVERFLOW):
            raise KernelError(errno.ENXIO, "no firmware is armed")
        _call(self._bus, None, BusFunction.FW_ACTIVATE, ActivateBus(self.no_idle), 1)
        self.forget_state()
        self.count += 1


class IntelDimmActivation:
    """The kernel's cache of a DIMM's activation state."""

    def __init__(self, dimm: DimmDevice, bus: IntelBusActivation) -> None:
        self._dimm = dimm
        self._bus = bus
        self._state: ActivationState | None = None
        self._result: ActivationResult | None = None
        self._count = 0

    def state(self) -> ActivationState:
        outdated = self._state is None or self._state is ActivationState.BUSY or self._count != self._bus.count
        if self._state is None or outdated:
            info = self._call(IntelFunction.FW_ACTIVATE_DIMM_INFO, ActivateDimmInfo(), 0)
            self._state = STATES[info.state]
            self._result = RESULTS[info.result] if info.result < len(RESULTS) else ActivationResult.FAIL
            self._count = self._bus.count
        return self._state

    def result(self) -> ActivationResult:
        if self._result is None or self._count != self._bus.count:
            self.state()
        assert self._result is not None, "reported with the state"
        return self._result

    def arm(self, armed: bool) -> None:
        state = self.state()
        if state is ActivationState.BUSY:
            raise KernelError(errno.EBUSY, "an activation is running")
        if (state is ActivationState.ARMED) is armed:
            return
        self._bus.forget_state()
        self._state = None
        self._call(IntelFunction.FW_ACTIVATE_ARM, ActivateArm(armed), 1)

    def _call(self, function: IntelFunction, payload: _StructureT, size_in: int) -> _StructureT:
        return _call(self._dimm.parent, self._dimm, function, payload, size_in)
