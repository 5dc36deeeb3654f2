"""Regions that are divided into dax devices, shown as dax_region/ below the provider's device."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Protocol, Self

import attrs

from nvdimmfs.core.attribute import AttributeGroup, attribute
from nvdimmfs.core.device import Device, DeviceDriver
from nvdimmfs.errors import KernelError
from nvdimmfs.media.base import Media
from nvdimmfs.mm.buffers import DriverMemory
from nvdimmfs.mm.nodes import FIRST_NODE
from nvdimmfs.mm.resource import Resource


@attrs.define(eq=False)
class DaxRange:
    """A physical range of a dax device.

    Attributes:
        start, size: bytes.
        page_offset: its offset in the device when it was added, pages.
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
        """Append a range."""

    def drop_last(self) -> None:
        """Remove the last range."""


class DaxRegion:
    """A range of memory that a provider registers on the dax bus.

    A region of persistent memory is static: one device fills it.  The size of that device can be written after chmod(2)
    of the file.

    Attributes:
        device: the provider's device.
        id: the X of daxX.Y.
        start, size: the range of data, bytes.
        align: the alignment of its devices, bytes.
        target_node: the node that the memory would form; below 0 for none.
        numa_node: the node that the provider's device is near to.
        media: the bytes of the range.
        memory: what drivers reserve and map; None for the machine's memory.
        space: the range, with a child resource for each part that belongs to a device.
    """

    #: Whether user space creates devices in it.
    is_dynamic = False
    #: Whether kmem is the driver for its devices, and not device_dax (IORESOURCE_DAX_KMEM, Linux 6.12).
    is_for_kmem = False

    def __init__(
        self,
        device: Device,
        number: int,
        start: int,
        size: int,
        align: int,
        target_node: int,
        media: Media,
        numa_node: int = FIRST_NODE,
    ) -> None:
        """ENOMEM when start or size is not a multiple of the alignment (alloc_dax_region, Linux 6.1)."""
        if start & (align - 1) or size & (align - 1):
            raise KernelError(errno.ENOMEM, f"{start:#x} and {size:#x} are not multiples of {align:#x}")
        self.system = device.system
        self.device = device
        self.id = number
        self.start = start
        self.size = size
        self.align = align
        self.target_node = target_node
        self.numa_node = numa_node
        self.media = media
        self.memory: DriverMemory | None = None
        self.space = Resource(f"dax region {number}", start, start + size - 1)
        self.group.create(device.directory, self)
        device.manage(lambda: self.group.remove(device.directory))

    @property
    def group(self) -> AttributeGroup[Self]:
        """The files of dax_region/."""
        return DAX_REGION_GROUP

    @property
    def available_size(self) -> int:
        """Free bytes."""
        return self.size - sum(child.size for child in self.space.children)

    def resize(self, device: RangeOwner, size: int) -> None:
        """Grow into free space, first fit, or shrink from the end (dev_dax_resize).

        EBUSY while bound; ENOSPC without enough free space.
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
        """Add a range to a device.  ENOMEM when it is not free, or not in the region.

        An empty range is EBUSY for a device that has ranges; else it has no effect.
        """
        if not size:
            if device.ranges:
                raise KernelError(errno.EBUSY, f"{device.name} already has memory")
            return
        try:
            self.space.request(start, size, device.name)
        except KernelError as refusal:
            raise KernelError(errno.ENOMEM, refusal.reason) from None
        device.append(start, size)

    def came_up(self, device: RangeOwner) -> None:
        """A driver was bound to a device."""

    def device_gone(self, device: RangeOwner) -> None:
        """A device was unregistered: its ranges are free."""
        for each in device.ranges:
            self.space.release(each.start, each.size)

    def _gaps(self) -> Iterator[tuple[int, int]]:
        """Start and size of each free range, in address order."""
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
    """The alignment of the devices, bytes."""
    return f"{region.align}\n"


DAX_REGION_GROUP: AttributeGroup[DaxRegion] = AttributeGroup((region_id, region_size, region_align), name="dax_region")
