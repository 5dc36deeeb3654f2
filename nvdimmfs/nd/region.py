"""Regions: ranges of persistent memory, the seeds for what can be made of them."""

from __future__ import annotations

import enum
import errno
from typing import TYPE_CHECKING, Self

import attrs

from nvdimmfs.core.attribute import AttributeGroup, KernelAttribute, attribute
from nvdimmfs.core.numbering import Numbering
from nvdimmfs.core.parse import parse_bool, parse_unsigned
from nvdimmfs.errors import KernelError
from nvdimmfs.media.base import Media
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.units import PAGE_SIZE
from nvdimmfs.nd.device import ND_DEVICE_GROUP, NUMA_GROUP, DeviceType, NdDevice
from nvdimmfs.nd.driver import NdDriver

if TYPE_CHECKING:
    from nvdimmfs.nd.bus import NvdimmBus

#: Default alignment of what is allocated in a region (MEMREMAP_COMPAT_ALIGN_MAX, drivers/nvdimm/region_devs.c, 5.7).
DEFAULT_ALIGN = 16 << 20


class Kind(enum.StrEnum):
    """What a region has seeds for; the value is the prefix of the devices' names."""

    NAMESPACE = "namespace"
    BTT = "btt"
    PFN = "pfn"
    DAX = "dax"


@attrs.define
class RegionData:
    """What a bound region knows: namespaces that were registered, and those that were tried."""

    active: int
    count: int


class RegionDevice(NdDevice):
    """A range of system physical addresses.

    Attributes:
        id: the N of regionN, unique over all buses.
        start: first physical address.
        size: bytes.
        media: the bytes themselves.
        memory: the physical memory it lies in.
        page_mapped: raw namespaces are mapped with struct page (legacy platforms).
        mappings: how many DIMMs it is spread over.
        read_only: nothing may be written.
        align: what namespaces are allocated in multiples of, bytes.
        seeds: per kind, the device that user space configures next; None while the region is not bound.
        data: None while the region is not bound.
    """

    device_type = "nd_pmem"
    parent: NvdimmBus

    def __init__(
        self, bus_device: NvdimmBus, number: int, start: int, size: int, media: Media, *, page_mapped: bool, node: int
    ) -> None:
        super().__init__(bus_device.system, f"region{number}", bus_device)
        self.bus = bus_device.bus
        self.id = number
        self.start = start
        self.size = size
        self.media = media
        self.memory: Memory = bus_device.memory
        self.page_mapped = page_mapped
        self.mappings = 0
        self.read_only = False
        self.numa_node = node
        self.target_node = node
        self.align = _default_align(size, max(1, self.mappings))
        self.numbering = {kind: Numbering() for kind in Kind}
        self.seeds: dict[Kind, NdDevice | None] = dict.fromkeys(Kind)
        self.data: RegionData | None = None

    @property
    def modalias_type(self) -> DeviceType:
        return DeviceType.REGION_PMEM

    @property
    def nstype(self) -> DeviceType:
        """The type of the region's namespaces: without labels there is one, and it fills the region."""
        return DeviceType.NAMESPACE_IO

    @property
    def end(self) -> int:
        """Last physical address."""
        return self.start + self.size - 1

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (ND_DEVICE_GROUP, REGION_GROUP, NUMA_GROUP)

    def release(self) -> None:
        self.parent.region_numbering.free(self.id)


def _default_align(size: int, mappings: int) -> int:
    align = DEFAULT_ALIGN if size >= DEFAULT_ALIGN else PAGE_SIZE
    return align * mappings if align % mappings else align


@attribute("size")
def size(region: RegionDevice) -> str:
    """Bytes."""
    return f"{region.size}\n"


@attribute("align")
def align(region: RegionDevice) -> str:
    """What space is allocated in multiples of.  Since Linux 5.7."""
    return f"{region.align:#x}\n"


@align.on_store
def _store_align(region: RegionDevice, data: bytes) -> None:
    """EINVAL unless each DIMM's share is a power of two of at least a page and the whole fits the region."""
    value = parse_unsigned(data)
    share, remainder = divmod(value, max(1, region.mappings))
    if remainder or share < PAGE_SIZE or share & (share - 1) or value > region.size:
        raise KernelError(errno.EINVAL, f"{value} bytes cannot be an alignment")
    region.align = value


@attribute("nstype")
def nstype(region: RegionDevice) -> str:
    """The device type number of its namespaces."""
    return f"{region.nstype}\n"


@attribute("mappings")
def mappings(region: RegionDevice) -> str:
    """How many DIMMs the range is spread over; 0 on legacy platforms."""
    return f"{region.mappings}\n"


def _seed_attribute(kind: Kind) -> KernelAttribute[RegionDevice]:
    def show(region: RegionDevice) -> str:
        seed = region.seeds[kind]
        return f"{seed.name}\n" if seed else "\n"

    show.__doc__ = f"The {kind} that user space configures next; empty while the region is not bound."
    return KernelAttribute(f"{kind}_seed", 0o444, show, None)


@attribute("read_only")
def read_only(region: RegionDevice) -> str:
    """Whether writing is forbidden."""
    return f"{int(region.read_only)}\n"


@read_only.on_store
def _store_read_only(region: RegionDevice, data: bytes) -> None:
    """Takes effect on the children's disks at once.  EINVAL for anything but a truth value."""
    region.read_only = parse_bool(data)
    for child in region.children:
        if isinstance(child, NdDevice) and isinstance(child.driver, NdDriver):
            child.driver.revalidate_region(child)


@attribute("max_available_extent")
def max_available_extent(_region: RegionDevice) -> str:
    """The largest namespace that could be made now, bytes: none where no label can describe it.  Since Linux 4.20."""
    return "0\n"


@attribute("init_namespaces")
def init_namespaces(region: RegionDevice) -> str:
    """Namespaces registered and tried when the region was bound.  ENXIO while it is not bound."""
    if region.data is None:
        raise KernelError(errno.ENXIO, f"{region.name} is not bound")
    return f"{region.data.active}/{region.data.count}\n"


@attribute("badblocks")
def badblocks(region: RegionDevice) -> str:
    """Ranges of sectors that cannot be read, a line each.  ENXIO while the region is not bound.  Since Linux 4.15."""
    if region.driver is None:
        raise KernelError(errno.ENXIO, f"{region.name} is not bound")
    return ""


@attribute("resource", 0o400)
def resource(region: RegionDevice) -> str:
    """First physical address.  Since Linux 4.15."""
    return f"{region.start:#x}\n"


REGION_GROUP: AttributeGroup[RegionDevice] = AttributeGroup(
    (
        size,
        align,
        nstype,
        mappings,
        *map(_seed_attribute, Kind),
        read_only,
        max_available_extent,
        init_namespaces,
        badblocks,
        resource,
    )
)
