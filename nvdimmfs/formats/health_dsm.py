"""Health functions of the command families beside Intel's: HPE's first one, Microsoft's and Hyper-V's.

Sources of the numbers and structures: ndctl/lib/hpe1.h, msft.h and hyperv.h (ndctl 76.1).  The kernel passes them on
without looking at them (include/uapi/linux/ndctl.h, NVDIMM_FAMILY_..., Linux 6.1).  A structure is the whole payload of
a CALL, inputs first.
"""

from __future__ import annotations

import enum
import struct
from typing import ClassVar

import attrs

from nvdimmfs.formats.structure import Structure


class Hpe1Flag(enum.IntFlag):
    """Which fields of `Hpe1Smart` are wanted, and which are valid (NDN_HPE1_SMART_..._VALID)."""

    HEALTH = 1 << 0
    TEMPERATURE = 1 << 1
    SPARES = 1 << 2
    ALARMS = 1 << 3
    LIFE_USED = 1 << 4
    SHUTDOWN = 1 << 5


class Hpe1Alarm(enum.IntFlag):
    """Values that a DIMM warns of (NDN_HPE1_SMART_..._TRIP)."""

    TEMPERATURE = 1 << 0
    SPARES = 1 << 1


#: `Hpe1Smart.last_shutdown`: the last save succeeded (NDN_HPE1_SMART_LASTSAVEGOOD).
HPE1_LAST_SAVE_GOOD = 1 << 1


@attrs.frozen
class Hpe1Smart(Structure):
    """SMART (struct ndn_hpe1_smart).

    Attributes:
        wanted: see `Hpe1Flag`.
        status: 0, or why there is nothing.
        valid: see `Hpe1Flag`.
        health: bits as `intel_dsm.Smart.health`; 0 when all is well.
        temperature: sixteenths of a degree Celsius, as ndctl shows it.
        spares: percent left.
        alarms: see `Hpe1Alarm`.
        life_used: percent.
        last_shutdown: see `HPE1_LAST_SAVE_GOOD`.
    """

    layout: ClassVar = struct.Struct("<IIIBHBHBB112x")

    wanted: int = 0
    status: int = 0
    valid: int = 0
    health: int = 0
    temperature: int = 0
    spares: int = 0
    alarms: int = 0
    life_used: int = 0
    last_shutdown: int = 0


@attrs.frozen
class Hpe1SmartThreshold(Structure):
    """SMART_THRESHOLD (struct ndn_hpe1_smart_threshold).

    Attributes:
        status: 0, or why there is nothing.
        alarms: those that are enabled, see `Hpe1Alarm`.
        temperature: sixteenths of a degree Celsius.
        spares: percent.
    """

    layout: ClassVar = struct.Struct("<IHHB27x")

    status: int = 0
    alarms: int = 0
    temperature: int = 0
    spares: int = 0


#: `MicrosoftHealth.lifetime` of a new module, and `MicrosoftHealth.temperature` of one without a sensor.
MICROSOFT_WHOLE_LIFE = 100
MICROSOFT_NO_SENSOR = 255


class MicrosoftThreshold(enum.IntFlag):
    """Thresholds that were passed: of the module's lifetime, and of the energy source's lifetime and temperature."""

    MODULE_LIFETIME = 1 << 0
    ENERGY_LIFETIME = 1 << 1
    ENERGY_TEMPERATURE = 1 << 2


@attrs.frozen
class MicrosoftHealth(Structure):
    """NVDIMM_HEALTH (struct ndn_msft_smart).

    Attributes:
        status: 0, or why there is nothing.
        health: conditions that are critical, a bit each.
        temperature: degrees Celsius, see `MICROSOFT_NO_SENSOR`.
        errors, warnings: thresholds that were passed, see `MicrosoftThreshold`.
        lifetime: percent left; at 0 the module is worn out.
        uncorrectable, correctable: counts of memory errors.
    """

    layout: ClassVar = struct.Struct("<IHHBBBBB")

    status: int = 0
    health: int = 0
    temperature: int = 0
    errors: int = 0
    warnings: int = 0
    lifetime: int = 0
    uncorrectable: int = 0
    correctable: int = 0


class HyperVHealth(enum.IntFlag):
    """Bits of the word that HEALTH returns, one for each degree that ndctl distinguishes."""

    CRITICAL = 1 << 0
    FATAL = 1 << 2
    NON_CRITICAL = 1 << 3


@attrs.frozen
class HyperVAnswer(Structure):
    """HEALTH and SHUTDOWN_COUNT (struct nd_hyperv_health_info, struct nd_hyperv_shutdown_info).

    Attributes:
        status: 0, or why there is nothing.
        value: bits, see `HyperVHealth`; or unsafe shutdowns.
    """

    layout: ClassVar = struct.Struct("<II")

    status: int = 0
    value: int = 0
