"""The recorder's part for what only commands show: labels, health and firmware of DIMMs."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from nvdimmfs.formats.dimm_functions import Hpe1Function, HyperVFunction, IntelFunction, MicrosoftFunction
from nvdimmfs.formats.health_dsm import (
    HPE1_LAST_SAVE_GOOD,
    Hpe1Alarm,
    Hpe1Flag,
    Hpe1Smart,
    Hpe1SmartThreshold,
    HyperVAnswer,
    HyperVHealth,
    MicrosoftHealth,
)
from nvdimmfs.formats.intel_dsm import (
    HEALTH_CRITICAL,
    HEALTH_FATAL,
    HEALTH_NON_CRITICAL,
    Alarm,
    FirmwareInfo,
    Smart,
    SmartFlag,
    SmartThreshold,
)
from nvdimmfs.formats.label import INDEX_SIGNATURE, IndexBlock
from nvdimmfs.formats.ndctl import (
    DIMM_FAMILY_HPE1,
    DIMM_FAMILY_HYPERV,
    DIMM_FAMILY_INTEL,
    DIMM_FAMILY_MICROSOFT,
    U32,
    DimmCommand,
)
from nvdimmfs.machine_file.dimm_commands import DimmCommands
from nvdimmfs.machine_file.model import (
    MINIMUM_LABEL_AREA,
    DimmDescription,
    FirmwareDescription,
    HealthDescription,
    LabelAreaDescription,
)
from nvdimmfs.machine_file.values import NO_TEMPERATURE, SIXTEENTHS
from nvdimmfs.machine_file.words import AlarmKind, DimmFlag, HealthState, ShutdownState

#: Bytes at the beginning of a label area that are read: all fields of an index block.
_LABELS_READ = 256

#: The temperature of a DIMM without a sensor, as Microsoft's family reports it, and percent of the life of a module.
_NO_SENSOR = 255
_WHOLE_LIFE = 100

#: The bit of a temperature that is its sign.
_SIGN = 1 << 15


def with_firmware(dimm: DimmDescription, commands: DimmCommands, *, is_tested: bool) -> DimmDescription:
    """A DIMM as sysfs shows it, with what its commands show.  PermissionError.

    `is_tested`: the kernel's test platform gives it health and firmware of its own.
    """
    if DimmCommand.GET_SIZE in dimm.commands:
        dimm = attrs.evolve(dimm, label=_label(dimm.label, commands))
    if DimmCommand.CMD_CALL not in dimm.commands or is_tested:
        return dimm
    read = _HEALTH.get(dimm.family)
    health = read(dimm, commands) if read else None
    dimm = attrs.evolve(dimm, health=health or HealthDescription(), firmware=_firmware(dimm, commands))
    if dimm.family == DIMM_FAMILY_HYPERV:
        dimm = attrs.evolve(dimm, dirty_shutdown=_hyperv_shutdowns(dimm, commands))
    # A dirty shutdown that the DIMM reports is another reason for the flag.
    flags = dimm.flags if dimm.flushed else tuple(flag for flag in dimm.flags if flag is not DimmFlag.FLUSH_FAIL)
    return attrs.evolve(dimm, flags=flags)


def _label(label: LabelAreaDescription, commands: DimmCommands) -> LabelAreaDescription:
    """Return the size of a label area, and the version of its index blocks or its first bytes."""
    size = commands.label_area_size()
    if size < MINIMUM_LABEL_AREA:
        return attrs.evolve(label, size=0, initialised="") if not size else label
    first = commands.labels(_LABELS_READ)
    label = attrs.evolve(label, size=size)
    if label.initialised and first.startswith(INDEX_SIGNATURE):
        major, minor = IndexBlock.from_bytes(first).version
        return attrs.evolve(label, initialised="1.1" if (major, minor) == (1, 1) else "1.2")
    if not label.initialised and any(first):
        text = first.rstrip(b"\0")
        is_text = text.isascii() and text.decode().isprintable()
        return attrs.evolve(label, text=text.decode()) if is_text else attrs.evolve(label, hex=text.hex())
    return label


def _allows(dimm: DimmDescription, function: int) -> bool:
    return bool(dimm.dsm_mask >> function & 1)


def _intel_health(dimm: DimmDescription, commands: DimmCommands) -> HealthDescription | None:
    if not _allows(dimm, IntelFunction.SMART):
        return None
    answer = commands.call(dimm.family, IntelFunction.SMART, b"", Smart.size())
    if answer is None:
        return None
    smart = Smart.from_bytes(answer)
    flags = SmartFlag(smart.flags)
    thresholds = SmartThreshold(0, 0, 0, 0, 0)
    if _allows(dimm, IntelFunction.SMART_THRESHOLD):
        text = commands.call(dimm.family, IntelFunction.SMART_THRESHOLD, b"", SmartThreshold.size())
        thresholds = SmartThreshold.from_bytes(text) if text is not None else thresholds
    shutdown = ShutdownState.DIRTY if smart.shutdown_state else ShutdownState.CLEAN
    return HealthDescription(
        state=_state(smart.health),
        temperature=_temperature(smart.media_temperature, SmartFlag.MEDIA_TEMPERATURE in flags),
        controller_temperature=_temperature(smart.controller_temperature, SmartFlag.CONTROLLER_TEMPERATURE in flags),
        spares=smart.spares if SmartFlag.SPARES in flags else -1,
        life_used=smart.life_used if SmartFlag.LIFE_USED in flags else -1,
        last_shutdown=shutdown if SmartFlag.SHUTDOWN in flags else ShutdownState.NONE,
        alarms=tuple(kind for kind, alarm in _ALARMS.items() if thresholds.alarms & alarm),
        temperature_threshold=_threshold(thresholds, Alarm.MEDIA_TEMPERATURE, thresholds.media_temperature),
        controller_temperature_threshold=_threshold(
            thresholds, Alarm.CONTROLLER_TEMPERATURE, thresholds.controller_temperature
        ),
        spares_threshold=thresholds.spares if thresholds.spares or thresholds.alarms & Alarm.SPARES else -1,
    )


def _threshold(thresholds: SmartThreshold, alarm: Alarm, temperature: int) -> int:
    """A threshold; one of 0 that no alarm uses is none."""
    return _temperature(temperature, bool(temperature) or bool(thresholds.alarms & alarm))


def _hpe1_health(dimm: DimmDescription, commands: DimmCommands) -> HealthDescription | None:
    wanted = U32.pack(sum(Hpe1Flag))
    answer = None
    if _allows(dimm, Hpe1Function.SMART):
        answer = commands.call(dimm.family, Hpe1Function.SMART, wanted, Hpe1Smart.size() - U32.size)
    if answer is None:
        return None
    smart = Hpe1Smart.from_bytes(wanted + answer)
    valid = Hpe1Flag(smart.valid & sum(Hpe1Flag))
    thresholds = Hpe1SmartThreshold()
    if _allows(dimm, Hpe1Function.SMART_THRESHOLD):
        text = commands.call(dimm.family, Hpe1Function.SMART_THRESHOLD, b"", Hpe1SmartThreshold.size())
        thresholds = Hpe1SmartThreshold.from_bytes(text) if text is not None else thresholds
    hot, worn = thresholds.alarms & Hpe1Alarm.TEMPERATURE, thresholds.alarms & Hpe1Alarm.SPARES
    shutdown = ShutdownState.CLEAN if smart.last_shutdown == HPE1_LAST_SAVE_GOOD else ShutdownState.DIRTY
    return HealthDescription(
        state=_state(smart.health),
        temperature=_temperature(smart.temperature, Hpe1Flag.TEMPERATURE in valid),
        spares=smart.spares if Hpe1Flag.SPARES in valid else -1,
        life_used=smart.life_used if Hpe1Flag.LIFE_USED in valid else -1,
        last_shutdown=shutdown if Hpe1Flag.SHUTDOWN in valid else ShutdownState.NONE,
        alarms=(*((AlarmKind.SPARES,) if worn else ()), *((AlarmKind.TEMPERATURE,) if hot else ())),
        temperature_threshold=_temperature(thresholds.temperature, bool(thresholds.temperature or hot)),
        spares_threshold=thresholds.spares if thresholds.spares or worn else -1,
    )


def _microsoft_health(dimm: DimmDescription, commands: DimmCommands) -> HealthDescription | None:
    answer = None
    if _allows(dimm, MicrosoftFunction.NVDIMM_HEALTH):
        answer = commands.call(dimm.family, MicrosoftFunction.NVDIMM_HEALTH, b"", MicrosoftHealth.size())
    if answer is None:
        return None
    health = MicrosoftHealth.from_bytes(answer)
    state = HealthState.NON_CRITICAL if health.warnings else HealthState.OK
    if health.health or health.errors:
        state = HealthState.CRITICAL
    if not health.lifetime:
        state = HealthState.FATAL
    return HealthDescription(
        state=state,
        temperature=NO_TEMPERATURE if health.temperature == _NO_SENSOR else health.temperature * SIXTEENTHS,
        life_used=_WHOLE_LIFE - min(health.lifetime, _WHOLE_LIFE),
    )


def _hyperv_health(dimm: DimmDescription, commands: DimmCommands) -> HealthDescription | None:
    answer = None
    if _allows(dimm, HyperVFunction.HEALTH):
        answer = commands.call(dimm.family, HyperVFunction.HEALTH, b"", HyperVAnswer.size())
    if answer is None:
        return None
    bits = HyperVAnswer.from_bytes(answer).value
    degrees = {
        HyperVHealth.FATAL: HealthState.FATAL,
        HyperVHealth.CRITICAL: HealthState.CRITICAL,
        HyperVHealth.NON_CRITICAL: HealthState.NON_CRITICAL,
    }
    return HealthDescription(next((state for bit, state in degrees.items() if bits & bit), HealthState.OK))


def _hyperv_shutdowns(dimm: DimmDescription, commands: DimmCommands) -> int:
    answer = None
    if _allows(dimm, HyperVFunction.SHUTDOWN_COUNT):
        answer = commands.call(dimm.family, HyperVFunction.SHUTDOWN_COUNT, b"", HyperVAnswer.size())
    return -1 if answer is None else HyperVAnswer.from_bytes(answer).value


_HEALTH: dict[int, Callable[[DimmDescription, DimmCommands], HealthDescription | None]] = {
    DIMM_FAMILY_INTEL: _intel_health,
    DIMM_FAMILY_HPE1: _hpe1_health,
    DIMM_FAMILY_MICROSOFT: _microsoft_health,
    DIMM_FAMILY_HYPERV: _hyperv_health,
}

_ALARMS = {
    AlarmKind.SPARES: Alarm.SPARES,
    AlarmKind.TEMPERATURE: Alarm.MEDIA_TEMPERATURE,
    AlarmKind.CONTROLLER_TEMPERATURE: Alarm.CONTROLLER_TEMPERATURE,
}


def _state(health: int) -> HealthState:
    """The worst of the degrees that a DIMM reports."""
    degrees = {
        HEALTH_FATAL: HealthState.FATAL,
        HEALTH_CRITICAL: HealthState.CRITICAL,
        HEALTH_NON_CRITICAL: HealthState.NON_CRITICAL,
    }
    return next((state for degree, state in degrees.items() if health & degree), HealthState.OK)


def _temperature(value: int, is_valid: bool) -> int:
    """A temperature in the form of a machine file."""
    if not is_valid:
        return NO_TEMPERATURE
    return -(value & ~_SIGN) if value & _SIGN else value


def _firmware(dimm: DimmDescription, commands: DimmCommands) -> FirmwareDescription:
    if dimm.family != DIMM_FAMILY_INTEL or not _allows(dimm, IntelFunction.FW_GET_INFO):
        return FirmwareDescription()
    answer = commands.call(dimm.family, IntelFunction.FW_GET_INFO, b"", FirmwareInfo.size())
    if answer is None:
        return FirmwareDescription()
    info = FirmwareInfo.from_bytes(answer)
    return FirmwareDescription(info.run_version, info.updated_version)
