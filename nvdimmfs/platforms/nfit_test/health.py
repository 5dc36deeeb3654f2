"""Health of the test platform's DIMMs, and its injection (tools/testing/nvdimm/test/nfit.c, Linux 6.1)."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from nvdimmfs.formats.intel_dsm import (
    HEALTH_FATAL,
    HEALTH_NON_CRITICAL,
    Alarm,
    Injection,
    Smart,
    SmartFlag,
    SmartInject,
    SmartSetThreshold,
    SmartThreshold,
    Status,
)
from nvdimmfs.formats.ndctl import U32
from nvdimmfs.platforms.nfit_test.payload import Payload

#: A degree Celsius in the unit of temperatures.
DEGREE = 16

#: The initial values of a DIMM (smart_def, smart_init).
MEDIA_TEMPERATURE = 23 * DEGREE
CONTROLLER_TEMPERATURE = 25 * DEGREE
POWER_TEMPERATURE = 40 * DEGREE
SPARES = 75
LIFE_USED = 5
SHUTDOWN_COUNT = 42

#: The valid fields.
_VALID = (
    SmartFlag.HEALTH
    | SmartFlag.SPARES
    | SmartFlag.LIFE_USED
    | SmartFlag.MEDIA_TEMPERATURE
    | SmartFlag.CONTROLLER_TEMPERATURE
    | SmartFlag.SHUTDOWN_COUNT
    | SmartFlag.ALARMS
    | SmartFlag.SHUTDOWN
)


@attrs.define
class Thresholds:
    """The values at which a DIMM raises an alarm."""

    alarms: int = Alarm.SPARES | Alarm.MEDIA_TEMPERATURE
    spares: int = 5
    media_temperature: int = 40 * DEGREE
    controller_temperature: int = 30 * DEGREE


@attrs.define(eq=False)
class Health:
    """A DIMM's health.

    Attributes:
        notify: called after a write while an alarm is raised.
    """

    notify: Callable[[], None]
    health: int = HEALTH_NON_CRITICAL
    spares: int = SPARES
    media_temperature: int = MEDIA_TEMPERATURE
    unsafe_shutdown: bool = False
    shutdown_count: int = SHUTDOWN_COUNT
    thresholds: Thresholds = attrs.Factory(Thresholds)

    def smart(self, payload: Payload) -> None:
        """Return all values (ND_INTEL_SMART)."""
        payload.require(Smart.size())
        payload.put(
            Smart(
                status=Status.SUCCESS,
                flags=_VALID,
                health=self.health,
                spares=self.spares,
                life_used=LIFE_USED,
                alarms=Alarm.SPARES | Alarm.MEDIA_TEMPERATURE,
                media_temperature=self.media_temperature,
                controller_temperature=CONTROLLER_TEMPERATURE,
                shutdown_count=self.shutdown_count,
                ait_status=1,
                pmic_temperature=POWER_TEMPERATURE,
                shutdown_state=self.unsafe_shutdown,
            )
        )

    def thresholds_info(self, payload: Payload) -> None:
        """Return the thresholds (ND_INTEL_SMART_THRESHOLD)."""
        payload.require(SmartThreshold.size())
        payload.put(SmartThreshold(Status.SUCCESS, *attrs.astuple(self.thresholds)))

    def set_thresholds(self, payload: Payload) -> None:
        """Set the thresholds (ND_INTEL_SMART_SET_THRESHOLD)."""
        payload.require(SmartSetThreshold.size() - U32.size)
        wanted = payload.get(SmartSetThreshold)
        self.thresholds = Thresholds(
            wanted.alarms, wanted.spares, wanted.media_temperature, wanted.controller_temperature
        )
        payload.put(attrs.evolve(wanted, status=Status.SUCCESS))
        self._warn()

    def inject(self, payload: Payload) -> None:
        """Override health values; a cleared enable byte restores the default (ND_INTEL_SMART_INJECT)."""
        payload.require_exactly(SmartInject.size())
        wanted = payload.get(SmartInject)
        if wanted.flags & Injection.MEDIA_TEMPERATURE:
            self.media_temperature = wanted.media_temperature if wanted.media_temperature_enable else MEDIA_TEMPERATURE
        if wanted.flags & Injection.SPARES:
            self.spares = wanted.spares if wanted.spares_enable else SPARES
        if wanted.flags & Injection.FATAL:
            self.health = HEALTH_FATAL if wanted.fatal_enable else HEALTH_NON_CRITICAL
        if wanted.flags & Injection.SHUTDOWN:
            self.unsafe_shutdown = bool(wanted.shutdown_enable)
            self.shutdown_count += self.unsafe_shutdown
        payload.put(attrs.evolve(wanted, status=Status.SUCCESS))
        self._warn()

    def _warn(self) -> None:
        on, limits = self.thresholds.alarms, self.thresholds
        if (
            (on & Alarm.SPARES and self.spares <= limits.spares)
            or (on & Alarm.MEDIA_TEMPERATURE and self.media_temperature >= limits.media_temperature)
            or (on & Alarm.CONTROLLER_TEMPERATURE and limits.controller_temperature <= CONTROLLER_TEMPERATURE)
            or self.health != HEALTH_NON_CRITICAL
            or self.unsafe_shutdown
        ):
            self.notify()
