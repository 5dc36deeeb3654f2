"""The platform bus: devices that are not on a discoverable bus."""

from __future__ import annotations

import errno
from typing import Self

from nvdimmfs.core.attribute import AttributeGroup, KernelAttribute, attribute
from nvdimmfs.core.device import Device
from nvdimmfs.core.driver import Bus
from nvdimmfs.core.parse import c_string
from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.units import PAGE_SIZE


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
    """A platform device.

    Attributes:
        kind: the name that drivers match: the device's without the number.
        driver_override: the only driver that may bind; None for any.
        numa_node: its node; None for none.
    """

    def __init__(self, bus: PlatformBus, name: str, number: int | None = None, *, numa_node: int | None = None) -> None:
        """`number`: distinguishes devices of the same name; None if there is only one."""
        super().__init__(bus.system, name if number is None else f"{name}.{number}", bus.root)
        self.bus = bus
        self.kind = name
        self.numa_node = numa_node
        self.driver_override: str | None = None

    @classmethod
    def named(cls, bus: PlatformBus, name: str) -> PlatformDevice:
        """The device with a name such as `nfit_test.0`, or without a number."""
        kind, _, number = name.rpartition(".")
        return cls(bus, kind, int(number)) if number.isdecimal() and kind else cls(bus, name)

    def suits(self, driver: str) -> bool:
        """Whether the driver of that name may bind."""
        return (self.driver_override or self.kind) == driver

    @property
    def alias(self) -> str:
        """The alias by which modprobe finds a driver."""
        return f"platform:{self.kind}"

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (PLATFORM_GROUP,)

    def uevent_variables(self) -> list[tuple[str, str]]:
        return [*super().uevent_variables(), ("MODALIAS", self.alias)]


@attribute("modalias")
def modalias(device: PlatformDevice) -> str:
    """The alias by which modprobe finds a driver: `platform:` and the device's name without its number.

    That of a node of a device tree begins with `of:` and names the node and what it is compatible with.
    """
    return f"{device.alias}\n"


@attribute("driver_override")
def driver_override(device: PlatformDevice) -> str:
    """The only driver that may bind; `(null)` for any."""
    return f"{device.driver_override or '(null)'}\n"


@driver_override.on_store
def _store_driver_override(device: PlatformDevice, data: bytes) -> None:
    """Let only this driver bind; an empty line allows any.  EINVAL if a read could not return it in a page.

    The length of the whole write counts, with all after a newline or NUL (driver_set_override, drivers/base/driver.c).
    """
    if len(data) >= PAGE_SIZE - 1:
        raise KernelError(errno.EINVAL, "a read could not return the name in a page")
    device.driver_override = c_string(data).partition(b"\n")[0].decode("latin-1") or None


@attribute("numa_node")
def numa_node(device: PlatformDevice) -> str:
    """Its NUMA node; hidden without one."""
    return f"{device.numa_node}\n"


def _visible(device: PlatformDevice, candidate: KernelAttribute[PlatformDevice]) -> int:
    if candidate is numa_node and device.numa_node is None:
        return 0
    return candidate.permissions


PLATFORM_GROUP: AttributeGroup[PlatformDevice] = AttributeGroup(
    (modalias, numa_node, driver_override), visible=_visible
)
