"""Dax regions from which user space cuts devices: memory that firmware has set aside (drivers/dax/bus.c, Linux 6.1)."""

from __future__ import annotations

import errno
from typing import Self

from nvdimmfs.core.attribute import AttributeGroup, attribute, write_only_attribute
from nvdimmfs.core.device import Device
from nvdimmfs.core.numbering import Numbering
from nvdimmfs.core.parse import line, parse_signed
from nvdimmfs.dax.device import DaxLayer, DevDax
from nvdimmfs.dax.region import DAX_REGION_GROUP, DaxRegion, RangeOwner
from nvdimmfs.errors import KernelError
from nvdimmfs.media.base import Media


class DynamicDaxRegion(DaxRegion):
    """A region whose devices come, go, grow and shrink.

    Attributes:
        seed: the first of the devices that were made and never bound since; None for none.
        youngest: the device that was made last; None once it is deleted.
    """

    is_dynamic = True

    def __init__(
        self, layer: DaxLayer, device: Device, number: int, start: int, size: int, align: int, node: int, media: Media
    ) -> None:
        """ENOMEM as for `DaxRegion`."""
        self.seed: DevDax | None = None
        self.youngest: DevDax | None = None
        self._layer = layer
        self._numbering = Numbering()
        super().__init__(device, number, start, size, align, node, media)

    @property
    def group(self) -> AttributeGroup[Self]:
        return DYNAMIC_REGION_GROUP

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

    def came_up(self, device: RangeOwner) -> None:
        """It is a seed no longer."""
        if self.seed is device:
            self.seed = None

    def device_gone(self, device: RangeOwner) -> None:
        """Its number is free, too."""
        super().device_gone(device)
        self._numbering.free(device.id)
        if self.seed is device:
            self.seed = None
        if self.youngest is device:
            self.youngest = None


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
