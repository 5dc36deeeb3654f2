"""The ACPI bus: devices of the ACPI namespace."""

from __future__ import annotations

from typing import Self

from nvdimmfs.core.attribute import AttributeGroup, HasSystem, attribute, constant
from nvdimmfs.core.device import Device
from nvdimmfs.core.driver import Bus, Driver
from nvdimmfs.core.system import System
from nvdimmfs.kernfs import Directory
from nvdimmfs.platforms.platform_bus import PlatformBus, PlatformDevice

#: The number of the first DIMM's device on the reference machine, on which other devices come before.
FIRST_DIMM_NUMBER = 5

#: The path of the NVDIMM root device (ACPI0012) in the ACPI namespace of the reference machine, which is QEMU's.
_NVDIMM_ROOT_PATH = r"\_SB_.NVDR"


class AcpiBus(Bus):
    """The bus type acpi."""

    def __init__(self, system: System) -> None:
        super().__init__(system, "acpi")

    def update(self, name: str) -> None:
        """Notify a device that its table has changed (NFIT_NOTIFY_UPDATE, drivers/acpi/nfit/nfit.h, Linux 6.1).

        Nothing happens while no driver is bound.
        """
        driver = self.members[name].driver
        if isinstance(driver, AcpiDriver):
            driver.update(self.members[name])


class AcpiDriver(Driver):
    """A driver that can be notified of a change."""

    def update(self, device: Device) -> None:
        """The table of a bound device has changed."""
        raise NotImplementedError


class AcpiDevice(Device):
    """A device of the ACPI namespace.

    Attributes:
        hid: its hardware id.
        physical: the platform device that stands for it; None for none.
    """

    bus: AcpiBus

    def __init__(self, bus: AcpiBus, name: str, parent: Device | None) -> None:
        super().__init__(bus.system, name, parent)
        self.bus = bus
        self.hid = name.partition(":")[0]
        self.physical: Device | None = None

    @property
    def alias(self) -> str:
        """The alias by which modprobe finds a driver."""
        return f"acpi:{self.hid}:"

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (ACPI_GROUP,)

    def add_physical(self, platform_bus: PlatformBus) -> None:
        """Register the platform device that stands for it (acpi_create_platform_device)."""
        self.physical = AcpiPlatformDevice(platform_bus, self)
        self.physical.add()
        self.directory.link("physical_node", self.physical.directory)

    def uevent_variables(self) -> list[tuple[str, str]]:
        return [*super().uevent_variables(), ("MODALIAS", self.alias)]


class AcpiDimmDevice(Device):
    """A DIMM below the NVDIMM root device.

    Attributes:
        handle: its address, which is its handle in the NFIT.
        place: its number below the root device, from 0.
    """

    def __init__(self, bus: AcpiBus, root: AcpiDevice, number: int, handle: int, place: int) -> None:
        """`number` is that in its name, which no other device of the bus has."""
        super().__init__(bus.system, f"device:{number:02x}", root)
        self.bus = bus
        self.handle = handle
        self.place = place

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (ACPI_DIMM_GROUP,)


class AcpiPlatformDevice(PlatformDevice):
    """The platform device of an ACPI device, which has no driver: that of the ACPI device does the work."""

    def __init__(self, bus: PlatformBus, companion: AcpiDevice) -> None:
        super().__init__(bus, companion.name)
        self.companion = companion

    @property
    def alias(self) -> str:
        return self.companion.alias

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (*super().groups(), FIRMWARE_NODE_GROUP)

    def _create_links(self, directory: Directory) -> None:
        super()._create_links(directory)
        directory.link("firmware_node", self.companion.directory)


@attribute("adr")
def adr(device: AcpiDimmDevice) -> str:
    """Its address, hexadecimal: the handle of the DIMM."""
    return f"0x{device.handle:08x}\n"


@attribute("path")
def dimm_path(device: AcpiDimmDevice) -> str:
    """The path of the device in the ACPI namespace."""
    return f"{_NVDIMM_ROOT_PATH}.NV{device.place & 0xFF:02X}\n"


ACPI_DIMM_GROUP: AttributeGroup[AcpiDimmDevice] = AttributeGroup((adr, dimm_path))
FIRMWARE_NODE_GROUP: AttributeGroup[HasSystem] = AttributeGroup(
    (constant("waiting_for_supplier", "0\n", since="5.11"),)
)


@attribute("hid")
def hid(device: AcpiDevice) -> str:
    """The hardware id, such as `ACPI0012`."""
    return f"{device.hid}\n"


@attribute("modalias")
def modalias(device: AcpiDevice) -> str:
    """The alias by which modprobe finds a driver: `acpi:HID:`."""
    return f"{device.alias}\n"


@attribute("path")
def path(_device: AcpiDevice) -> str:
    """The path of the device in the ACPI namespace."""
    return f"{_NVDIMM_ROOT_PATH}\n"


ACPI_GROUP: AttributeGroup[AcpiDevice] = AttributeGroup((hid, modalias, path))
