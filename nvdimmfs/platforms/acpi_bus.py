"""The ACPI bus: devices that the firmware's tables name."""

from __future__ import annotations

from typing import Self

from nvdimmfs.core.attribute import AttributeGroup, attribute
from nvdimmfs.core.device import Device
from nvdimmfs.core.driver import Bus
from nvdimmfs.core.system import System

#: What the reference machine's firmware, QEMU's, calls the NVDIMM root device (ACPI0012) in its namespace.
_NVDIMM_ROOT_PATH = r"\_SB_.NVDR"


class AcpiBus(Bus):
    """The bus type acpi."""

    def __init__(self, system: System) -> None:
        super().__init__(system, "acpi")


class AcpiDevice(Device):
    """A device of the firmware's namespace.

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
    """What modprobe needs to find a driver: `acpi:HID:`."""
    return f"acpi:{device.hid}:\n"


@attribute("path")
def path(_device: AcpiDevice) -> str:
    """Where the device stands in the firmware's namespace."""
    return f"{_NVDIMM_ROOT_PATH}\n"


ACPI_GROUP: AttributeGroup[AcpiDevice] = AttributeGroup((hid, modalias, path))
