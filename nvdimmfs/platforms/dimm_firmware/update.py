"""Updates of the firmware of DIMMs, and their activation.

Limits and statuses are those of tools/testing/nvdimm/test/nfit.c (Linux 6.1).
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Collection

import attrs

from nvdimmfs.core.clock import Clock
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.intel_dsm import (
    ActivateArm,
    ActivateBus,
    ActivateBusInfo,
    ActivateDimmInfo,
    FirmwareFinish,
    FirmwareInfo,
    FirmwareQuery,
    FirmwareSend,
    FirmwareStart,
    Status,
    StatusOnly,
)
from nvdimmfs.kernels.durations import FIRMWARE_ACTIVATION, FIRMWARE_QUERY, FIRMWARE_VERIFY, MICROSECOND
from nvdimmfs.nd.firmware_activation import ActivationResult, ActivationState
from nvdimmfs.platforms.dimm_firmware.payload import Payload
from nvdimmfs.platforms.nfit.intel_activation import RESULTS, STATES
from nvdimmfs.units import U32_MASK

#: Bytes of firmware, and of one piece of it; microseconds between two queries, and of a whole update (INTEL_FW_...).
STORAGE_SIZE = 0x100000
MAX_SEND_LENGTH = 0xFFEC
QUERY_INTERVAL = 250_000
MAX_QUERY_TIME = 3_000_000
INTERFACE_VERSION = 0x0105
#: The version of every update of the test platform.
NEW_VERSION = 0xFFFF_FFFF_ABCD

#: The reported duration of the activation of one DIMM's firmware, microseconds.
_ACTIVATION_OF_ONE = 1_000_000

#: Statuses of an activation: 6, and the reason in the upper half (ND_INTEL_BUS_FWA_STATUS_...).
NOTHING_ARMED = 1 << 16 | 6
ACTIVATING = 2 << 16 | 6
TOO_LONG = 4 << 16 | 6

#: Firmware and system can be quiesced, and a reset activates, too (ND_INTEL_BUS_FWA_CAP_...).
_CAPABILITIES = 7


class UpdateState(enum.Enum):
    """The progress of an update."""

    NEW = enum.auto()
    IN_PROGRESS = enum.auto()
    VERIFY = enum.auto()
    UPDATED = enum.auto()


class Activations:
    """The activations on all buses of the test platform.

    Attributes:
        last: the number of the last one; 0 for none.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.last = 0
        self._ends = 0

    @property
    def busy(self) -> bool:
        """Whether the last one still runs."""
        return self._clock.now < self._ends

    def begin(self) -> None:
        self.last += 1
        self._ends = self._clock.now + FIRMWARE_ACTIVATION.nanoseconds


@attrs.define(eq=False)
class FirmwareUpdate:
    """The firmware of a DIMM.

    Attributes:
        context: the context of the update that was started last.
        run_version: the version that runs; 0 if an activation does not change what it reports, as on the test platform.
        new_version: the version of the next update.
        version: the version of the update; 0 before there is one.
        armed: the next activation includes it.
        missed: it was armed during an activation, without an update.
        activation: the number of the activation in which it was armed; 0 for none.
    """

    _clock: Clock
    _activations: Activations
    run_version: int = 0
    new_version: int = NEW_VERSION
    state: UpdateState = UpdateState.NEW
    context: int = 0
    version: int = 0
    _verified: int = 0
    armed: bool = False
    missed: bool = False
    activation: int = 0

    def stage(self, version: int) -> None:
        """An update was verified before the boot."""
        self.state, self.version = UpdateState.UPDATED, version

    def info(self, payload: Payload) -> None:
        """Return limits and versions (ND_INTEL_FW_GET_INFO)."""
        payload.require(FirmwareInfo.size())
        info = attrs.evolve(
            payload.get(FirmwareInfo),
            status=Status.SUCCESS,
            storage_size=STORAGE_SIZE,
            max_send_length=MAX_SEND_LENGTH,
            query_interval=QUERY_INTERVAL,
            max_query_time=MAX_QUERY_TIME,
            update_capability=0,
            interface_version=INTERFACE_VERSION,
            run_version=self.run_version,
            updated_version=self.version,
        )
        payload.put(info)

    def start(self, payload: Payload) -> None:
        """Start an update (ND_INTEL_FW_START_UPDATE)."""
        payload.require(FirmwareStart.size())
        if self.state is not UpdateState.NEW:
            payload.put(StatusOnly(Status.UPDATE_IN_PROGRESS))
            return
        self.state = UpdateState.IN_PROGRESS
        self.context += 1
        payload.put(FirmwareStart(Status.SUCCESS, self.context))

    def send(self, payload: Payload) -> None:
        """Receive a piece of the firmware (ND_INTEL_FW_SEND_DATA)."""
        payload.require(FirmwareSend.size())
        piece = payload.get(FirmwareSend)
        payload.put(StatusOnly(self._status_of(piece)), FirmwareSend.size() + piece.length)

    def _status_of(self, piece: FirmwareSend) -> Status:
        if self.state is not UpdateState.IN_PROGRESS:
            return Status.BAD_SEQUENCE
        if piece.context != self.context:
            return Status.WRONG_CONTEXT
        if (piece.offset + piece.length) & U32_MASK > STORAGE_SIZE or piece.length > MAX_SEND_LENGTH:
            return Status.BAD_ARGUMENT
        return Status.SUCCESS

    def finish(self, payload: Payload) -> None:
        """Verify the update (0) or abort it (1) (ND_INTEL_FW_FINISH_UPDATE).  EINVAL for anything else."""
        request = payload.get(FirmwareFinish)
        payload.put(attrs.evolve(request, status=self._finish(request.control, request.context)))

    def _finish(self, control: int, context: int) -> Status:
        if self.state is UpdateState.UPDATED:
            return Status.UPDATE_BUSY
        if control > 1:
            raise KernelError(errno.EINVAL, f"{control} is neither finish nor abort")
        if control:
            self.state = UpdateState.NEW
            return Status.UPDATE_ABORTED
        if context != self.context:
            return Status.WRONG_CONTEXT
        self.state, self._verified = UpdateState.VERIFY, self._clock.now + FIRMWARE_VERIFY.nanoseconds
        return Status.SUCCESS

    def query(self, payload: Payload) -> None:
        """Return the progress of the update (ND_INTEL_FW_FINISH_QUERY)."""
        self._clock.price_act(FIRMWARE_QUERY)
        payload.require(FirmwareQuery.size())
        request = payload.get(FirmwareQuery)
        if request.context != self.context:
            payload.put(attrs.evolve(request, status=Status.WRONG_CONTEXT))
            return
        if self.state is UpdateState.VERIFY and self._clock.now >= self._verified:
            self.state, self.version = UpdateState.UPDATED, self.new_version
        statuses = {UpdateState.IN_PROGRESS: Status.UPDATE_OUT_OF_ORDER, UpdateState.VERIFY: Status.UPDATE_BUSY}
        version = self.new_version if self.state is UpdateState.UPDATED else 0
        payload.put(FirmwareQuery(request.context, statuses.get(self.state, Status.SUCCESS), version))

    def activate(self) -> None:
        """Activate the update, if it is armed."""
        if not self.armed:
            return
        if self.state is UpdateState.UPDATED:
            self.state = UpdateState.NEW
            self._run()
        else:
            self.missed = True
        self.armed = False
        self.activation = self._activations.last

    def _run(self) -> None:
        """Run the update, except on the test platform, which goes on to report it as an update."""
        if self.run_version:
            self.run_version, self.version, self.new_version = self.version, 0, self.version + 1

    def arm(self, payload: Payload) -> None:
        """Arm or disarm the firmware (NVDIMM_INTEL_FW_ACTIVATE_ARM)."""
        request = payload.get(ActivateArm)
        self.armed = request.arm == 1
        payload.put(attrs.evolve(request, status=Status.SUCCESS))

    def activation_info(self, payload: Payload, bus: ActivationState) -> None:
        """Return state and result of the activation (NVDIMM_INTEL_FW_ACTIVATE_DIMMINFO).

        Args:
            payload: the payload of the function.
            bus: the state of all DIMMs together.
        """
        state = bus if bus is not ActivationState.ARMED or self.armed else ActivationState.IDLE
        result = ActivationResult.NONE
        if self._activations.last and self.activation == self._activations.last and state is ActivationState.IDLE:
            result = ActivationResult.NOT_STAGED if self.missed else ActivationResult.SUCCESS
        payload.put(ActivateDimmInfo(Status.SUCCESS, RESULTS.index(result), STATES.index(state)))


@attrs.frozen
class BusActivations:
    """The activation of a bus's DIMMs.

    Attributes:
        updates: the firmware of each DIMM.
        shared: the activations so far.
    """

    updates: Collection[FirmwareUpdate]
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
        """Return the state and the durations of an activation (NVDIMM_BUS_INTEL_FW_ACTIVATE_BUSINFO)."""
        needed, most = self._armed * _ACTIVATION_OF_ONE, FIRMWARE_ACTIVATION.nanoseconds // MICROSECOND
        state = STATES.index(self.state)
        payload.put(ActivateBusInfo(Status.SUCCESS, state, _CAPABILITIES, needed, needed, needed, most))

    def activate(self, payload: Payload) -> None:
        """Activate the armed firmware, even past the time limit (NVDIMM_BUS_INTEL_FW_ACTIVATE)."""
        status = 0
        if self.state is ActivationState.BUSY:
            status = ACTIVATING
        elif self._armed * _ACTIVATION_OF_ONE > FIRMWARE_ACTIVATION.nanoseconds // MICROSECOND:
            status = TOO_LONG
        elif self.state is ActivationState.IDLE:
            status = NOTHING_ARMED
        payload.put(attrs.evolve(payload.get(ActivateBus), status=status))
        if status not in (0, TOO_LONG):
            return
        self.shared.begin()
        for update in self.updates:
            update.activate()
