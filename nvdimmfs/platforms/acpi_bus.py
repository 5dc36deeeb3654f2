"""The ACPI bus: devices of the ACPI namespace."""

from __future__ import annotations

from typing import Self

from nvdimmfs.core.attribute import AttributeGroup, attribute
from nvdimmfs.core.device import Device
from nvdimmfs.core.driver import Bus, Driver
from nvdimmfs.core.system import System

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
    """

    bus: AcpiBus

    def __init__(self, bus: AcpiBus, name: str, parent: Device | None) -> None:
        super().__init__(bus.system, name, parent)
        self.bus = bus
        self.hid = name.partition(":")[0]

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (ACPI_GROUP,)

    def uevent_variables(self) -> list[tuple[str, str]]:
        return [*super().uevent_variables(), ("MODALIAS", f"acpi:{self.hid}:")]


@attribute("hid")
def hid(device: AcpiDevice) -> str:
    """The hardware id, such as `ACPI0012`."""
    return f"{device.hid}\n"


@attribute("modalias")
def modalias(device: AcpiDevice) -> str:
    """The alias by which modprobe finds a driver: `acpi:HID:`."""
    return f"acpi:{device.hid}:\n"


@attribute("path")
def path(_device: AcpiDevice) -> str:
    """The path of the device in the ACPI namespace."""
    return f"{_NVDIMM_ROOT_PATH}\n"


ACPI_GROUP: AttributeGroup[AcpiDevice] = AttributeGroup((hid, modalias, path))
