"""The words of a machine file about health, and the bits by which DIMMs report them."""

from __future__ import annotations

from collections.abc import Mapping

from nvdimmfs.formats.health_dsm import Hpe1Alarm, HyperVHealth
from nvdimmfs.formats.intel_dsm import HEALTH_CRITICAL, HEALTH_FATAL, HEALTH_NON_CRITICAL, Alarm
from nvdimmfs.machine_file.words import AlarmKind, HealthState

#: The degrees of bad health, the worst first: the bits of Intel's and HPE's functions.
HEALTH: Mapping[HealthState, int] = {
    HealthState.FATAL: HEALTH_FATAL,
    HealthState.CRITICAL: HEALTH_CRITICAL,
    HealthState.NON_CRITICAL: HEALTH_NON_CRITICAL,
}

#: The same for Hyper-V's.
HYPERV_HEALTH: Mapping[HealthState, int] = {
    HealthState.FATAL: HyperVHealth.FATAL,
    HealthState.CRITICAL: HyperVHealth.CRITICAL,
    HealthState.NON_CRITICAL: HyperVHealth.NON_CRITICAL,
}

#: The alarms: the bits of Intel's functions.
ALARMS: Mapping[AlarmKind, Alarm] = {
    AlarmKind.SPARES: Alarm.SPARES,
    AlarmKind.TEMPERATURE: Alarm.MEDIA_TEMPERATURE,
    AlarmKind.CONTROLLER_TEMPERATURE: Alarm.CONTROLLER_TEMPERATURE,
}

#: The same for HPE's, which have no alarm of a controller.
HPE1_ALARMS: Mapping[AlarmKind, Hpe1Alarm] = {
    AlarmKind.SPARES: Hpe1Alarm.SPARES,
    AlarmKind.TEMPERATURE: Hpe1Alarm.TEMPERATURE,
}


def worst(bits: int, degrees: Mapping[HealthState, int]) -> HealthState:
    """The worst of the degrees that a DIMM reports."""
    return next((state for state, bit in degrees.items() if bits & bit), HealthState.OK)
