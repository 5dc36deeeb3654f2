"""The health of a DIMM: what it measures, the thresholds at which it raises an alarm, and injected values."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from nvdimmfs.formats.intel_dsm import HEALTH_FATAL, HEALTH_NON_CRITICAL, Alarm, Injection, SmartInject, sixteenths_of
from nvdimmfs.machine_file.values import SIXTEENTHS


@attrs.frozen
class Thresholds:
    """The values at which a DIMM raises an alarm.

    Attributes:
        alarms: the alarms that are enabled.
        spares: percent left.
        media_temperature, controller_temperature: sixteenths of a degree Celsius, see `intel_dsm.Smart`.
    """

    alarms: int = 0
    spares: int = 0
    media_temperature: int = 0
    controller_temperature: int = 0


@attrs.frozen
class Measurements:
    """What a DIMM reports of itself.  A value that it does not report is None.

    Attributes:
        health: `HEALTH_NON_CRITICAL` or worse; 0 when all is well.
        spares: percent left.
        life_used: percent.
        media_temperature, controller_temperature, power_temperature: sixteenths of a degree Celsius.
        unsafe_shutdown: whether the last shutdown lost data.
        shutdown_count: unsafe shutdowns.
        alarms: the alarms that it always reports; None: those whose threshold is reached.
        thresholds: the thresholds at first.
    """

    health: int = 0
    spares: int | None = None
    life_used: int | None = None
    media_temperature: int | None = None
    controller_temperature: int | None = None
    power_temperature: int = 0
    unsafe_shutdown: bool | None = None
    shutdown_count: int | None = None
    alarms: int | None = None
    thresholds: Thresholds = Thresholds()


@attrs.define(eq=False)
class Health:
    """The health of a DIMM now.

    Attributes:
        initial: what it reports without injected values.
        notify: called after a change while an alarm is raised.
        now: what it reports.
        thresholds: the current thresholds.
    """

    initial: Measurements
    notify: Callable[[], None]
    now: Measurements = attrs.field(init=False)
    thresholds: Thresholds = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.now, self.thresholds = self.initial, self.initial.thresholds

    @property
    def alarms(self) -> int:
        """The alarms that it reports."""
        return self._raised if self.initial.alarms is None else self.initial.alarms

    def set_thresholds(self, wanted: Thresholds) -> None:
        """Replace the thresholds."""
        self.thresholds = wanted
        self._warn()

    def inject(self, wanted: SmartInject) -> None:
        """Override values; a cleared enable byte restores the one that the DIMM had at first."""
        now, initial = self.now, self.initial
        if wanted.flags & Injection.MEDIA_TEMPERATURE:
            value = wanted.media_temperature if wanted.media_temperature_enable else initial.media_temperature
            now = attrs.evolve(now, media_temperature=value)
        if wanted.flags & Injection.SPARES:
            now = attrs.evolve(now, spares=wanted.spares if wanted.spares_enable else initial.spares)
        if wanted.flags & Injection.FATAL:
            now = attrs.evolve(now, health=HEALTH_FATAL if wanted.fatal_enable else initial.health)
        if wanted.flags & Injection.SHUTDOWN:
            now = self._after_shutdown(now, bool(wanted.shutdown_enable))
        self.now = now
        self._warn()

    def _after_shutdown(self, now: Measurements, is_unsafe: bool) -> Measurements:
        count = None if now.shutdown_count is None else now.shutdown_count + is_unsafe
        state = is_unsafe or (False if self.initial.unsafe_shutdown is not None else None)
        return attrs.evolve(now, unsafe_shutdown=state, shutdown_count=count)

    @property
    def _raised(self) -> int:
        """The enabled alarms whose threshold is reached."""
        now, limits = self.now, self.thresholds
        reached = Alarm(0)
        if now.spares is not None and now.spares <= limits.spares:
            reached |= Alarm.SPARES
        if _is_reached(now.media_temperature, limits.media_temperature):
            reached |= Alarm.MEDIA_TEMPERATURE
        if _is_reached(now.controller_temperature, limits.controller_temperature):
            reached |= Alarm.CONTROLLER_TEMPERATURE
        return limits.alarms & reached

    def _warn(self) -> None:
        if self._raised or self.now.health != self.initial.health or self.now.unsafe_shutdown:
            self.notify()


def _is_reached(temperature: int | None, limit: int) -> bool:
    """Whether a temperature is at or above a limit.  The top bit of either is its sign."""
    return temperature is not None and sixteenths_of(temperature) >= sixteenths_of(limit)


#: The health of the test platform's DIMMs (smart_def, smart_init, tools/testing/nvdimm/test/nfit.c, Linux 6.1).
TESTED = Measurements(
    health=HEALTH_NON_CRITICAL,
    spares=75,
    life_used=5,
    media_temperature=23 * SIXTEENTHS,
    controller_temperature=25 * SIXTEENTHS,
    power_temperature=40 * SIXTEENTHS,
    unsafe_shutdown=False,
    shutdown_count=42,
    alarms=Alarm.SPARES | Alarm.MEDIA_TEMPERATURE,
    thresholds=Thresholds(
        alarms=Alarm.SPARES | Alarm.MEDIA_TEMPERATURE,
        spares=5,
        media_temperature=40 * SIXTEENTHS,
        controller_temperature=30 * SIXTEENTHS,
    ),
)
