"""The power/ directory of a device that takes part in power management but never sleeps."""

from __future__ import annotations

import errno

from nvdimmfs.core.attribute import AttributeGroup, HasSystem, attribute, constant
from nvdimmfs.errors import KernelError


@attribute("autosuspend_delay_ms", 0o644)
def autosuspend_delay_ms(_device: HasSystem) -> str:
    """EIO: the device does not use autosuspend (drivers/base/power/sysfs.c, Linux 6.1)."""
    raise KernelError(errno.EIO, "the device does not use autosuspend")


POWER_GROUP: AttributeGroup[HasSystem] = AttributeGroup(
    (
        autosuspend_delay_ms,
        constant("async", "disabled\n", 0o644),
        constant("control", "auto\n", 0o644),
        constant("runtime_active_kids", "0\n"),
        constant("runtime_active_time", "0\n"),
        constant("runtime_enabled", "disabled\n"),
        constant("runtime_status", "unsupported\n"),
        constant("runtime_suspended_time", "0\n"),
        constant("runtime_usage", "0\n"),
    ),
    name="power",
)
