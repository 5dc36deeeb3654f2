"""Dax regions from which user space cuts devices: memory that firmware has set aside (drivers/dax/bus.c, Linux 6.1)."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Self

from nvdimmfs.core.attribute import AttributeGroup, attribute, write_only_attribute
from nvdimmfs.core.device import Device
from nvdimmfs.core.numbering import Numbering
from nvdimmfs.core.parse import line, parse_signed
from nvdimmfs.dax.device import DaxLayer, DevDax
from nvdimmfs.dax.region import DAX_REGION_GROUP, DaxRegion
from nvdimmfs.errors import KernelError
from nvdimmfs.media.base import Media
from nvdimmfs.mm.resource import Resource


class DynamicDaxRegion(DaxRegion):
    """A region whose devices come, go, grow and shrink.

    Attributes:
        space: the region, with a resource for each range of a device.
        seed: the first of the devices that were made and never bound since; None for none.
        youngest: the device that was made last; None once it is deleted.
    """

    is_dynamic = True

    def __init__(
        self, layer: DaxLayer, device: Device, number: int, start: int, size: int, align: int, node: int, media: Media
    ) -> None:
        """ENOMEM as for `DaxRegion`."""
        self.space = Resource(f"dax region {number}", start, start + size - 1)
        self.seed: DevDax | None = None
        self.youngest: DevDax | None = None
        self._layer = layer
        self._numbering = Numbering()
        super().__init__(device, number, start, size, align, node, media)

    @property
    def group(self) -> AttributeGroup[Self]:
        return DYNAMIC_REGION_GROUP

    @property
    def available_size(self) -> int:
        """Bytes that no device has."""
        return self.size - sum(child.size for child in self.space.children)

    def create(self, size: int) -> DevDax:
        """Register a device with the first `size` bytes, or with none (devm_create_dev_dax)."""
        device = DevDax(self._layer, self, self._numbering.allocate())
        if size:
            self.add_range(device, self.start, size)
        device.add()
        return device

    def delete(self, name: str) -> None:
        """Unregister an empty device.

        ENXIO when there is none; EBUSY when it is bound or has any memory, and for number 0, which stays.
        """
        victim = next((child for child in self.device.children if child.name == name), None)
        if not isinstance(victim, DevDax):
            raise KernelError(errno.ENXIO, f"there is no {name}")
        if victim.driver or victim.size or not victim.id:
            raise KernelError(errno.EBUSY, f"{name} is in use, or the first one")
        victim.unregister()

    def resize(self, device: DevDax, size: int) -> None:
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

    def add_range(self, device: DevDax, start: int, size: int) -> None:
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

    def came_up(self, device: DevDax) -> None:
        """It is a seed no longer."""
        if self.seed is device:
            self.seed = None

    def device_gone(self, device: DevDax) -> None:
        """Its number and its ranges are free."""
        self._numbering.free(device.id)
        for each in device.ranges:
            self.space.release(each.start, each.size)
        if self.seed is device:
            self.seed = None
        if self.youngest is device:
            self.youngest = None

    def _gaps(self) -> Iterator[tuple[int, int]]:
        """Start and size of what is free, in address order."""
        start = self.start
        for child in self.space.children:
            if start < child.start:
                yield start, child.start - start
            start = child.end + 1
        if start <= self.space.end:
            yield start, self.space.end + 1 - start

    def _shrink(self, device: DevDax, surplus: int) -> None:
        while surplus:
            last = device.ranges[-1]
            if last.size > surplus:
                self._resize_last(device, last.size - surplus)
                return
            self.space.release(last.start, last.size)
            device.drop_last()
            surplus -= last.size

    def _resize_last(self, device: DevDax, size: int) -> None:
        last = device.ranges[-1]
        self.space.release(last.start, last.size)
        self.space.request(last.start, size, device.name)
        last.size = size


@attribute("available_size")
def available_size(region: DynamicDaxRegion) -> str:
    """Bytes that no device has."""
    return f"{region.available_size}\n"


@attribute("create")
def create(region: DynamicDaxRegion) -> str:
    """The device that was made last; empty once it is deleted."""
    return f"{region.youngest.name if region.youngest else ''}\n"


@create.on_store
def _store_create(region: DynamicDaxRegion, data: bytes) -> None:
    """1 makes an empty device.  EINVAL, ERANGE for anything else; ENOSPC when nothing is free."""
    if parse_signed(data, bits=32) != 1:
        raise KernelError(errno.EINVAL, "one at a time")
    if not region.available_size:
        raise KernelError(errno.ENOSPC, "nothing is free")
    device = region.create(0)
    region.seed = region.seed or device
    region.youngest = device


@attribute("seed")
def seed(region: DynamicDaxRegion) -> str:
    """The first of the devices that were made and never bound since; empty for none."""
    return f"{region.seed.name if region.seed else ''}\n"


@write_only_attribute("delete")
def delete(region: DynamicDaxRegion, data: bytes) -> None:
    """Unregister the named device, which must be empty.

    ENXIO when there is none; EBUSY when it is bound or has any memory, and for number 0, which stays.
    """
    region.delete(line(data))


DYNAMIC_REGION_GROUP: AttributeGroup[DynamicDaxRegion] = AttributeGroup(
    (*DAX_REGION_GROUP.attributes, available_size, create, seed, delete), name="dax_region"
)
