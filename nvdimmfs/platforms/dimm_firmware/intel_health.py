"""Health by Intel's functions (drivers/acpi/nfit/intel.h and tools/testing/nvdimm/test/nfit_test.h, Linux 6.1)."""

from __future__ import annotations

import attrs

from nvdimmfs.formats.intel_dsm import (
    LatchShutdown,
    Smart,
    SmartFlag,
    SmartInject,
    SmartSetThreshold,
    SmartThreshold,
    Status,
)
from nvdimmfs.formats.ndctl import U32
from nvdimmfs.platforms.dimm_firmware.health import Health, Measurements, Thresholds
from nvdimmfs.platforms.dimm_firmware.payload import Payload

#: Status of ENABLE_LSS_STATUS for an invalid truth value.
_BAD_LATCH = 3


@attrs.frozen
class IntelHealth:
    """The functions that access the health of a DIMM."""

    health: Health

    def smart(self, payload: Payload) -> None:
        """Return all values (ND_INTEL_SMART)."""
        payload.require(Smart.size())
        now = self.health.now
        payload.put(
            Smart(
                status=Status.SUCCESS,
                flags=_valid(now),
                health=now.health,
                spares=now.spares or 0,
                life_used=now.life_used or 0,
                alarms=self.health.alarms,
                media_temperature=now.media_temperature or 0,
                controller_temperature=now.controller_temperature or 0,
                shutdown_count=now.shutdown_count or 0,
                ait_status=1,
                pmic_temperature=now.power_temperature,
                shutdown_state=bool(now.unsafe_shutdown),
            )
        )

    def thresholds(self, payload: Payload) -> None:
        """Return the thresholds (ND_INTEL_SMART_THRESHOLD)."""
        payload.require(SmartThreshold.size())
        payload.put(SmartThreshold(Status.SUCCESS, *attrs.astuple(self.health.thresholds)))

    def set_thresholds(self, payload: Payload) -> None:
        """Set the thresholds (ND_INTEL_SMART_SET_THRESHOLD)."""
        payload.require(SmartSetThreshold.size() - U32.size)
        wanted = payload.get(SmartSetThreshold)
        payload.put(attrs.evolve(wanted, status=Status.SUCCESS))
        self.health.set_thresholds(
            Thresholds(wanted.alarms, wanted.spares, wanted.media_temperature, wanted.controller_temperature)
        )

    def inject(self, payload: Payload) -> None:
        """Override values (ND_INTEL_SMART_INJECT)."""
        payload.require_exactly(SmartInject.size())
        wanted = payload.get(SmartInject)
        payload.put(attrs.evolve(wanted, status=Status.SUCCESS))
        self.health.inject(wanted)


def latch_shutdown(payload: Payload) -> None:
    """Acknowledge the count of unsafe shutdowns (ND_INTEL_ENABLE_LSS_STATUS)."""
    payload.require(LatchShutdown.size())
    request = payload.get(LatchShutdown)
    payload.put(attrs.evolve(request, status=Status.SUCCESS if request.enable <= 1 else _BAD_LATCH))


def _valid(now: Measurements) -> SmartFlag:
    """The fields that the DIMM reports."""
    reported = {
        SmartFlag.SPARES: now.spares,
        SmartFlag.LIFE_USED: now.life_used,
        SmartFlag.MEDIA_TEMPERATURE: now.media_temperature,
        SmartFlag.CONTROLLER_TEMPERATURE: now.controller_temperature,
        SmartFlag.SHUTDOWN_COUNT: now.shutdown_count,
        SmartFlag.SHUTDOWN: now.unsafe_shutdown,
    }
    flags = SmartFlag.HEALTH | SmartFlag.ALARMS
    for flag, value in reported.items():
        if value is not None:
            flags |= flag
    return flags
