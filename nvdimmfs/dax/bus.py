"""The dax bus, and its drivers with ids that user space adds and removes."""

from __future__ import annotations

import errno
import re

from nvdimmfs.core.attribute import AttributeGroup, write_only_attribute
from nvdimmfs.core.device import Device
from nvdimmfs.core.driver import Bus, Driver
from nvdimmfs.core.module import Module
from nvdimmfs.core.parse import line
from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError

#: A name with two signed numbers as the kernel prints them (do_id_store, drivers/dax/bus.c, Linux 6.1).
_NAME = re.compile(r"dax(0|-?[1-9][0-9]*)\.(0|-?[1-9][0-9]*)")
_INT = range(-(1 << 31), 1 << 31)


class DaxBusDevice(Device):
    """A device on the dax bus, as the bus sees it."""

    @property
    def size(self) -> int:
        """Bytes."""
        raise NotImplementedError

    @property
    def is_for_kmem(self) -> bool:
        """Whether kmem is the driver for it, and not device_dax."""
        raise NotImplementedError

    def came_up(self) -> None:
        """A driver was bound to it."""


class DaxBus(Bus):
    """The bus type dax."""

    def __init__(self, system: System) -> None:
        super().__init__(system, "dax")

    def call_probe(self, driver: Driver, device: Device) -> None:
        """ENXIO for an empty device, for any driver (dax_bus_probe, drivers/dax/bus.c, Linux 6.1)."""
        assert isinstance(device, DaxBusDevice)
        if not device.size:
            raise KernelError(errno.ENXIO, f"{device.name} is empty")
        super().call_probe(driver, device)
        device.came_up()


class DaxDriver(Driver):
    """A driver on the dax bus.

    Attributes:
        ids: the names that were written to new_id; it matches these devices in any case.
    """

    def __init__(self, bus: Bus, module: Module) -> None:
        self.ids: set[str] = set()
        super().__init__(bus, module)

    def create_files(self) -> None:
        ID_GROUP.create(self.directory, self)

    def matches(self, device: Device) -> bool:
        assert isinstance(device, DaxBusDevice)
        return device.name in self.ids or self.matches_kind(device)

    def matches_kind(self, device: DaxBusDevice) -> bool:
        """Whether it is the driver for devices of this kind (dax_match_type)."""
        raise NotImplementedError


def _device_name(data: bytes) -> str:
    """The name of a dax device.  EINVAL for anything but daxX.Y with two numbers of 32 bits and a sign."""
    name = line(data)
    found = _NAME.fullmatch(name)
    if not found or not all(int(number) in _INT for number in found.groups()):
        raise KernelError(errno.EINVAL, f"{name!r} does not name a dax device")
    return name


@write_only_attribute("new_id")
def new_id(driver: DaxDriver, data: bytes) -> None:
    """Let the driver match the named device, now and whenever it is registered.  EINVAL for anything but daxX.Y."""
    driver.ids.add(_device_name(data))
    driver.attach()


@write_only_attribute("remove_id")
def remove_id(driver: DaxDriver, data: bytes) -> None:
    """Undo a write to new_id; a bound device stays bound.  EINVAL for anything but daxX.Y."""
    driver.ids.discard(_device_name(data))


ID_GROUP: AttributeGroup[DaxDriver] = AttributeGroup((new_id, remove_id))
