"""Health by the functions of the families beside Intel's, from which user space alone reads it.

HPE's second family has no function whose structures are public: its DIMMs report nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from nvdimmfs.formats.dimm_functions import Hpe1Function, HyperVFunction, MicrosoftFunction
from nvdimmfs.formats.health_dsm import (
    HPE1_LAST_SAVE_GOOD,
    MICROSOFT_NO_SENSOR,
    MICROSOFT_WHOLE_LIFE,
    Hpe1Flag,
    Hpe1Smart,
    Hpe1SmartThreshold,
    HyperVAnswer,
    MicrosoftHealth,
    MicrosoftThreshold,
)
from nvdimmfs.formats.intel_dsm import HEALTH_CRITICAL, HEALTH_FATAL, HEALTH_NON_CRITICAL, Alarm, sixteenths_of
from nvdimmfs.formats.ndctl import (
    DIMM_FAMILY_HPE1,
    DIMM_FAMILY_HYPERV,
    DIMM_FAMILY_MICROSOFT,
    U32,
    u32,
)
from nvdimmfs.machine_file.health_bits import ALARMS, HEALTH, HPE1_ALARMS, HYPERV_HEALTH
from nvdimmfs.machine_file.values import SIXTEENTHS
from nvdimmfs.platforms.dimm_firmware.health import Health

#: The status of a function that the DIMM does not have.
_NOT_SUPPORTED = 1

_Function = Callable[[Health, bytes], bytes]


def health_answer(health: Health | None, family: int, function: int, payload: bytes) -> bytes:
    """Execute a function of a family: its outputs, status first.

    Args:
        health: the health of the DIMM; None if it reports none.
        family: the family.
        function: the function's number.
        payload: its inputs.
    """
    execute = _FUNCTIONS.get((family, function))
    return U32.pack(_NOT_SUPPORTED) if execute is None or health is None else execute(health, payload)


def _hpe1_smart(health: Health, payload: bytes) -> bytes:
    """Return the wanted values that the DIMM reports."""
    now = health.now
    reported = {
        Hpe1Flag.HEALTH: now.health,
        Hpe1Flag.TEMPERATURE: now.media_temperature,
        Hpe1Flag.SPARES: now.spares,
        Hpe1Flag.ALARMS: health.alarms,
        Hpe1Flag.LIFE_USED: now.life_used,
        Hpe1Flag.SHUTDOWN: now.unsafe_shutdown,
    }
    wanted = u32(payload.ljust(U32.size, b"\0"))
    valid = sum(flag for flag, value in reported.items() if value is not None and flag & wanted)
    answer = Hpe1Smart(
        valid=valid,
        health=now.health,
        temperature=now.media_temperature or 0,
        spares=now.spares or 0,
        alarms=_hpe1_alarms(health.alarms),
        life_used=now.life_used or 0,
        last_shutdown=0 if now.unsafe_shutdown else HPE1_LAST_SAVE_GOOD,
    )
    return answer.to_bytes()[U32.size :]


def _hpe1_thresholds(health: Health, _payload: bytes) -> bytes:
    limits = health.thresholds
    return Hpe1SmartThreshold(
        alarms=_hpe1_alarms(limits.alarms), temperature=limits.media_temperature, spares=limits.spares
    ).to_bytes()


def _hpe1_alarms(alarms: int) -> int:
    return sum(alarm for kind, alarm in HPE1_ALARMS.items() if alarms & ALARMS[kind])


def _microsoft_health(health: Health, _payload: bytes) -> bytes:
    """Return the module's lifetime and temperature; a degree of health is a threshold that was passed."""
    now = health.now
    passed = 0
    if health.alarms & Alarm.SPARES:
        passed |= MicrosoftThreshold.MODULE_LIFETIME
    if health.alarms & Alarm.CONTROLLER_TEMPERATURE:
        passed |= MicrosoftThreshold.ENERGY_TEMPERATURE
    temperature = MICROSOFT_NO_SENSOR
    if now.media_temperature is not None:  # the field has no sign
        temperature = max(sixteenths_of(now.media_temperature), 0) // SIXTEENTHS
    lifetime = MICROSOFT_WHOLE_LIFE - min(now.life_used or 0, MICROSOFT_WHOLE_LIFE)
    return MicrosoftHealth(
        health=int(now.health == HEALTH_CRITICAL),
        temperature=temperature,
        warnings=passed or (MicrosoftThreshold.ENERGY_LIFETIME if now.health == HEALTH_NON_CRITICAL else 0),
        lifetime=0 if now.health == HEALTH_FATAL else max(lifetime, 1),
    ).to_bytes()


def _hyperv_health(health: Health, _payload: bytes) -> bytes:
    return HyperVAnswer(value=_HYPERV_HEALTH.get(health.now.health, 0)).to_bytes()


def _hyperv_shutdowns(health: Health, _payload: bytes) -> bytes:
    count = health.now.shutdown_count
    return U32.pack(_NOT_SUPPORTED) if count is None else HyperVAnswer(value=count).to_bytes()


#: The bit of each degree, by that of Intel's functions.
_HYPERV_HEALTH = {HEALTH[state]: bit for state, bit in HYPERV_HEALTH.items()}

_FUNCTIONS: dict[tuple[int, int], _Function] = {
    (DIMM_FAMILY_HPE1, Hpe1Function.SMART): _hpe1_smart,
    (DIMM_FAMILY_HPE1, Hpe1Function.SMART_THRESHOLD): _hpe1_thresholds,
    (DIMM_FAMILY_MICROSOFT, MicrosoftFunction.NVDIMM_HEALTH): _microsoft_health,
    (DIMM_FAMILY_HYPERV, HyperVFunction.HEALTH): _hyperv_health,
    (DIMM_FAMILY_HYPERV, HyperVFunction.SHUTDOWN_COUNT): _hyperv_shutdowns,
}
