"""Activation of firmware by Intel's functions, as the kernel remembers what they said (drivers/acpi/nfit/intel.c, 6.1).

What the platform says of the bus and of a DIMM is asked once and remembered, until firmware is armed, disarmed or
activated.  Only `busy` is asked for again and again.
"""

from __future__ import annotations

import errno
import struct

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.ndctl import CALL, PACKAGE_SIZE, Package
from nvdimmfs.nd.bus import NvdimmBus
from nvdimmfs.nd.dimm import DimmDevice
from nvdimmfs.nd.firmware_activation import ActivationResult, ActivationState
from nvdimmfs.platforms.nfit.command import INTEL_FAMILY

#: Functions of the bus (NVDIMM_BUS_INTEL_FW_ACTIVATE_...), and their family (NVDIMM_BUS_FAMILY_INTEL).
BUS_INFO, BUS_ACTIVATE = 1, 2
BUS_FAMILY = 1

#: Functions of a DIMM (NVDIMM_INTEL_FW_ACTIVATE_...).
DIMM_INFO, DIMM_ARM = 29, 30

#: Payload of BUS_INFO: status, state, capability; microseconds of an activation, of quiet processors, of quiet devices,
#: and the most that the system holds still.
BUS_INFO_LAYOUT = struct.Struct("<I2xBBQQQQ")
#: Payload of BUS_ACTIVATE: whether devices are idle already; status.
BUS_ACTIVATE_LAYOUT = struct.Struct("<BI")
#: Payload of DIMM_INFO: status, result, state.
DIMM_INFO_LAYOUT = struct.Struct("<IHB7x")
#: Payload of DIMM_ARM: whether to arm; status.
DIMM_ARM_LAYOUT = struct.Struct("<BI")

#: States and results by number (ND_INTEL_FWA_..., ND_INTEL_DIMM_FWA_...); results without a place here are failures.
STATES = (ActivationState.IDLE, ActivationState.ARMED, ActivationState.BUSY)
RESULTS = (
    ActivationResult.NONE,
    ActivationResult.NOT_STAGED,
    ActivationResult.SUCCESS,
    ActivationResult.NEED_RESET,
)


def call(
    bus: NvdimmBus,
    dimm: DimmDevice | None,
    family: int,
    function: int,
    layout: struct.Struct,
    inputs: int,
    *values: int,
) -> tuple[int, ...]:
    """Call a function of the platform, and return the fields of its payload.

    Args:
        bus: the bus.
        dimm: whose function it is; None: the bus's.
        family: of functions.
        function: its number.
        layout: of the payload.
        inputs: bytes of it that go in.
        values: what is in it before.
    """
    head = Package(family, function, inputs, layout.size).to_bytes()
    payload = layout.pack(*values) if values else bytes(layout.size)
    argument = bytearray(head + payload + bytes(inputs))
    bus.control(dimm, CALL, argument)
    return layout.unpack_from(argument, PACKAGE_SIZE)


class IntelBusActivation:
    """What the kernel knows of a bus's activations.

    Attributes:
        count: activations so far; what is known of DIMMs from before the last one does not count.
        no_idle: devices need not be made idle.
    """

    def __init__(self, bus: NvdimmBus, capability: str) -> None:
        self._bus = bus
        self.capability = capability
        self._state: ActivationState | None = None
        self.count = 0
        self.no_idle = False

    def state(self) -> ActivationState:
        if self._state is None or self._state is ActivationState.BUSY:
            _, state, _, needed, _, _, most = call(self._bus, None, BUS_FAMILY, BUS_INFO, BUS_INFO_LAYOUT, 0)
            self._state = STATES[state]
            if self._state is ActivationState.ARMED and needed > most:
                self._state = ActivationState.OVERFLOW
        return self._state

    def forget_state(self) -> None:
        """Ask the platform next time."""
        self._state = None

    def activate(self) -> None:
        if self.state() not in (ActivationState.ARMED, ActivationState.OVERFLOW):
            raise KernelError(errno.ENXIO, "nothing is armed")
        call(self._bus, None, BUS_FAMILY, BUS_ACTIVATE, BUS_ACTIVATE_LAYOUT, 1, self.no_idle, 0)
        self.forget_state()
        self.count += 1


class IntelDimmActivation:
    """What the kernel knows of a DIMM's activation."""

    def __init__(self, dimm: DimmDevice, bus: IntelBusActivation) -> None:
        self._dimm = dimm
        self._bus = bus
        self._state: ActivationState | None = None
        self._result: ActivationResult | None = None
        self._count = 0

    def state(self) -> ActivationState:
        outdated = self._state is None or self._state is ActivationState.BUSY or self._count != self._bus.count
        if self._state is None or outdated:
            _, result, state = self._call(DIMM_INFO, DIMM_INFO_LAYOUT, 0)
            self._state = STATES[state]
            self._result = RESULTS[result] if result < len(RESULTS) else ActivationResult.FAIL
            self._count = self._bus.count
        return self._state

    def result(self) -> ActivationResult:
        if self._result is None or self._count != self._bus.count:
            self.state()
        assert self._result is not None, "it is told with the state"
        return self._result

    def arm(self, armed: bool) -> None:
        state = self.state()
        if state is ActivationState.BUSY:
            raise KernelError(errno.EBUSY, "an activation runs")
        if (state is ActivationState.ARMED) is armed:
            return
        self._bus.forget_state()
        self._state = None
        self._call(DIMM_ARM, DIMM_ARM_LAYOUT, 1, armed, 0)

    def _call(self, function: int, layout: struct.Struct, inputs: int, *values: int) -> tuple[int, ...]:
        return call(self._dimm.parent, self._dimm, INTEL_FAMILY, function, layout, inputs, *values)
