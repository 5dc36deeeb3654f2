"""Firmware functions of Intel's family: their numbers, statuses and structures.

Sources: drivers/acpi/nfit/nfit.h and intel.h, and for functions that only user space calls
tools/testing/nvdimm/test/nfit_test.h (Linux 6.1).  A structure is the whole payload of a CALL, inputs first.
"""

from __future__ import annotations

import enum
import struct
from typing import ClassVar

import attrs

from nvdimmfs.formats.structure import Structure


class BusFunction(enum.IntEnum):
    """A function of a bus (NVDIMM_BUS_INTEL_FW_ACTIVATE_...)."""

    FW_ACTIVATE_BUS_INFO = 1
    FW_ACTIVATE = 2


class Status(enum.IntEnum):
    """Statuses of the functions (ND_INTEL_STATUS_...).

    The lower half 7 is "vendor specific"; the upper half then holds a status of the one function, so that a number
    means something else for each.
    """

    SUCCESS = 0
    NOT_SUPPORTED = 1
    BAD_ARGUMENT = 3
    BAD_SEQUENCE = 5
    INVALID_STATE = 10
    INVALID_PASSPHRASE = 11
    OVERWRITE_UNSUPPORTED = 0x10007
    OVERWRITE_IN_PROGRESS = 0x10007
    NOT_OVERWRITING = 0x20007
    UPDATE_IN_PROGRESS = 0x10007
    WRONG_CONTEXT = 0x10007
    UPDATE_BUSY = 0x20007
    UPDATE_ABORTED = 0x40007
    UPDATE_OUT_OF_ORDER = 0x40007


class SecurityState(enum.IntFlag):
    """The user's security state (ND_INTEL_SEC_STATE_...)."""

    ENABLED = 0x02
    LOCKED = 0x04
    FROZEN = 0x08
    PASSPHRASE_LIMIT = 0x10
    UNSUPPORTED = 0x20
    OVERWRITE = 0x40


class MasterSecurityState(enum.IntFlag):
    """The security state of the master passphrase (ND_INTEL_SEC_ESTATE_...)."""

    ENABLED = 0x01
    PASSPHRASE_LIMIT = 0x02


@attrs.frozen
class SecurityStatus(Structure):
    """GET_SECURITY_STATE (struct nd_intel_get_security_state).

    Attributes:
        status: see `Status`.
        extended_state: see `MasterSecurityState`.
        state: see `SecurityState`.
        reserved, reserved1: left alone.
    """

    layout: ClassVar = struct.Struct("<IB3sB3s")

    status: int = 0
    extended_state: int = 0
    reserved: bytes = bytes(3)
    state: int = 0
    reserved1: bytes = bytes(3)


@attrs.frozen
class PassphraseCommand(Structure):
    """UNLOCK_UNIT, DISABLE_PASSPHRASE, SECURE_ERASE, OVERWRITE and MASTER_SECURE_ERASE (struct nd_intel_unlock_unit).

    Attributes:
        passphrase: the current one.
        status: see `Status`.
    """

    layout: ClassVar = struct.Struct("<32sI")

    passphrase: bytes
    status: int = 0


@attrs.frozen
class PassphraseChange(Structure):
    """SET_PASSPHRASE and SET_MASTER_PASSPHRASE (struct nd_intel_set_passphrase).

    Attributes:
        old, new: the passphrases.
        status: see `Status`.
    """

    layout: ClassVar = struct.Struct("<32s32sI")

    old: bytes
    new: bytes
    status: int = 0


@attrs.frozen
class StatusOnly(Structure):
    """FREEZE_LOCK and QUERY_OVERWRITE, which have no inputs (struct nd_intel_freeze_lock)."""

    layout: ClassVar = struct.Struct("<I")

    status: int = 0


class SmartFlag(enum.IntFlag):
    """Which fields of `Smart` are valid (ND_INTEL_SMART_..._VALID)."""

    HEALTH = 1 << 0
    SPARES = 1 << 1
    LIFE_USED = 1 << 2
    MEDIA_TEMPERATURE = 1 << 3
    CONTROLLER_TEMPERATURE = 1 << 4
    SHUTDOWN_COUNT = 1 << 5
    ALARMS = 1 << 9
    SHUTDOWN = 1 << 10


class Alarm(enum.IntFlag):
    """Values that a DIMM warns of (ND_INTEL_SMART_..._TRIP)."""

    SPARES = 1
    MEDIA_TEMPERATURE = 2
    CONTROLLER_TEMPERATURE = 4


#: Values of `Smart.health` (ND_INTEL_SMART_..._HEALTH).
HEALTH_NON_CRITICAL = 1
HEALTH_CRITICAL = 2
HEALTH_FATAL = 4


#: The bit of a temperature that is its sign; the others are its absolute value.
_SIGN = 1 << 15


def temperature_of(sixteenths: int) -> int:
    """The field of a temperature, given in sixteenths of a degree Celsius."""
    return sixteenths if sixteenths >= 0 else _SIGN | -sixteenths


def sixteenths_of(temperature: int) -> int:
    """The temperature of a field, in sixteenths of a degree Celsius."""
    return -(temperature & ~_SIGN) if temperature & _SIGN else temperature


@attrs.frozen
class Smart(Structure):
    """SMART (struct nd_intel_smart).  Temperatures are fields as `temperature_of` makes them.

    Attributes:
        status: see `Status`.
        flags: see `SmartFlag`.
        health: `HEALTH_NON_CRITICAL` or worse; 0 when all is well.
        spares: percent left.
        life_used: percent.
        alarms: see `Alarm`.
        media_temperature, controller_temperature, pmic_temperature: pmic is the power circuit.
        shutdown_count: unsafe shutdowns.
        ait_status: of the last address indirection table.
        shutdown_state: 1 when the last shutdown was unsafe.
        vendor_size: bytes of vendor data that count.
    """

    layout: ClassVar = struct.Struct("<II4xBBBBHHIBH8xBI92x")

    status: int
    flags: int
    health: int
    spares: int
    life_used: int
    alarms: int
    media_temperature: int
    controller_temperature: int
    shutdown_count: int
    ait_status: int
    pmic_temperature: int
    shutdown_state: int
    vendor_size: int = 0


@attrs.frozen
class SmartThreshold(Structure):
    """SMART_THRESHOLD: the values at which a DIMM warns (struct nd_intel_smart_threshold).

    Attributes:
        status: see `Status`.
        alarms: those that are enabled, see `Alarm`.
        spares: percent.
        media_temperature, controller_temperature: sixteenths of a degree Celsius.
    """

    layout: ClassVar = struct.Struct("<IHBHHx")

    status: int
    alarms: int
    spares: int
    media_temperature: int
    controller_temperature: int


@attrs.frozen
class SmartSetThreshold(Structure):
    """SMART_SET_THRESHOLD (struct nd_intel_smart_set_threshold): as `SmartThreshold`, with the status last."""

    layout: ClassVar = struct.Struct("<HBHHI")

    alarms: int
    spares: int
    media_temperature: int
    controller_temperature: int
    status: int = 0


class Injection(enum.IntFlag):
    """Values that SMART_INJECT overrides (ND_INTEL_SMART_INJECT_...)."""

    MEDIA_TEMPERATURE = 1
    SPARES = 2
    FATAL = 4
    SHUTDOWN = 8


@attrs.frozen
class SmartInject(Structure):
    """SMART_INJECT (struct nd_intel_smart_inject).  An enable byte of 0 restores the default of its value.

    Attributes:
        flags: which of the values count, see `Injection`.
        media_temperature_enable, media_temperature: sixteenths of a degree Celsius.
        spares_enable, spares: percent left.
        fatal_enable: whether health is fatal.
        shutdown_enable: whether the last shutdown was unsafe.
        status: see `Status`.
    """

    layout: ClassVar = struct.Struct("<QBHBBBBI")

    flags: int
    media_temperature_enable: int
    media_temperature: int
    spares_enable: int
    spares: int
    fatal_enable: int
    shutdown_enable: int
    status: int


@attrs.frozen
class LatchShutdown(Structure):
    """ENABLE_LSS_STATUS: count the next unsafe shutdown (struct nd_intel_lss).

    Attributes:
        enable: 0 or 1.
        status: see `Status`.
    """

    layout: ClassVar = struct.Struct("<BI")

    enable: int
    status: int


@attrs.frozen
class FirmwareInfo(Structure):
    """FW_GET_INFO (struct nd_intel_fw_info).

    Attributes:
        status: see `Status`.
        storage_size: bytes of the largest firmware.
        max_send_length: bytes of the largest piece.
        query_interval, max_query_time: microseconds between two queries, and until an update must be verified.
        update_capability: bits; none is set here.
        reserved: left alone.
        interface_version: of these functions.
        run_version, updated_version: of the running firmware and of the update.
    """

    layout: ClassVar = struct.Struct("<IIIIIB3sIQQ")

    status: int
    storage_size: int
    max_send_length: int
    query_interval: int
    max_query_time: int
    update_capability: int
    reserved: bytes
    interface_version: int
    run_version: int
    updated_version: int


@attrs.frozen
class FirmwareStart(Structure):
    """FW_START_UPDATE (struct nd_intel_fw_start): the context of the new update."""

    layout: ClassVar = struct.Struct("<II")

    status: int
    context: int


@attrs.frozen
class FirmwareSend(Structure):
    """The head of FW_SEND_DATA (struct nd_intel_fw_send_data); `length` bytes of data and the status follow.

    Attributes:
        context: of the update.
        offset, length: the piece's place in the firmware, in bytes.
    """

    layout: ClassVar = struct.Struct("<III")

    context: int
    offset: int
    length: int


@attrs.frozen
class FirmwareFinish(Structure):
    """FW_FINISH_UPDATE (struct nd_intel_fw_finish_update).

    Attributes:
        control: 0 to verify the firmware, 1 to abort the update.
        reserved: left alone.
        context: of the update.
        status: see `Status`.
    """

    layout: ClassVar = struct.Struct("<B3sII")

    control: int
    reserved: bytes
    context: int
    status: int


@attrs.frozen
class FirmwareQuery(Structure):
    """FW_FINISH_QUERY (struct nd_intel_fw_finish_query).

    Attributes:
        context: of the update.
        status: see `Status`.
        updated_version: of the update, once it is verified.
    """

    layout: ClassVar = struct.Struct("<IIQ")

    context: int
    status: int
    updated_version: int


@attrs.frozen
class ActivateBusInfo(Structure):
    """FW_ACTIVATE_BUS_INFO (struct nd_intel_bus_fw_activate_businfo).  Durations are in microseconds.

    Attributes:
        status: see `Status`.
        state: 0 idle, 1 armed, 2 busy.
        capability: bits: devices can be quiesced by the firmware, by the system; a reset activates, too.
        activate_time: the activation of all that is armed.
        cpu_quiesce_time, io_quiesce_time: how long processors and devices must be quiet for it.
        max_quiesce_time: how long the system can be quiet at most.
    """

    layout: ClassVar = struct.Struct("<I2xBBQQQQ")

    status: int = 0
    state: int = 0
    capability: int = 0
    activate_time: int = 0
    cpu_quiesce_time: int = 0
    io_quiesce_time: int = 0
    max_quiesce_time: int = 0


@attrs.frozen
class ActivateBus(Structure):
    """FW_ACTIVATE (struct nd_intel_bus_fw_activate).

    Attributes:
        devices_idle: 1 when devices are idle already.
        status: 6 in the lower half when nothing is activated, and the reason in the upper half.
    """

    layout: ClassVar = struct.Struct("<BI")

    devices_idle: int = 0
    status: int = 0


@attrs.frozen
class ActivateDimmInfo(Structure):
    """FW_ACTIVATE_DIMM_INFO (struct nd_intel_fw_activate_dimminfo).

    Attributes:
        status: see `Status`.
        result: of the last activation: 0 none, 1 nothing staged, 2 success, 3 a reset is needed; others are failures.
        state: 0 idle, 1 armed, 2 busy.
    """

    layout: ClassVar = struct.Struct("<IHB7x")

    status: int = 0
    result: int = 0
    state: int = 0


@attrs.frozen
class ActivateArm(Structure):
    """FW_ACTIVATE_ARM (struct nd_intel_fw_activate_arm).

    Attributes:
        arm: 1 to arm, anything else to disarm.
        status: see `Status`.
    """

    layout: ClassVar = struct.Struct("<BI")

    arm: int = 0
    status: int = 0
