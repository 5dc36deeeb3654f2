"""Backing device infos: the writeback settings of disks, in /sys/class/bdi (mm/backing-dev.c, Linux 6.1 and 6.12)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Self

from nvdimmfs.core.attribute import AttributeGroup, attribute, constant
from nvdimmfs.core.device import Class, Device
from nvdimmfs.core.parse import parse_unsigned
from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Directory, LazyTarget
from nvdimmfs.mm.memory import Memory
from nvdimmfs.traces.effects import DeviceAdded
from nvdimmfs.units import KIB, PAGE_SIZE, U32_MASK, as_signed, pages

#: Default readahead, in bytes (VM_READAHEAD_PAGES, include/linux/mm.h).
DEFAULT_READ_AHEAD = 128 * KIB
#: Ratios are kept in millionths, of which this many are a percent (BDI_RATIO_SCALE, include/linux/backing-dev.h, 6.12).
PERCENT = 10_000
ALL = 100 * PERCENT
#: Dirty pages are at most this share of the free memory (vm_dirty_ratio, mm/page-writeback.c).
DIRTY_SHARE = 20 * PERCENT


class BackingDevices:
    """State shared by all of them.

    Attributes:
        bdi_class: /sys/class/bdi.
        min_ratios: the sum of their min_ratio, in millionths of the dirty pages.
    """

    def __init__(self, system: System, memory: Memory) -> None:
        self.system = system
        self.bdi_class = Class(system, "bdi")
        self.min_ratios = 0
        self._memory = memory
        self._place: Directory | None = None

    @property
    def place(self) -> Directory:
        """/sys/devices/virtual/bdi, which is there while there are disks."""
        if self._place is None or self._place.is_detached:
            self._place = self.system.directory("devices/virtual").directory(self.bdi_class.name)
        return self._place

    def register(self, name: str, create: Callable[[], Directory]) -> LazyTarget:
        """Register the backing device info of a new disk; the caller sends its uevent.

        Args:
            name: the device number of the disk.
            create: creates the directory, when it is looked at: of thousands, few are.

        Returns:
            The target for the disk's link to the directory.
        """
        target = self.place.add_lazily(name, create)
        self.bdi_class.directory.link(name, target)
        if (trace := self.system.trace) is not None:
            trace.report(DeviceAdded(target.path))
        return target

    @property
    def dirty_pages(self) -> int:
        """The most dirty pages that there may be (global_dirty_limits, mm/page-writeback.c)."""
        return pages(self._memory.ram_free) * DIRTY_SHARE // ALL


class BackingDeviceInfo(Device):
    """The writeback settings of a disk, shown in /sys/class/bdi.

    Attributes:
        read_ahead_pages: pages to read ahead.
        min_ratio: guaranteed share of the dirty pages, in millionths.
        max_ratio: largest share of the dirty pages, in millionths.
        strict_limit: whether max_ratio holds even while few pages are dirty.
    """

    def __init__(self, bdis: BackingDevices, name: str) -> None:
        """`name`: the device number of the disk."""
        super().__init__(bdis.system, name, None)
        self.device_class = bdis.bdi_class
        self._bdis = bdis
        self.read_ahead_pages = DEFAULT_READ_AHEAD // PAGE_SIZE
        self.min_ratio = 0
        self.max_ratio = ALL
        self.strict_limit = False

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (BDI_GROUP,)

    @property
    def directory(self) -> Directory:
        """Its directory, which this creates."""
        node = self._bdis.place.get(self.name)
        assert isinstance(node, Directory), f"{self.name} is not registered"
        return node

    @property
    def read_ahead_kb(self) -> int:
        """KiB to read ahead, rounded down to whole pages."""
        return self.read_ahead_pages * (PAGE_SIZE // KIB)

    @read_ahead_kb.setter
    def read_ahead_kb(self, value: int) -> None:
        self.read_ahead_pages = value // (PAGE_SIZE // KIB)

    def set_min_ratio(self, ratio: int) -> None:
        """Set min_ratio.  EINVAL above max_ratio, and when an increase would bring the sum of all disks to 100 %."""
        total = self._bdis.min_ratios + ratio - self.min_ratio
        if ratio > self.max_ratio or (ratio >= self.min_ratio and total >= ALL):
            raise KernelError(errno.EINVAL, "min_ratio exceeds max_ratio, or the sum of all disks reaches 100 percent")
        self._bdis.min_ratios = total
        self.min_ratio = ratio

    def set_max_ratio(self, ratio: int) -> None:
        """Set max_ratio.  EINVAL below min_ratio and above 100 %."""
        if not self.min_ratio <= ratio <= ALL:
            raise KernelError(errno.EINVAL, "not between min_ratio and 100 percent")
        self.max_ratio = ratio

    def parse_percent(self, data: bytes) -> int:
        """A ratio, written in percent.  EINVAL for anything but a decimal number, ERANGE past 32 bits."""
        ratio = parse_unsigned(data, bits=32, base=10) * PERCENT
        return ratio & U32_MASK if self.system.kernel.disks.ratios_wrap_around else ratio

    def bytes_of(self, ratio: int) -> int:
        """The bytes of dirty pages that a ratio allows now (bdi_get_bytes, Linux 6.12)."""
        return self._bdis.dirty_pages * PAGE_SIZE * ratio // ALL

    def ratio_of(self, size: int) -> int:
        """The ratio that allows as many bytes of dirty pages now.  EINVAL for more than there may be."""
        most = self._bdis.dirty_pages
        if pages(size) > most or not most:
            raise KernelError(errno.EINVAL, f"at most {most} pages may be dirty")
        return pages(size) * ALL // most

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
    return f"{bdi.min_ratio // PERCENT}\n"


@min_ratio.on_store
def _store_min_ratio(bdi: BackingDeviceInfo, data: bytes) -> None:
    """EINVAL for anything but a decimal number, ERANGE past 32 bits.

    Then EINVAL above max_ratio, and for an increase that brings the sum of all disks to 100 or more.
    """
    bdi.set_min_ratio(bdi.parse_percent(data))


@attribute("max_ratio")
def max_ratio(bdi: BackingDeviceInfo) -> str:
    """The disk's largest share of the dirty pages, in percent."""
    return f"{bdi.max_ratio // PERCENT}\n"


@max_ratio.on_store
def _store_max_ratio(bdi: BackingDeviceInfo, data: bytes) -> None:
    """EINVAL for anything but a decimal number, above 100 and below min_ratio; ERANGE past 32 bits."""
    bdi.set_max_ratio(bdi.parse_percent(data))


@attribute("min_ratio_fine", since="6.6")
def min_ratio_fine(bdi: BackingDeviceInfo) -> str:
    """min_ratio in millionths."""
    return f"{bdi.min_ratio}\n"


@min_ratio_fine.on_store
def _store_min_ratio_fine(bdi: BackingDeviceInfo, data: bytes) -> None:
    """Sets min_ratio.  EINVAL for no number and as for min_ratio, ERANGE past 32 bits."""
    bdi.set_min_ratio(parse_unsigned(data, bits=32, base=10))


@attribute("max_ratio_fine", since="6.6")
def max_ratio_fine(bdi: BackingDeviceInfo) -> str:
    """max_ratio in millionths."""
    return f"{bdi.max_ratio}\n"


@max_ratio_fine.on_store
def _store_max_ratio_fine(bdi: BackingDeviceInfo, data: bytes) -> None:
    """Sets max_ratio.  EINVAL for no number, for more than 1,000,000 and as for max_ratio; ERANGE past 32 bits."""
    bdi.set_max_ratio(parse_unsigned(data, bits=32, base=10))


@attribute("min_bytes", since="6.6")
def min_bytes(bdi: BackingDeviceInfo) -> str:
    """min_ratio in bytes: of a fifth of the memory that is free now."""
    return f"{bdi.bytes_of(bdi.min_ratio)}\n"


@min_bytes.on_store
def _store_min_bytes(bdi: BackingDeviceInfo, data: bytes) -> None:
    """Sets min_ratio.  As for min_ratio, and EINVAL for more than a fifth of the free memory; ERANGE past 64 bits."""
    bdi.set_min_ratio(bdi.ratio_of(parse_unsigned(data, base=10)))


@attribute("max_bytes", since="6.6")
def max_bytes(bdi: BackingDeviceInfo) -> str:
    """max_ratio in bytes: of a fifth of the memory that is free now."""
    return f"{bdi.bytes_of(bdi.max_ratio)}\n"


@max_bytes.on_store
def _store_max_bytes(bdi: BackingDeviceInfo, data: bytes) -> None:
    """Sets max_ratio.  As for max_ratio, and EINVAL for more than a fifth of the free memory; ERANGE past 64 bits."""
    bdi.set_max_ratio(bdi.ratio_of(parse_unsigned(data, base=10)))


@attribute("strict_limit", since="6.6")
def strict_limit(bdi: BackingDeviceInfo) -> str:
    """Whether max_ratio holds even while few pages are dirty."""
    return f"{int(bdi.strict_limit)}\n"


@strict_limit.on_store
def _store_strict_limit(bdi: BackingDeviceInfo, data: bytes) -> None:
    """EINVAL for anything but 0 and 1, ERANGE past 32 bits."""
    value = parse_unsigned(data, bits=32, base=10)
    if value > 1:
        raise KernelError(errno.EINVAL, "neither 0 nor 1")
    bdi.strict_limit = bool(value)


BDI_GROUP: AttributeGroup[BackingDeviceInfo] = AttributeGroup(
    (
        read_ahead_kb,
        max_ratio,
        min_ratio,
        max_ratio_fine,
        min_ratio_fine,
        max_bytes,
        min_bytes,
        strict_limit,
        constant("stable_pages_required", "0\n"),
    )
)
