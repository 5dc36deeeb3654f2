"""Updates of the firmware of the test platform's DIMMs, and their activation (tools/testing/nvdimm/test, 6.1)."""

from __future__ import annotations

import enum
import errno
import struct

import attrs

from nvdimmfs.core.clock import Clock
from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.durations import FIRMWARE_ACTIVATION, FIRMWARE_VERIFY, MICROSECOND
from nvdimmfs.nd.firmware_activation import ActivationResult, ActivationState
from nvdimmfs.platforms.nfit.intel_activation import (
    BUS_ACTIVATE_LAYOUT,
    BUS_INFO_LAYOUT,
    DIMM_ARM_LAYOUT,
    DIMM_INFO_LAYOUT,
    RESULTS,
    STATES,
)
from nvdimmfs.platforms.nfit_test.payload import WORD, Payload
from nvdimmfs.units import U32_MASK

#: Bytes of firmware, and of one piece of it; microseconds between two looks, and until it must be done (INTEL_FW_...).
STORAGE_SIZE = 0x100000
MAX_SEND_LENGTH = 0xFFEC
QUERY_INTERVAL = 250_000
MAX_QUERY_TIME = 3_000_000
INTERFACE_VERSION = 0x0105
#: The version of every update.
NEW_VERSION = 0xFFFF_FFFF_ABCD

#: The activation of one DIMM's firmware would take so many microseconds.
_ACTIVATION_OF_ONE = 1_000_000

#: Extended statuses of Intel's functions: in the lower half 7, "vendor specific", in the upper what it is.
BAD_SEQUENCE = 5
BAD_ARGUMENT = 3
IN_PROGRESS = WRONG_CONTEXT = 0x10007
STILL_BUSY = 0x20007
ABORTED = OUT_OF_ORDER = 0x40007

#: Statuses of an activation: 6, and in the upper half why not (ND_INTEL_BUS_FWA_STATUS_...).
NOTHING_ARMED = 1 << 16 | 6
ACTIVATING = 2 << 16 | 6
TOO_LONG = 4 << 16 | 6

#: The firmware can be made quiet, so can the system, and a reset works, too (ND_INTEL_BUS_FWA_CAP_...).
_CAPABILITIES = 7

#: Status, sizes of storage and of a piece, interval and longest time of looks, capabilities; versions of the interface,
#: of what runs and of the update.
_INFO = struct.Struct("<IIIIIB")
_VERSIONS, _VERSIONS_OFFSET = struct.Struct("<IQQ"), 24
_START = struct.Struct("<II")
#: Context, offset, length; then the data and the status.
_SEND = struct.Struct("<III")
#: What to do, context; then the status.
_FINISH = struct.Struct("<B3xI")
_QUERY = struct.Struct("<I")
_QUERIED = struct.Struct("<IQ")


class UpdateState(enum.Enum):
    """How far an update is."""

    NEW = enum.auto()
    IN_PROGRESS = enum.auto()
    VERIFY = enum.auto()
    UPDATED = enum.auto()


class Activations:
    """What the test platform's buses know of activations, all together.

    Attributes:
        last: the number of the last one; 0 for none.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.last = 0
        self._ends = 0

    @property
    def busy(self) -> bool:
        """Whether the last one still goes on."""
        return self._clock.now < self._ends

    def begin(self) -> None:
        self.last += 1
        self._ends = self._clock.now + FIRMWARE_ACTIVATION.nanoseconds


@attrs.define(eq=False)
class FirmwareUpdate:
    """The firmware of a DIMM.

    Attributes:
        context: of the update that was begun last.
        version: of the update; 0 before there is one.
        armed: it is to be activated.
        missed: it was armed when others were activated, but was no update.
        activation: the number of the activation in which it was armed; 0 for none.
    """

    _clock: Clock
    _activations: Activations
    state: UpdateState = UpdateState.NEW
    context: int = 0
    version: int = 0
    _verified: int = 0
    armed: bool = False
    missed: bool = False
    activation: int = 0

    def info(self, payload: Payload) -> None:
        """Tell what it can and what it has (ND_INTEL_FW_GET_INFO)."""
        payload.require(_VERSIONS_OFFSET + _VERSIONS.size)
        payload.put(_INFO, 0, 0, STORAGE_SIZE, MAX_SEND_LENGTH, QUERY_INTERVAL, MAX_QUERY_TIME, 0)
        payload.put(_VERSIONS, _VERSIONS_OFFSET, INTERFACE_VERSION, 0, self.version)

    def start(self, payload: Payload) -> None:
        """Begin an update (ND_INTEL_FW_START_UPDATE)."""
        payload.require(_START.size)
        if self.state is not UpdateState.NEW:
            payload.put(WORD, 0, IN_PROGRESS)
            return
        self.state = UpdateState.IN_PROGRESS
        self.context += 1
        payload.put(_START, 0, 0, self.context)

    def send(self, payload: Payload) -> None:
        """Take a piece of it (ND_INTEL_FW_SEND_DATA)."""
        payload.require(_SEND.size)
        context, offset, length = payload.get(_SEND)
        payload.put(WORD, _SEND.size + length, self._status_of_piece(context, offset, length))

    def _status_of_piece(self, context: int, offset: int, length: int) -> int:
        if self.state is not UpdateState.IN_PROGRESS:
            return BAD_SEQUENCE
        if context != self.context:
            return WRONG_CONTEXT
        if (offset + length) & U32_MASK > STORAGE_SIZE or length > MAX_SEND_LENGTH:
            return BAD_ARGUMENT
        return 0

    def finish(self, payload: Payload) -> None:
        """Verify it (0) or forget it (1) (ND_INTEL_FW_FINISH_UPDATE).  EINVAL for other wishes."""
        wish, context = payload.get(_FINISH)
        payload.put(WORD, _FINISH.size, self._finish(wish, context))

    def _finish(self, wish: int, context: int) -> int:
        if self.state is UpdateState.UPDATED:
            return STILL_BUSY
        if wish > 1:
            raise KernelError(errno.EINVAL, f"{wish} is neither finish nor abort")
        if wish:
            self.state = UpdateState.NEW
            return ABORTED
        if context != self.context:
            return WRONG_CONTEXT
        self.state, self._verified = UpdateState.VERIFY, self._clock.now + FIRMWARE_VERIFY.nanoseconds
        return 0

    def query(self, payload: Payload) -> None:
        """Tell how far it is (ND_INTEL_FW_FINISH_QUERY)."""
        payload.require(_QUERY.size + _QUERIED.size)
        (context,) = payload.get(_QUERY)
        if context != self.context:
            payload.put(WORD, _QUERY.size, WRONG_CONTEXT)
            return
        if self.state is UpdateState.VERIFY and self._clock.now >= self._verified:
            self.state, self.version = UpdateState.UPDATED, NEW_VERSION
        statuses = {UpdateState.IN_PROGRESS: OUT_OF_ORDER, UpdateState.VERIFY: STILL_BUSY}
        version = NEW_VERSION if self.state is UpdateState.UPDATED else 0
        payload.put(_QUERIED, _QUERY.size, statuses.get(self.state, 0), version)

    def activate(self) -> None:
        """All that is armed is being activated."""
        if not self.armed:
            return
        if self.state is UpdateState.UPDATED:
            self.state = UpdateState.NEW
        else:
            self.missed = True
        self.armed = False
        self.activation = self._activations.last

    def arm(self, payload: Payload) -> None:
        """Arm or disarm it (NVDIMM_INTEL_FW_ACTIVATE_ARM)."""
        wish, _ = payload.get(DIMM_ARM_LAYOUT)
        self.armed = wish == 1
        payload.put(WORD, 1, 0)

    def tell_activation(self, payload: Payload, bus: ActivationState) -> None:
        """Tell what became of it (NVDIMM_INTEL_FW_ACTIVATE_DIMMINFO).

        Args:
            payload: of the function.
            bus: the state of all DIMMs together.
        """
        state = bus if bus is not ActivationState.ARMED or self.armed else ActivationState.IDLE
        result = ActivationResult.NONE
        if self._activations.last and self.activation == self._activations.last and state is ActivationState.IDLE:
            result = ActivationResult.NOT_STAGED if self.missed else ActivationResult.SUCCESS
        payload.put(DIMM_INFO_LAYOUT, 0, 0, RESULTS.index(result), STATES.index(state))


@attrs.frozen
class BusActivations:
    """The activation of a bus's DIMMs."""

    updates: tuple[FirmwareUpdate, ...]
    shared: Activations

    @property
    def _armed(self) -> int:
        return sum(update.armed for update in self.updates)

    @property
    def state(self) -> ActivationState:
        if self._armed:
            return ActivationState.ARMED
        return ActivationState.BUSY if self.shared.busy else ActivationState.IDLE

    def info(self, payload: Payload) -> None:
        """Tell whether anything is armed and how long it would take (NVDIMM_BUS_INTEL_FW_ACTIVATE_BUSINFO)."""
        needed, most = self._armed * _ACTIVATION_OF_ONE, FIRMWARE_ACTIVATION.nanoseconds // MICROSECOND
        state = STATES.index(self.state)
        payload.put(BUS_INFO_LAYOUT, 0, 0, state, _CAPABILITIES, needed, needed, needed, most)

    def activate(self, payload: Payload) -> None:
        """Activate what is armed, even if it takes too long (NVDIMM_BUS_INTEL_FW_ACTIVATE)."""
        status = 0
        if self.state is ActivationState.BUSY:
            status = ACTIVATING
        elif self._armed * _ACTIVATION_OF_ONE > FIRMWARE_ACTIVATION.nanoseconds // MICROSECOND:
            status = TOO_LONG
        elif self.state is ActivationState.IDLE:
            status = NOTHING_ARMED
        payload.put(WORD, BUS_ACTIVATE_LAYOUT.size - WORD.size, status)
        if status not in (0, TOO_LONG):
            return
        self.shared.begin()
        for update in self.updates:
            update.activate()
