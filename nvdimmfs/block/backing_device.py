"""Backing device infos: the writeback settings of disks, in /sys/class/bdi (mm/backing-dev.c, Linux 6.1)."""

from __future__ import annotations

import errno
from typing import Self

from nvdimmfs.core.attribute import AttributeGroup, attribute, constant
from nvdimmfs.core.device import Class, Device
from nvdimmfs.core.device_number import DeviceNumber
from nvdimmfs.core.parse import parse_unsigned
from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.units import KIB, PAGE_SIZE, as_signed

#: Default readahead, in bytes (VM_READAHEAD_PAGES, include/linux/mm.h).
DEFAULT_READ_AHEAD = 128 * KIB
PERCENT = 100


class BackingDevices:
    """State shared by all of them.

    Attributes:
        bdi_class: /sys/class/bdi.
        min_ratios: the sum of their min_ratio, in percent of the dirty pages.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self.bdi_class = Class(system, "bdi")
        self.min_ratios = 0


class BackingDeviceInfo(Device):
    """The writeback settings of a disk, shown in /sys/class/bdi.

    Attributes:
        read_ahead_pages: pages to read ahead.
        min_ratio: guaranteed share of the dirty pages, in percent.
        max_ratio: largest share of the dirty pages, in percent.
    """

    def __init__(self, bdis: BackingDevices, number: DeviceNumber) -> None:
        """`number`: that of the disk, which is its name."""
        super().__init__(bdis.system, str(number), None)
        self.device_class = bdis.bdi_class
        self._bdis = bdis
        self.read_ahead_pages = DEFAULT_READ_AHEAD // PAGE_SIZE
        self.min_ratio = 0
        self.max_ratio = PERCENT

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (BDI_GROUP,)

    @property
    def read_ahead_kb(self) -> int:
        """KiB to read ahead, rounded down to whole pages."""
        return self.read_ahead_pages * (PAGE_SIZE // KIB)

    @read_ahead_kb.setter
    def read_ahead_kb(self, value: int) -> None:
        self.read_ahead_pages = value // (PAGE_SIZE // KIB)

    def set_min_ratio(self, ratio: int) -> None:
        """Set min_ratio.  EINVAL above max_ratio, and when an increase would bring the sum of all disks to 100."""
        total = self._bdis.min_ratios + ratio - self.min_ratio
        if ratio > self.max_ratio or (ratio >= self.min_ratio and total >= PERCENT):
            raise KernelError(errno.EINVAL, "min_ratio exceeds max_ratio, or the sum of all disks reaches 100 percent")
        self._bdis.min_ratios = total
        self.min_ratio = ratio

    def unregister(self) -> None:
        self.set_min_ratio(0)
        super().unregister()


@attribute("read_ahead_kb")
def read_ahead_kb(bdi: BackingDeviceInfo) -> str:
    """KiB to read ahead: the same value as in the disk's queue, but printed as a signed 64-bit number."""
    return f"{as_signed(bdi.read_ahead_kb)}\n"


@read_ahead_kb.on_store
def _store_read_ahead_kb(bdi: BackingDeviceInfo, data: bytes) -> None:
    """Rounded down to whole pages.  EINVAL for anything but a decimal number, ERANGE past 64 bits."""
    bdi.read_ahead_kb = parse_unsigned(data, base=10)


@attribute("min_ratio")
def min_ratio(bdi: BackingDeviceInfo) -> str:
    """The disk's guaranteed share of the dirty pages, in percent."""
    return f"{bdi.min_ratio}\n"


@min_ratio.on_store
def _store_min_ratio(bdi: BackingDeviceInfo, data: bytes) -> None:
    """EINVAL for anything but a decimal number, ERANGE past 32 bits.

    Then EINVAL above max_ratio, and for an increase that brings the sum of all disks to 100 or more.
    """
    bdi.set_min_ratio(parse_unsigned(data, bits=32, base=10))


@attribute("max_ratio")
def max_ratio(bdi: BackingDeviceInfo) -> str:
    """The disk's largest share of the dirty pages, in percent."""
    return f"{bdi.max_ratio}\n"


@max_ratio.on_store
def _store_max_ratio(bdi: BackingDeviceInfo, data: bytes) -> None:
    """EINVAL for anything but a decimal number, above 100 and below min_ratio; ERANGE past 32 bits."""
    ratio = parse_unsigned(data, bits=32, base=10)
    if not bdi.min_ratio <= ratio <= PERCENT:
        raise KernelError(errno.EINVAL, "not between min_ratio and 100")
    bdi.max_ratio = ratio


BDI_GROUP: AttributeGroup[BackingDeviceInfo] = AttributeGroup(
    (
        read_ahead_kb,
        max_ratio,
        min_ratio,
        constant("stable_pages_required", "0\n"),
    )
)
