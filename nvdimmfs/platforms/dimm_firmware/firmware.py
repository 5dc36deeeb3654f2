"""The firmware of a bus and of its DIMMs, as a machine file describes it.

It keeps its state while drivers are bound and unbound; at a boot it is what the file describes.
"""

from __future__ import annotations

from collections.abc import Callable

from nvdimmfs.core.clock import Clock
from nvdimmfs.formats.intel_dsm import (
    ActivateBus,
    ActivateBusInfo,
    BusFunction,
    SecurityState,
    Status,
    temperature_of,
)
from nvdimmfs.formats.ndctl import CONFIG_LOCKED, DIMM_FAMILY_INTEL, LABEL_COMMANDS, U32, DimmCommand, LabelAreaSize
from nvdimmfs.formats.nfit_dsm import SUCCESS
from nvdimmfs.machine_file import model, words
from nvdimmfs.machine_file.health_bits import ALARMS, HEALTH
from nvdimmfs.machine_file.values import NO_TEMPERATURE
from nvdimmfs.media.base import Media
from nvdimmfs.nd.firmware_activation import ActivationState
from nvdimmfs.nd.security import NO_PASSPHRASE
from nvdimmfs.platforms.dimm_firmware.families import health_answer
from nvdimmfs.platforms.dimm_firmware.health import Health, Measurements, Thresholds
from nvdimmfs.platforms.dimm_firmware.intel import IntelFunctions, evaluate
from nvdimmfs.platforms.dimm_firmware.intel_health import IntelHealth
from nvdimmfs.platforms.dimm_firmware.security import EmulatedSecurity, state_at_boot
from nvdimmfs.platforms.dimm_firmware.update import Activations, BusActivations, FirmwareUpdate
from nvdimmfs.platforms.nfit.command import LABEL_METHODS
from nvdimmfs.platforms.nfit.qemu_labels import MAX_TRANSFER, LabelDsm

_SHUTDOWNS = {words.ShutdownState.CLEAN: False, words.ShutdownState.DIRTY: True}


class DimmFirmware:
    """The firmware of a DIMM (`nfit.command.DsmEvaluator`).

    Attributes:
        labels: accesses its label area; set while the DIMM is registered.
        on_health_event: called after a change of its health that the kernel is notified of.
    """

    def __init__(
        self,
        clock: Clock,
        table: model.DimmDescription,
        activations: Activations,
        bus_state: Callable[[], ActivationState],
    ) -> None:
        self.labels = LabelDsm(None)
        self.on_health_event: Callable[[], None] = _ignore
        self._locked = table.locked
        self._health = Health(_measurements(table), lambda: self.on_health_event()) if table.reports_health else None
        self._security = _security(clock, table) if table.has_security_functions else None
        self.update = _update(clock, activations, table.firmware) if table.firmware.version >= 0 else None
        self._intel = IntelFunctions(
            None if self._health is None else IntelHealth(self._health), self.update, self._security, bus_state
        )

    def connect(self, label_area: Media | None, on_health_event: Callable[[], None]) -> None:
        """The kernel registers the DIMM."""
        self.labels = LabelDsm(label_area, locked=self._locked)
        self.on_health_event = on_health_event

    def evaluate(self, family: int, function: int, payload: bytes) -> bytes | None:
        if family == LABEL_METHODS or (family == DIMM_FAMILY_INTEL and function in LABEL_COMMANDS):
            return self._labels_answer(family, function, payload)
        if family == DIMM_FAMILY_INTEL:
            return self._intel.evaluate(function, payload)
        return health_answer(self._health, family, function, payload)

    def _labels_answer(self, family: int, function: int, payload: bytes) -> bytes | None:
        """Access labels.  A passphrase that locks the DIMM leaves them readable, but their size has a flag for it."""
        area = self.labels.area
        locked = self._security is not None and SecurityState.LOCKED in self._security.state
        if locked and family == DIMM_FAMILY_INTEL and function == DimmCommand.GET_SIZE and area is not None:
            return LabelAreaSize(SUCCESS | CONFIG_LOCKED, area.size, MAX_TRANSFER).to_bytes()
        return self.labels.evaluate(family, function, payload)


class BusFirmware:
    """The firmware of the DIMMs of a bus, and the functions that activate all of it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._dimms: dict[int, DimmFirmware] = {}
        self._updates: list[FirmwareUpdate] = []
        self._shared = Activations(clock)
        self._activations = BusActivations(self._updates, self._shared)

    def dimm(self, table: model.DimmDescription) -> DimmFirmware:
        """The firmware of a DIMM."""
        firmware = self._dimms.get(table.handle)
        if firmware is None:
            state = lambda: self._activations.state  # noqa: E731  # a property has no other form as a function
            firmware = self._dimms[table.handle] = DimmFirmware(self._clock, table, self._shared, state)
            if firmware.update is not None and table.has_activation_functions:
                self._updates.append(firmware.update)
        return firmware

    def evaluate(self, function: int, payload: bytes) -> bytes:
        """Execute a function of the root device, of Intel's family: its outputs, status first."""
        match function:
            case BusFunction.FW_ACTIVATE_BUS_INFO:
                return evaluate(self._activations.info, b"", ActivateBusInfo.size())
            case BusFunction.FW_ACTIVATE if payload:
                return evaluate(self._activations.activate, payload[:1], ActivateBus.size() - 1)
        return U32.pack(Status.NOT_SUPPORTED)


def _measurements(table: model.DimmDescription) -> Measurements:
    health = table.health
    return Measurements(
        health=HEALTH.get(health.state, 0),
        spares=_reported(health.spares),
        life_used=_reported(health.life_used),
        media_temperature=_temperature(health.temperature),
        controller_temperature=_temperature(health.controller_temperature),
        unsafe_shutdown=_SHUTDOWNS.get(health.last_shutdown),
        shutdown_count=_reported(table.dirty_shutdown),
        thresholds=Thresholds(
            alarms=sum(ALARMS[alarm] for alarm in set(health.alarms)),
            spares=_reported(health.spares_threshold) or 0,
            media_temperature=_temperature(health.temperature_threshold) or 0,
            controller_temperature=_temperature(health.controller_temperature_threshold) or 0,
        ),
    )


def _reported(value: int) -> int | None:
    return value if value >= 0 else None


def _temperature(sixteenths: int) -> int | None:
    return None if sixteenths == NO_TEMPERATURE else temperature_of(sixteenths)


def _update(clock: Clock, activations: Activations, firmware: model.FirmwareDescription) -> FirmwareUpdate:
    newest = max(firmware.version, firmware.next_version)
    update = FirmwareUpdate(
        clock, activations, run_version=firmware.version, new_version=firmware.update_version or newest + 1
    )
    if firmware.next_version:
        update.stage(firmware.next_version)
    return update


def _security(clock: Clock, table: model.DimmDescription) -> EmulatedSecurity:
    """The security of a DIMM.  No key has the passphrase that it was given before the boot."""
    state = state_at_boot(table)
    return EmulatedSecurity(clock, state, passphrase=None if SecurityState.ENABLED in state else NO_PASSPHRASE)


def _ignore() -> None:
    """The DIMM is not registered."""
