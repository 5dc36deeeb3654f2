"""Device numbers: the major of each kind of device node, and what a device with a number offers.

nmemN and ndctlN have their N as the minor; daxX.Y, disks and partitions take the lowest free minor when they are
registered.  `Device.renumber` changes the number of a registered device.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from nvdimmfs.kernels.kernel import KERNEL_6_1, Kernel

#: Major of disks whose driver has registered no major (BLOCK_EXT_MAJOR, include/uapi/linux/major.h).
BLOCK_EXT_MAJOR = 259

#: Majors that the kernel assigns at run time, as on the reference machine: nmemN, ndctlN (both assigned when libnvdimm
#: is loaded: nvdimm_bus_init, drivers/nvdimm/bus.c) and daxX.Y (dax_core_init, drivers/dax/super.c).
DIMM_MAJOR = 245
NDCTL_MAJOR = 246
DAX_MAJOR = 252


class DeviceNumber(NamedTuple):
    """A major and minor number, and the kind of device node that has it.

    Attributes:
        kind: `block` or `char`, as in /sys/dev.
    """

    kind: str
    major: int
    minor: int

    @property
    def is_valid(self) -> bool:
        """Whether 12 bits hold the major and 20 the minor (include/linux/kdev_t.h)."""
        return 0 <= self.major < 1 << 12 and 0 <= self.minor < 1 << 20

    def __str__(self) -> str:
        return f"{self.major}:{self.minor}"


def dimm_number(dimm: int, kernel: Kernel = KERNEL_6_1) -> DeviceNumber:
    """The device number of nmemN (nvdimm_create, drivers/nvdimm/dimm_devs.c, Linux 6.1)."""
    return DeviceNumber("char", DIMM_MAJOR - kernel.devices.majors_taken_later, dimm)


def ndctl_number(bus: int, kernel: Kernel = KERNEL_6_1) -> DeviceNumber:
    """The device number of ndctlN (nvdimm_bus_create_ndctl, drivers/nvdimm/bus.c, Linux 6.1)."""
    return DeviceNumber("char", NDCTL_MAJOR - kernel.devices.majors_taken_later, bus)


def dax_number(minor: int) -> DeviceNumber:
    """The device number of a daxX.Y (dax_alloc, drivers/dax/super.c, Linux 6.1)."""
    return DeviceNumber("char", DAX_MAJOR, minor)


class Numbered(Protocol):
    """A registered device that has a device number.

    Attributes:
        name: the device's name.
    """

    name: str

    def renumber(self, number: DeviceNumber) -> None:
        """Change the number.  EBUSY when another device has it, EINVAL when it is out of range."""
