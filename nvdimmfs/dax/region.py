"""Regions that dax devices are cut from, shown as dax_region/ below the provider's device."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Protocol, Self

import attrs

from nvdimmfs.core.attribute import AttributeGroup, attribute
from nvdimmfs.core.device import Device, DeviceDriver
from nvdimmfs.errors import KernelError
from nvdimmfs.media.base import Media
from nvdimmfs.mm.resource import Resource


@attrs.define(eq=False)
class DaxRange:
    """A physical range of a dax device.

    Attributes:
        start, size: bytes.
        page_offset: where in the device it stood when it became a part of it, pages.
        mapping: the device that shows it; None before there is one.
    """

    start: int
    size: int
    page_offset: int = 0
    mapping: Device | None = None

    @property
    def end(self) -> int:
        """The address after its last byte."""
        return self.start + self.size


class RangeOwner(Protocol):
    """A dax device, as its region sees it.

    Attributes:
        name: the device's name.
        id: the Y of daxX.Y.
        ranges: the ranges of the region that it consists of, in order.
        driver: the driver it is bound to.
    """

    name: str
    id: int
    ranges: list[DaxRange]
    driver: DeviceDriver | None

    @property
    def size(self) -> int:
        """Bytes of all ranges."""

    def append(self, start: int, size: int) -> None:
        """Add a range behind the others."""

    def drop_last(self) -> None:
        """Give up the last range."""


class DaxRegion:
    """The range that a provider hands to the dax bus.

    One of persistent memory is static: one device fills it, whose size may be written once somebody has changed the
    file's mode bits.

    Attributes:
        device: the provider's device.
        id: the X of daxX.Y.
        start, size: the range of data, bytes.
        align: what devices of this region are aligned to, bytes.
        target_node: the node that the memory would form; below 0 for none.
        media: the bytes of the range.
        space: the range, with a resource for each part that a device has.
    """

    #: Whether user space cuts devices from it.
    is_dynamic = False

    def __init__(
        self, device: Device, number: int, start: int, size: int, align: int, target_node: int, media: Media
    ) -> None:
        """ENOMEM when start or size is not a multiple of the alignment (alloc_dax_region, Linux 6.1)."""
        if start & (align - 1) or size & (align - 1):
            raise KernelError(errno.ENOMEM, f"{start:#x} and {size:#x} are no multiples of {align:#x}")
        self.system = device.system
        self.device = device
        self.id = number
        self.start = start
        self.size = size
        self.align = align
        self.target_node = target_node
        self.media = media
        self.space = Resource(f"dax region {number}", start, start + size - 1)
        self.group.create(device.directory, self)
        device.manage(lambda: self.group.remove(device.directory))

    @property
    def group(self) -> AttributeGroup[Self]:
        """Its files."""
        return DAX_REGION_GROUP

    @property
    def available_size(self) -> int:
        """Bytes that no device has."""
        return self.size - sum(child.size for child in self.space.children)

    def resize(self, device: RangeOwner, size: int) -> None:
        """Grow into what is free, first fit, or shrink from the end (dev_dax_resize).

        EBUSY while bound; ENOSPC when less is free.
        """
        if device.driver:
            raise KernelError(errno.EBUSY, f"{device.name} is bound to {device.driver.name}")
        missing = size - device.size
        if missing > self.available_size:
            raise KernelError(errno.ENOSPC, f"{self.available_size} bytes are free")
        if missing < 0:
            self._shrink(device, -missing)
        while missing > 0:
            start, room = next(self._gaps())
            taken = min(room, missing)
            if device.ranges and device.ranges[-1].end == start:
                self._resize_last(device, device.ranges[-1].size + taken)
            else:
                self.add_range(device, start, taken)
            missing -= taken

    def add_range(self, device: RangeOwner, start: int, size: int) -> None:
        """Give a device a range.  ENOMEM when it is not free, or not in the region.

        Of none it can only make the first: EBUSY otherwise, and nothing happens.
        """
        if not size:
            if device.ranges:
                raise KernelError(errno.EBUSY, f"{device.name} has memory already")
            return
        try:
            self.space.request(start, size, device.name)
        except KernelError as refusal:
            raise KernelError(errno.ENOMEM, refusal.reason) from None
        device.append(start, size)

    def came_up(self, device: RangeOwner) -> None:
        """A driver has taken a device into service."""

    def device_gone(self, device: RangeOwner) -> None:
        """A device is unregistered: its ranges are free."""
        for each in device.ranges:
            self.space.release(each.start, each.size)

    def _gaps(self) -> Iterator[tuple[int, int]]:
        """Start and size of what is free, in address order."""
        start = self.start
        for child in self.space.children:
            if start < child.start:
                yield start, child.start - start
            start = child.end + 1
        if start <= self.space.end:
            yield start, self.space.end + 1 - start

    def _shrink(self, device: RangeOwner, surplus: int) -> None:
        while surplus:
            last = device.ranges[-1]
            if last.size > surplus:
                self._resize_last(device, last.size - surplus)
                return
            self.space.release(last.start, last.size)
            device.drop_last()
            surplus -= last.size

    def _resize_last(self, device: RangeOwner, size: int) -> None:
        last = device.ranges[-1]
        self.space.release(last.start, last.size)
        self.space.request(last.start, size, device.name)
        last.size = size


@attribute("id")
def region_id(region: DaxRegion) -> str:
    """The X of daxX.Y."""
    return f"{region.id}\n"


@attribute("size")
def region_size(region: DaxRegion) -> str:
    """Bytes."""
    return f"{region.size}\n"


@attribute("align", 0o400)
def region_align(region: DaxRegion) -> str:
    """What the devices are aligned to, bytes."""
    return f"{region.align}\n"


DAX_REGION_GROUP: AttributeGroup[DaxRegion] = AttributeGroup((region_id, region_size, region_align), name="dax_region")
