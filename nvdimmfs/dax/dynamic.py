"""Dax regions in which user space creates devices: memory that firmware reserves (drivers/dax/bus.c, Linux 6.1)."""

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
    """A region whose devices are created, deleted and resized.

    Attributes:
        seed: the first device that user space created and that was never bound; None for none.
        youngest: the device that user space created last; None after it is deleted.
    """

    is_dynamic = True

    def __init__(
        self,
        layer: DaxLayer,
        device: Device,
        number: int,
        start: int,
        size: int,
        align: int,
        target_node: int,
        media: Media,
        numa_node: int,
    ) -> None:
        """ENOMEM as for `DaxRegion`."""
        self.seed: DevDax | None = None
        self.youngest: DevDax | None = None
        self._layer = layer
        self._numbering = Numbering()
        super().__init__(device, number, start, size, align, target_node, media, numa_node)

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
            raise KernelError(errno.ENXIO, f"there is no device {name}")
        if victim.driver or victim.size or not victim.id:
            raise KernelError(errno.EBUSY, f"{name} is in use, or is the first device")
        victim.unregister()

    def came_up(self, device: RangeOwner) -> None:
        """The device is no longer a seed."""
        if self.seed is device:
            self.seed = None

    def device_gone(self, device: RangeOwner) -> None:
        """Its ranges and its number are free."""
        super().device_gone(device)
        self._numbering.free(device.id)
        if self.seed is device:
            self.seed = None
        if self.youngest is device:
            self.youngest = None


@attribute("available_size")
def available_size(region: DynamicDaxRegion) -> str:
    """Free bytes."""
    return f"{region.available_size}\n"


@attribute("create")
def create(region: DynamicDaxRegion) -> str:
    """The device that was created last; empty after it is deleted."""
    return f"{region.youngest.name if region.youngest else ''}\n"


@create.on_store
def _store_create(region: DynamicDaxRegion, data: bytes) -> None:
    """1 creates an empty device.  EINVAL, ERANGE for anything else; ENOSPC without free space."""
    if parse_signed(data, bits=32) != 1:
        raise KernelError(errno.EINVAL, "only 1 is valid")
    if not region.available_size:
        raise KernelError(errno.ENOSPC, "no free space")
    device = region.create(0)
    region.seed = region.seed or device
    region.youngest = device


@attribute("seed")
def seed(region: DynamicDaxRegion) -> str:
    """The first device that was created and never bound; empty for none."""
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
