"""Health of the test platform's DIMMs, and what can be made of it by injection (tools/testing/nvdimm/test, 6.1).

Layouts are those of drivers/acpi/nfit/intel.h and tools/testing/nvdimm/test/nfit_test.h.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable

import attrs

from nvdimmfs.platforms.nfit_test.payload import WORD, Payload

#: Temperatures count sixteenths of a degree Celsius.
DEGREE = 16

#: What a DIMM begins with (smart_def, smart_init).
MEDIA_TEMPERATURE = 23 * DEGREE
CONTROLLER_TEMPERATURE = 25 * DEGREE
POWER_TEMPERATURE = 40 * DEGREE
SPARES = 75
LIFE_USED = 5
SHUTDOWN_COUNT = 42

#: Health: nothing to worry about, and the end.
NON_CRITICAL = 1
FATAL = 4

#: Which fields count: health, spares, life used, both temperatures, shutdowns and their count, alarms.
_VALID = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 9 | 1 << 10

#: Status, valid fields, health, spares, life used, alarms, temperatures of media and controller, unsafe shutdowns, last
#: AIT status, temperature of the power circuit, whether the last shutdown was unsafe, bytes of vendor data.
_SMART = struct.Struct("<II4xBBBBHHIBH8xBI92x")
#: Status, alarms that are on, spares, temperatures of media and controller.
_THRESHOLDS = struct.Struct("<IHBHHx")
#: The same without status, as they are set; the status comes after.
_SET_THRESHOLDS = struct.Struct("<HBHH")
#: What is injected; media temperature; spares; fatal; unsafe shutdown, each with a switch before it; then the status.
_INJECT = struct.Struct("<QBHBBBB")


class Alarm(enum.IntFlag):
    """What a DIMM warns of (ND_INTEL_SMART_..._TRIP)."""

    SPARES = 1
    MEDIA_TEMPERATURE = 2
    CONTROLLER_TEMPERATURE = 4


class Injection(enum.IntFlag):
    """What is injected (ND_INTEL_SMART_INJECT_...)."""

    MEDIA_TEMPERATURE = 1
    SPARES = 2
    FATAL = 4
    SHUTDOWN = 8


@attrs.define
class Thresholds:
    """When a DIMM warns."""

    alarms: int = Alarm.SPARES | Alarm.MEDIA_TEMPERATURE
    spares: int = 5
    media_temperature: int = 40 * DEGREE
    controller_temperature: int = 30 * DEGREE


@attrs.define(eq=False)
class Health:
    """A DIMM's health.

    Attributes:
        notify: told of what the DIMM warns of; every time that something was set while a threshold is passed.
    """

    notify: Callable[[], None]
    health: int = NON_CRITICAL
    spares: int = SPARES
    media_temperature: int = MEDIA_TEMPERATURE
    unsafe_shutdown: bool = False
    shutdown_count: int = SHUTDOWN_COUNT
    thresholds: Thresholds = attrs.Factory(Thresholds)

    def smart(self, payload: Payload) -> None:
        """Tell all (ND_INTEL_SMART)."""
        payload.require(_SMART.size)
        payload.put(
            _SMART,
            0,
            0,
            _VALID,
            self.health,
            self.spares,
            LIFE_USED,
            Alarm.SPARES | Alarm.MEDIA_TEMPERATURE,
            self.media_temperature,
            CONTROLLER_TEMPERATURE,
            self.shutdown_count,
            1,
            POWER_TEMPERATURE,
            self.unsafe_shutdown,
            0,
        )

    def tell_thresholds(self, payload: Payload) -> None:
        """Tell when it warns (ND_INTEL_SMART_THRESHOLD)."""
        payload.require(_THRESHOLDS.size)
        payload.put(_THRESHOLDS, 0, 0, *attrs.astuple(self.thresholds))

    def set_thresholds(self, payload: Payload) -> None:
        """Warn at other values (ND_INTEL_SMART_SET_THRESHOLD)."""
        payload.require(_SET_THRESHOLDS.size)
        self.thresholds = Thresholds(*payload.get(_SET_THRESHOLDS))
        payload.put(WORD, _SET_THRESHOLDS.size, 0)
        self._warn()

    def inject(self, payload: Payload) -> None:
        """Be as ill as somebody wants (ND_INTEL_SMART_INJECT); with the switch off, as before."""
        payload.require_exactly(_INJECT.size + WORD.size)
        what, hot, temperature, worn, spares, fatal, unsafe = payload.get(_INJECT)
        if what & Injection.MEDIA_TEMPERATURE:
            self.media_temperature = temperature if hot else MEDIA_TEMPERATURE
        if what & Injection.SPARES:
            self.spares = spares if worn else SPARES
        if what & Injection.FATAL:
            self.health = FATAL if fatal else NON_CRITICAL
        if what & Injection.SHUTDOWN:
            self.unsafe_shutdown = bool(unsafe)
            self.shutdown_count += self.unsafe_shutdown
        payload.put(WORD, _INJECT.size, 0)
        self._warn()

    def _warn(self) -> None:
        on, limits = self.thresholds.alarms, self.thresholds
        if (
            (on & Alarm.SPARES and self.spares <= limits.spares)
            or (on & Alarm.MEDIA_TEMPERATURE and self.media_temperature >= limits.media_temperature)
            or (on & Alarm.CONTROLLER_TEMPERATURE and limits.controller_temperature <= CONTROLLER_TEMPERATURE)
            or self.health != NON_CRITICAL
            or self.unsafe_shutdown
        ):
            self.notify()
