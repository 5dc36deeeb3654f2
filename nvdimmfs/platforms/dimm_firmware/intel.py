"""All functions of Intel's family that a DIMM executes, by number."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.dimm_functions import IntelFunction
from nvdimmfs.formats.intel_dsm import (
    ActivateArm,
    ActivateDimmInfo,
    FirmwareFinish,
    FirmwareInfo,
    FirmwareQuery,
    FirmwareSend,
    FirmwareStart,
    LatchShutdown,
    PassphraseChange,
    PassphraseCommand,
    SecurityStatus,
    Smart,
    SmartInject,
    SmartSetThreshold,
    SmartThreshold,
    Status,
    StatusOnly,
)
from nvdimmfs.formats.ndctl import DIMM_FAMILY_INTEL, PACKAGE_SIZE, U32, Package
from nvdimmfs.formats.structure import Structure
from nvdimmfs.nd.firmware_activation import ActivationState
from nvdimmfs.platforms.dimm_firmware.intel_health import IntelHealth, latch_shutdown
from nvdimmfs.platforms.dimm_firmware.payload import Payload
from nvdimmfs.platforms.dimm_firmware.security import EmulatedSecurity
from nvdimmfs.platforms.dimm_firmware.update import FirmwareUpdate


@attrs.frozen
class IntelFunctions:
    """The functions of one DIMM.

    Attributes:
        health: its health; None if it reports none.
        update: its firmware; None if it cannot be updated.
        security: its passphrases; None without security.
        bus_state: returns the state of the activation of all firmware of the bus.
    """

    health: IntelHealth | None
    update: FirmwareUpdate | None
    security: EmulatedSecurity | None
    bus_state: Callable[[], ActivationState]

    def find(self, function: int) -> Callable[[Payload], None] | None:
        """The function of that number; None when the DIMM has no such function."""
        for functions in (self._health, self._update, self._security):
            if function in functions:
                return functions[function]
        return None

    @property
    def _health(self) -> dict[int, Callable[[Payload], None]]:
        health = self.health
        if health is None:
            return {}
        return {
            IntelFunction.SMART: health.smart,
            IntelFunction.SMART_THRESHOLD: health.thresholds,
            IntelFunction.ENABLE_LSS_STATUS: latch_shutdown,
            IntelFunction.SMART_SET_THRESHOLD: health.set_thresholds,
            IntelFunction.SMART_INJECT: health.inject,
        }

    @property
    def _update(self) -> dict[int, Callable[[Payload], None]]:
        update = self.update
        if update is None:
            return {}
        return {
            IntelFunction.FW_GET_INFO: update.info,
            IntelFunction.FW_START_UPDATE: update.start,
            IntelFunction.FW_SEND_DATA: update.send,
            IntelFunction.FW_FINISH_UPDATE: update.finish,
            IntelFunction.FW_FINISH_QUERY: update.query,
            IntelFunction.FW_ACTIVATE_DIMM_INFO: lambda payload: update.activation_info(payload, self.bus_state()),
            IntelFunction.FW_ACTIVATE_ARM: update.arm,
        }

    @property
    def _security(self) -> dict[int, Callable[[Payload], None]]:
        security = self.security
        if security is None:
            return {}
        return {
            IntelFunction.GET_SECURITY_STATE: security.report,
            IntelFunction.SET_PASSPHRASE: security.set_passphrase,
            IntelFunction.DISABLE_PASSPHRASE: security.disable,
            IntelFunction.UNLOCK_UNIT: security.unlock,
            IntelFunction.FREEZE_LOCK: security.freeze,
            IntelFunction.SECURE_ERASE: security.erase,
            IntelFunction.OVERWRITE: security.overwrite,
            IntelFunction.QUERY_OVERWRITE: security.query_overwrite,
            IntelFunction.SET_MASTER_PASSPHRASE: security.set_master_passphrase,
            IntelFunction.MASTER_SECURE_ERASE: security.erase_by_master,
        }

    def evaluate(self, function: int, payload: bytes) -> bytes:
        """Execute a function as a _DSM: its outputs, status first.

        A function that the DIMM does not have, and inputs of another size, are a status of the firmware.
        """
        execute = self.find(function)
        if execute is None:
            return U32.pack(Status.NOT_SUPPORTED)
        structure, inputs = STRUCTURES[function]
        outputs = structure.size() - inputs
        if function == IntelFunction.FW_SEND_DATA and len(payload) > inputs:
            inputs, outputs = len(payload), U32.size
        if len(payload) < inputs:
            return U32.pack(Status.BAD_ARGUMENT)
        return evaluate(execute, payload[:inputs], outputs)


def evaluate(execute: Callable[[Payload], None], inputs: bytes, outputs: int) -> bytes:
    """Execute a function with these inputs and return its outputs, of which there are so many bytes."""
    package = Package(DIMM_FAMILY_INTEL, 0, len(inputs), outputs)
    argument = package.argument(inputs)
    try:
        execute(Payload(package, argument))
    except KernelError:
        return U32.pack(Status.BAD_ARGUMENT)
    return bytes(argument[PACKAGE_SIZE + len(inputs) :])


#: The payload of each function, and how many bytes of it go in.
STRUCTURES: dict[int, tuple[type[Structure], int]] = {
    IntelFunction.SMART: (Smart, 0),
    IntelFunction.SMART_THRESHOLD: (SmartThreshold, 0),
    IntelFunction.ENABLE_LSS_STATUS: (LatchShutdown, 1),
    IntelFunction.FW_GET_INFO: (FirmwareInfo, 0),
    IntelFunction.FW_START_UPDATE: (FirmwareStart, 0),
    IntelFunction.FW_SEND_DATA: (FirmwareSend, FirmwareSend.size()),
    IntelFunction.FW_FINISH_UPDATE: (FirmwareFinish, FirmwareFinish.size() - U32.size),
    IntelFunction.FW_FINISH_QUERY: (FirmwareQuery, U32.size),
    IntelFunction.SMART_SET_THRESHOLD: (SmartSetThreshold, SmartSetThreshold.size() - U32.size),
    IntelFunction.SMART_INJECT: (SmartInject, SmartInject.size() - U32.size),
    IntelFunction.GET_SECURITY_STATE: (SecurityStatus, 0),
    IntelFunction.SET_PASSPHRASE: (PassphraseChange, PassphraseChange.size() - U32.size),
    IntelFunction.DISABLE_PASSPHRASE: (PassphraseCommand, PassphraseCommand.size() - U32.size),
    IntelFunction.UNLOCK_UNIT: (PassphraseCommand, PassphraseCommand.size() - U32.size),
    IntelFunction.FREEZE_LOCK: (StatusOnly, 0),
    IntelFunction.SECURE_ERASE: (PassphraseCommand, PassphraseCommand.size() - U32.size),
    IntelFunction.OVERWRITE: (PassphraseCommand, PassphraseCommand.size() - U32.size),
    IntelFunction.QUERY_OVERWRITE: (StatusOnly, 0),
    IntelFunction.SET_MASTER_PASSPHRASE: (PassphraseChange, PassphraseChange.size() - U32.size),
    IntelFunction.MASTER_SECURE_ERASE: (PassphraseCommand, PassphraseCommand.size() - U32.size),
    IntelFunction.FW_ACTIVATE_DIMM_INFO: (ActivateDimmInfo, 0),
    IntelFunction.FW_ACTIVATE_ARM: (ActivateArm, ActivateArm.size() - U32.size),
}
