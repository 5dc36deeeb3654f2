"""The power/ directory of a device that takes part in power management but never sleeps.

As in drivers/base/power/sysfs.c, Linux 6.1.
"""

from __future__ import annotations

import errno
from typing import Protocol

import attrs

from nvdimmfs.core.attribute import AttributeGroup, HasSystem, attribute, constant
from nvdimmfs.core.parse import line
from nvdimmfs.errors import KernelError


@attrs.define(eq=False)
class DevicePower:
    """The power management settings of a device.

    Attributes:
        runtime_allowed: user space allows runtime suspend.
        async_suspend: it may suspend in parallel with other devices.
    """

    runtime_allowed: bool = True
    async_suspend: bool = False


class HasPower(HasSystem, Protocol):
    """A device that takes part in power management."""

    @property
    def power(self) -> DevicePower:
        """Its settings."""


@attribute("control")
def control(device: HasPower) -> str:
    """`auto` when runtime suspend is allowed, `on` when user space forbids it."""
    return "auto\n" if device.power.runtime_allowed else "on\n"


@control.on_store
def _store_control(device: HasPower, data: bytes) -> None:
    """EINVAL for anything but `auto` and `on`."""
    word = line(data)
    if word not in {"auto", "on"}:
        raise KernelError(errno.EINVAL, "neither auto nor on")
    device.power.runtime_allowed = word == "auto"


@attribute("async")
def async_suspend(device: HasPower) -> str:
    """`enabled` when it may suspend in parallel with other devices, else `disabled`."""
    return "enabled\n" if device.power.async_suspend else "disabled\n"


@async_suspend.on_store
def _store_async_suspend(device: HasPower, data: bytes) -> None:
    """EINVAL for anything but `enabled` and `disabled`."""
    word = line(data)
    if word not in {"enabled", "disabled"}:
        raise KernelError(errno.EINVAL, "neither enabled nor disabled")
    device.power.async_suspend = word == "enabled"


@attribute("runtime_enabled")
def runtime_enabled(device: HasPower) -> str:
    """`disabled`, as no driver enables it; `disabled & forbidden` when user space also forbids it."""
    return "disabled\n" if device.power.runtime_allowed else "disabled & forbidden\n"


@attribute("runtime_usage")
def runtime_usage(device: HasPower) -> str:
    """The usage count: 1 when user space forbids runtime suspend, else 0."""
    return f"{int(not device.power.runtime_allowed)}\n"


@attribute("autosuspend_delay_ms")
def autosuspend_delay_ms(_device: HasPower) -> str:
    """EIO: the device does not use autosuspend."""
    raise KernelError(errno.EIO, "the device does not use autosuspend")


@autosuspend_delay_ms.on_store
def _store_autosuspend_delay_ms(_device: HasPower, _data: bytes) -> None:
    """EIO for any value: the device does not use autosuspend."""
    raise KernelError(errno.EIO, "the device does not use autosuspend")


_runtime_active_kids = constant("runtime_active_kids", "0\n")
_runtime_status = constant("runtime_status", "unsupported\n")

#: What a device has of which the kernel knows that nothing happens when it is suspended (pm_runtime_no_callbacks).
NO_CALLBACKS_GROUP: AttributeGroup[HasPower] = AttributeGroup(
    (
        async_suspend,
        _runtime_active_kids,
        runtime_enabled,
        _runtime_status,
        runtime_usage,
    ),
    name="power",
)

POWER_GROUP: AttributeGroup[HasPower] = AttributeGroup(
    (
        autosuspend_delay_ms,
        async_suspend,
        control,
        _runtime_active_kids,
        constant("runtime_active_time", "0\n"),
        runtime_enabled,
        _runtime_status,
        constant("runtime_suspended_time", "0\n"),
        runtime_usage,
    ),
    name="power",
)
