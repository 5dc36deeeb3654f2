"""The recorder's part for what only commands show: labels, health and firmware of DIMMs."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from nvdimmfs.formats.dimm_functions import Hpe1Function, HyperVFunction, IntelFunction, MicrosoftFunction
from nvdimmfs.formats.health_dsm import (
    HPE1_LAST_SAVE_GOOD,
    MICROSOFT_NO_SENSOR,
    MICROSOFT_WHOLE_LIFE,
    Hpe1Alarm,
    Hpe1Flag,
    Hpe1Smart,
    Hpe1SmartThreshold,
    HyperVAnswer,
    MicrosoftHealth,
)
from nvdimmfs.formats.intel_dsm import Alarm, FirmwareInfo, Smart, SmartFlag, SmartThreshold, sixteenths_of
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
from nvdimmfs.machine_file.dimm_model import (
    MINIMUM_LABEL_AREA,
    DimmDescription,
    FirmwareDescription,
    HealthDescription,
    LabelAreaDescription,
)
from nvdimmfs.machine_file.health_bits import ALARMS, HEALTH, HPE1_ALARMS, HYPERV_HEALTH, worst
from nvdimmfs.machine_file.values import NO_TEMPERATURE, SIXTEENTHS
from nvdimmfs.machine_file.words import DimmFlag, HealthState, ShutdownState

#: Bytes at the beginning of a label area that are read: all fields of an index block.
_LABELS_READ = 256


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


def _answer(
    dimm: DimmDescription, commands: DimmCommands, function: int, size: int, inputs: bytes = b""
) -> bytes | None:
    """What a function of the DIMM's family returns; None where the kernel does not allow it, or the DIMM has no answer.

    `size`: bytes of its outputs.
    """
    return commands.call(dimm.family, function, inputs, size) if dimm.allows(function) else None


def _intel_health(dimm: DimmDescription, commands: DimmCommands) -> HealthDescription | None:
    answer = _answer(dimm, commands, IntelFunction.SMART, Smart.size())
    if answer is None:
        return None
    smart = Smart.from_bytes(answer)
    flags = SmartFlag(smart.flags)
    limits = _answer(dimm, commands, IntelFunction.SMART_THRESHOLD, SmartThreshold.size())
    thresholds = SmartThreshold(0, 0, 0, 0, 0) if limits is None else SmartThreshold.from_bytes(limits)
    shutdown = ShutdownState.DIRTY if smart.shutdown_state else ShutdownState.CLEAN
    return HealthDescription(
        state=worst(smart.health, HEALTH),
        temperature=_temperature(smart.media_temperature, SmartFlag.MEDIA_TEMPERATURE in flags),
        controller_temperature=_temperature(smart.controller_temperature, SmartFlag.CONTROLLER_TEMPERATURE in flags),
        spares=smart.spares if SmartFlag.SPARES in flags else -1,
        life_used=smart.life_used if SmartFlag.LIFE_USED in flags else -1,
        last_shutdown=shutdown if SmartFlag.SHUTDOWN in flags else ShutdownState.NONE,
        alarms=tuple(kind for kind, alarm in ALARMS.items() if thresholds.alarms & alarm),
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
    answer = _answer(dimm, commands, Hpe1Function.SMART, Hpe1Smart.size() - U32.size, wanted)
    if answer is None:
        return None
    smart = Hpe1Smart.from_bytes(wanted + answer)
    valid = Hpe1Flag(smart.valid & sum(Hpe1Flag))
    limits = _answer(dimm, commands, Hpe1Function.SMART_THRESHOLD, Hpe1SmartThreshold.size())
    thresholds = Hpe1SmartThreshold() if limits is None else Hpe1SmartThreshold.from_bytes(limits)
    hot, worn = thresholds.alarms & Hpe1Alarm.TEMPERATURE, thresholds.alarms & Hpe1Alarm.SPARES
    shutdown = ShutdownState.CLEAN if smart.last_shutdown == HPE1_LAST_SAVE_GOOD else ShutdownState.DIRTY
    return HealthDescription(
        state=worst(smart.health, HEALTH),
        temperature=_temperature(smart.temperature, Hpe1Flag.TEMPERATURE in valid),
        spares=smart.spares if Hpe1Flag.SPARES in valid else -1,
        life_used=smart.life_used if Hpe1Flag.LIFE_USED in valid else -1,
        last_shutdown=shutdown if Hpe1Flag.SHUTDOWN in valid else ShutdownState.NONE,
        alarms=tuple(kind for kind, alarm in HPE1_ALARMS.items() if thresholds.alarms & alarm),
        temperature_threshold=_temperature(thresholds.temperature, bool(thresholds.temperature or hot)),
        spares_threshold=thresholds.spares if thresholds.spares or worn else -1,
    )


def _microsoft_health(dimm: DimmDescription, commands: DimmCommands) -> HealthDescription | None:
    answer = _answer(dimm, commands, MicrosoftFunction.NVDIMM_HEALTH, MicrosoftHealth.size())
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
        temperature=NO_TEMPERATURE if health.temperature == MICROSOFT_NO_SENSOR else health.temperature * SIXTEENTHS,
        life_used=MICROSOFT_WHOLE_LIFE - min(health.lifetime, MICROSOFT_WHOLE_LIFE),
    )


def _hyperv_health(dimm: DimmDescription, commands: DimmCommands) -> HealthDescription | None:
    answer = _answer(dimm, commands, HyperVFunction.HEALTH, HyperVAnswer.size())
    if answer is None:
        return None
    return HealthDescription(worst(HyperVAnswer.from_bytes(answer).value, HYPERV_HEALTH))


def _hyperv_shutdowns(dimm: DimmDescription, commands: DimmCommands) -> int:
    answer = _answer(dimm, commands, HyperVFunction.SHUTDOWN_COUNT, HyperVAnswer.size())
    return -1 if answer is None else HyperVAnswer.from_bytes(answer).value


_HEALTH: dict[int, Callable[[DimmDescription, DimmCommands], HealthDescription | None]] = {
    DIMM_FAMILY_INTEL: _intel_health,
    DIMM_FAMILY_HPE1: _hpe1_health,
    DIMM_FAMILY_MICROSOFT: _microsoft_health,
    DIMM_FAMILY_HYPERV: _hyperv_health,
}


def _temperature(value: int, is_valid: bool) -> int:
    """A temperature in the form of a machine file."""
    return sixteenths_of(value) if is_valid else NO_TEMPERATURE


def _firmware(dimm: DimmDescription, commands: DimmCommands) -> FirmwareDescription:
    is_intel = dimm.family == DIMM_FAMILY_INTEL
    answer = _answer(dimm, commands, IntelFunction.FW_GET_INFO, FirmwareInfo.size()) if is_intel else None
    if answer is None:
        return FirmwareDescription()
    info = FirmwareInfo.from_bytes(answer)
    return FirmwareDescription(info.run_version, info.updated_version)
