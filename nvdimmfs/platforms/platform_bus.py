"""The platform bus: devices that no other bus finds."""

from __future__ import annotations

import errno
from typing import Self

from nvdimmfs.core.attribute import AttributeGroup, attribute
from nvdimmfs.core.device import Device
from nvdimmfs.core.driver import Bus
from nvdimmfs.core.parse import c_string
from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.mm.units import PAGE_SIZE


class PlatformBus(Bus):
    """The bus type platform.

    Attributes:
        root: /sys/devices/platform, the parent of its devices.
    """

    def __init__(self, system: System) -> None:
        super().__init__(system, "platform")
        self.root = Device(system, "platform", None)
        self.root.add()


class PlatformDevice(Device):
    """A device that the platform's code announced.

    Attributes:
        driver_override: the only driver that may bind; None for any.
    """

    def __init__(self, bus: PlatformBus, name: str) -> None:
        super().__init__(bus.system, name, bus.root)
        self.bus = bus
        self.driver_override: str | None = None

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (PLATFORM_GROUP,)

    def uevent_variables(self) -> list[tuple[str, str]]:
        return [*super().uevent_variables(), ("MODALIAS", f"platform:{self.name}")]


@attribute("modalias")
def modalias(device: PlatformDevice) -> str:
    """What modprobe needs to find a driver."""
    return f"platform:{device.name}\n"


@attribute("driver_override")
def driver_override(device: PlatformDevice) -> str:
    """The only driver that may bind; (null) for any."""
    return f"{device.driver_override or '(null)'}\n"


@driver_override.on_store
def _store_driver_override(device: PlatformDevice, data: bytes) -> None:
    """An empty line takes the restriction away.  EINVAL when the name and a newline would not fit into a page.

    Whatever was written counts, also behind a newline or NUL (driver_set_override, drivers/base/driver.c, Linux 6.1).
    """
    if len(data) >= PAGE_SIZE - 1:
        raise KernelError(errno.EINVAL, "the answer to a read would not fit into a page")
    device.driver_override = c_string(data).partition(b"\n")[0].decode("latin-1") or None


PLATFORM_GROUP: AttributeGroup[PlatformDevice] = AttributeGroup((modalias, driver_override))
