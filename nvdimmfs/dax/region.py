"""Regions that dax devices are cut from, shown as dax_region/ below the provider's device."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Self

from nvdimmfs.core.attribute import AttributeGroup, attribute
from nvdimmfs.core.device import Device
from nvdimmfs.errors import KernelError
from nvdimmfs.media.base import Media

if TYPE_CHECKING:
    from nvdimmfs.dax.device import DevDax


class DaxRegion:
    """The range that a provider hands to the dax bus.

    One of persistent memory is static: one device fills it.

    Attributes:
        device: the provider's device.
        id: the X of daxX.Y.
        start, size: the range of data, bytes.
        align: what devices of this region are aligned to, bytes.
        target_node: the node that the memory would form; below 0 for none.
        media: the bytes of the range.
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
        self.group.create(device.directory, self)
        device.manage(lambda: self.group.remove(device.directory))

    @property
    def group(self) -> AttributeGroup[Self]:
        """Its files."""
        return DAX_REGION_GROUP

    def resize(self, device: DevDax, size: int) -> None:
        """Grow or shrink a device to so many bytes; of a dynamic region only."""
        raise NotImplementedError

    def add_range(self, device: DevDax, start: int, size: int) -> None:
        """Give a device a range; of a dynamic region only."""
        raise NotImplementedError

    def came_up(self, device: DevDax) -> None:
        """A driver has taken a device into service."""

    def device_gone(self, device: DevDax) -> None:
        """A device is unregistered."""


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
