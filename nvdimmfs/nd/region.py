"""Regions: ranges of persistent memory with seeds for namespaces and personalities."""

from __future__ import annotations

import enum
import errno
from typing import Self

import attrs

from nvdimmfs.block.badblocks import new_badblocks
from nvdimmfs.core.attribute import AttributeGroup, KernelAttribute, attribute, truth_value
from nvdimmfs.core.numbering import Numbering
from nvdimmfs.core.parse import parse_unsigned
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.interleave import InterleaveSet
from nvdimmfs.media.base import Media, range_medium
from nvdimmfs.mm.buffers import Buffer, DriverMemory
from nvdimmfs.mm.memory import Memory
from nvdimmfs.nd.bus import NvdimmBus
from nvdimmfs.nd.device import ND_DEVICE_GROUP, DeviceType, NdDevice
from nvdimmfs.nd.dpa import DpaWindow
from nvdimmfs.nd.driver import NdDriver
from nvdimmfs.nd.mapping import Mapping
from nvdimmfs.units import PAGE_SIZE

#: Default alignment of namespaces in a region, bytes (MEMREMAP_COMPAT_ALIGN_MAX, drivers/nvdimm/region_devs.c, 5.7).
DEFAULT_ALIGN = 16 << 20


class SeedKind(enum.StrEnum):
    """The kinds of seeds of a region; the value is the prefix of the devices' names."""

    NAMESPACE = "namespace"
    BTT = "btt"
    PFN = "pfn"
    DAX = "dax"


@attrs.define
class RegionData:
    """The state of a bound region: the numbers of namespaces that were registered, and that were attempted."""

    active: int
    count: int


@attrs.frozen
class RegionDescription:
    """The properties of a region with which a platform registers it.

    Attributes:
        start: first physical address.
        size: bytes.
        media: its bytes.
        mappings: the DIMMs that it is interleaved over, by position; none on legacy platforms.
        interleave_set: identifies the labels of this region on its DIMMs; None without one.
        page_mapped: raw namespaces are mapped with struct page (legacy platforms).
        volatile: the memory is volatile.
        persistence_domain: `cpu_cache`, `memory_controller`, or None when the platform does not report it.
        numa_node: the nearest online node.
        target_node: the node that the memory would form.
        buffered: a buffer is behind the addresses instead of memory.
    """

    start: int
    size: int
    media: Media
    mappings: tuple[Mapping, ...] = ()
    interleave_set: InterleaveSet | None = None
    page_mapped: bool = False
    volatile: bool = False
    persistence_domain: str | None = None
    numa_node: int = 0
    target_node: int = 0
    buffered: bool = False


class RegionDevice(NdDevice):
    """A range of system physical addresses.

    Attributes:
        id: the N of regionN, unique over all buses.
        description: the properties with which it was registered.
        start, size, media, mappings, page_mapped: as described.
        memory: the machine's physical memory.
        driver_memory: what drivers reserve and map.
        badblocks: the known bad sectors of 512 bytes since the region was bound.
        read_only: writing is forbidden; initially so when a DIMM is not armed.
        align: the alignment of namespaces, bytes.
        seeds: per kind, the device that user space configures next; None while the region is not bound.
        data: None while the region is not bound.
    """

    parent: NvdimmBus

    def __init__(self, bus_device: NvdimmBus, number: int, description: RegionDescription) -> None:
        super().__init__(bus_device.system, f"region{number}", bus_device)
        self.bus = bus_device.bus
        self.id = number
        self.description = description
        self.device_type = "nd_volatile" if description.volatile else "nd_pmem"
        self.start = description.start
        self.size = description.size
        self.media = description.media
        self.system.faults.aliases[self.name] = range_medium(self.start, self.size)
        self.mappings = description.mappings
        self.memory: Memory = bus_device.memory
        self.driver_memory: DriverMemory = Buffer(self.start, self.size) if description.buffered else self.memory
        self.page_mapped = description.page_mapped
        self.badblocks = new_badblocks(self.system.kernel)
        self.read_only = any(mapping.dimm.unarmed for mapping in self.mappings)
        self.numa_node = description.numa_node
        self.target_node = description.target_node
        self.align = _default_align(self.size, max(1, len(self.mappings)))
        self.numbering = {kind: Numbering() for kind in SeedKind}
        self.seeds: dict[SeedKind, NdDevice | None] = dict.fromkeys(SeedKind)
        self.data: RegionData | None = None

    @property
    def modalias_type(self) -> DeviceType:
        return DeviceType.REGION_PMEM

    @property
    def nstype(self) -> DeviceType:
        """The type of the region's namespaces: labels divide the region; without labels, one namespace fills it."""
        for mapping in self.mappings:  # read at each probe
            if mapping.dimm.labeling:
                return DeviceType.NAMESPACE_PMEM
        return DeviceType.NAMESPACE_IO

    @property
    def has_cache(self) -> bool:
        """Whether what is stored can be lost in a processor's cache (nvdimm_has_cache, region_devs.c, Linux 6.1)."""
        return not self.description.volatile and self.description.persistence_domain != "cpu_cache"

    @property
    def has_flush_hints(self) -> bool:
        """Whether a DIMM has addresses that flush the memory controller's buffers (nvdimm_has_flush, Linux 6.1)."""
        return any(mapping.dimm.flush_hints for mapping in self.mappings)

    @property
    def end(self) -> int:
        """Last physical address."""
        return self.start + self.size - 1

    @property
    def shows_node(self) -> bool:
        return not self.page_mapped or self.system.kernel.devices.legacy_shows_node

    def window(self, mapping: Mapping) -> DpaWindow:
        """A DIMM's part of the region."""
        return DpaWindow(mapping.start, mapping.size, self.align // len(self.mappings))

    def allocatable(self) -> int:
        """Bytes of the largest namespace that can be created now (nd_region_allocatable_dpa, Linux 6.1)."""
        least = 0
        for mapping in self.mappings:
            data = mapping.dimm.data
            extent = data.dpa.largest_extent(self.window(mapping)) if data else 0
            least = min_not_zero(least, extent)
        return least * len(self.mappings)

    def reset_badblocks(self) -> None:
        """Start a new list from the bad ranges that the bus knows."""
        self.badblocks = new_badblocks(self.system.kernel)
        self.parent.badrange.populate(self.badblocks, self.start, self.end)

    def revalidate_poison(self) -> None:
        """Add the bad ranges that the bus has learned of, here and in the bound children (nd_region_notify)."""
        if self.driver is None:
            return
        self.parent.badrange.populate(self.badblocks, self.start, self.end)
        self.notify_badblocks()
        for child in self.children:
            if isinstance(child, NdDevice) and isinstance(child.driver, NdDriver):
                child.driver.revalidate_poison(child)

    def notify_badblocks(self) -> None:
        """Wake the pollers of `badblocks`, if the region is bound."""
        if self.driver and badblocks.exists_in(self.system.kernel):
            self.notify(badblocks.name)

    def conflicts(self, start: int, size: int) -> bool:
        """Whether a range of addresses overlaps another region of the bus (nd_region_conflict, Linux 5.2)."""
        others = (child for child in self.parent.children if isinstance(child, RegionDevice) and child is not self)
        return any(other.start < start + size and start <= other.end for other in others)

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (ND_DEVICE_GROUP, REGION_GROUP, *self.numa_groups, MAPPING_GROUP)

    def release(self) -> None:
        self.parent.layer.region_numbers.free(self.id)


def min_not_zero(first: int, second: int) -> int:
    """The smaller of two numbers, or the other one when one is 0 (include/linux/minmax.h)."""
    return min(first, second) if first and second else first or second


def _default_align(size: int, mappings: int) -> int:
    align = DEFAULT_ALIGN if size >= DEFAULT_ALIGN else PAGE_SIZE
    return align * mappings if align % mappings else align


@attribute("size")
def size(region: RegionDevice) -> str:
    """Bytes."""
    return f"{region.size}\n"


@attribute("align", since="5.7")
def align(region: RegionDevice) -> str:
    """The alignment of namespaces, bytes, hexadecimal."""
    return f"{region.align:#x}\n"


@align.on_store
def _store_align(region: RegionDevice, data: bytes) -> None:
    """EINVAL, ERANGE for no number.

    EINVAL unless each DIMM's share is a power of two of at least a page, and the value at most the region's size.
    Before Linux 6.1, ENXIO for a region without DIMMs.
    """
    value = parse_unsigned(data)
    if not region.mappings and region.system.kernel.devices.align_needs_dimms:
        raise KernelError(errno.ENXIO, "the region has no DIMMs")
    share, remainder = divmod(value, max(1, len(region.mappings)))
    if remainder or share < PAGE_SIZE or share & (share - 1) or value > region.size:
        raise KernelError(errno.EINVAL, f"{value} bytes is not a valid alignment")
    region.align = value


@attribute("nstype")
def nstype(region: RegionDevice) -> str:
    """The device type of its namespaces: 4 without labels, 5 with labels."""
    return f"{region.nstype}\n"


@attribute("mappings")
def mappings(region: RegionDevice) -> str:
    """The number of DIMMs that the range is interleaved over; 0 on legacy platforms."""
    return f"{len(region.mappings)}\n"


def _seed_attribute(kind: SeedKind) -> KernelAttribute[RegionDevice]:
    def show(region: RegionDevice) -> str:
        seed = region.seeds[kind]
        return f"{seed.name}\n" if seed else "\n"

    what = f"{kind}{'' if kind is SeedKind.NAMESPACE else ' device'}"
    show.__doc__ = f"The {what} that user space configures next; empty while the region is not bound."
    return KernelAttribute(f"{kind}_seed", 0o444, show, None, since="4.9" if kind is SeedKind.DAX else None)


@attribute("read_only")
def read_only(region: RegionDevice) -> str:
    """1 when writing is forbidden, else 0."""
    return f"{int(region.read_only)}\n"


@read_only.on_store
def _store_read_only(region: RegionDevice, data: bytes) -> None:
    """Takes effect on the children's disks at once.  EINVAL for anything but a truth value."""
    region.read_only = truth_value(region, data)
    if not region.system.kernel.disks.read_only_reaches_disks:
        return
    for child in region.children:
        if isinstance(child, NdDevice) and isinstance(child.driver, NdDriver):
            child.driver.revalidate_region(child)


@attribute("set_cookie")
def set_cookie(region: RegionDevice) -> str:
    """The cookie in the labels of the interleave set, which depends on the labels' version."""
    cookies = region.description.interleave_set
    assert cookies is not None, "visible only with an interleave set"
    data = region.mappings[0].dimm.data if region.mappings else None
    first = data is None or data.labels.is_version_1_1
    return f"{cookies.cookie1 if first else cookies.cookie2:#x}\n"


@attribute("available_size")
def available_size(region: RegionDevice) -> str:
    """Bytes that no namespace owns; 0 while a DIMM is disabled."""
    available = 0
    for mapping in region.mappings:
        data = mapping.dimm.data
        if data is None:
            return "0\n"
        available += data.dpa.available(region.window(mapping))
    return f"{available}\n"


@attribute("max_available_extent", since="4.20")
def max_available_extent(region: RegionDevice) -> str:
    """Bytes of the largest namespace that can be created now; 0 without labels to describe it."""
    return f"{region.allocatable()}\n"


@attribute("deep_flush", since="4.15")
def deep_flush(region: RegionDevice) -> str:
    """1 when writing 1 flushes buffers of the memory controller, else 0."""
    return f"{int(region.has_flush_hints)}\n"


@deep_flush.on_store
def _store_deep_flush(region: RegionDevice, data: bytes) -> None:
    """Flush the buffers, without visible effect.  EINVAL for anything but a true value."""
    if not truth_value(region, data):
        raise KernelError(errno.EINVAL, "only 1 is valid")


@attribute("persistence_domain", since="4.15")
def persistence_domain(region: RegionDevice) -> str:
    """The point that data must reach to survive a power loss: `cpu_cache` or `memory_controller`."""
    return f"{region.description.persistence_domain or ''}\n"


@attribute("init_namespaces")
def init_namespaces(region: RegionDevice) -> str:
    """Namespaces registered and attempted when the region was bound, as `1/1`.  ENXIO while it is not bound."""
    if region.data is None:
        raise KernelError(errno.ENXIO, f"{region.name} is not bound")
    return f"{region.data.active}/{region.data.count}\n"


@attribute("badblocks", since="4.15")
def badblocks(region: RegionDevice) -> str:
    """Ranges of sectors that cannot be read, a line each.  ENXIO while the region is not bound."""
    if region.driver is None:
        raise KernelError(errno.ENXIO, f"{region.name} is not bound")
    return region.badblocks.show()


@attribute("resource", 0o400, since="4.15")
def resource(region: RegionDevice) -> str:
    """First physical address."""
    return f"{region.start:#x}\n"


def _region_visible(region: RegionDevice, candidate: KernelAttribute[RegionDevice]) -> int:
    """region_visible, drivers/nvdimm/region_devs.c, Linux 6.1."""
    if candidate is deep_flush:
        if not region.mappings:
            return 0
        return 0o644 if region.has_flush_hints else 0o444
    if candidate is persistence_domain:
        return candidate.permissions if region.description.persistence_domain else 0
    if candidate is available_size and region.nstype is DeviceType.NAMESPACE_PMEM:
        return candidate.permissions
    if candidate in (set_cookie, available_size):
        return candidate.permissions if region.description.interleave_set else 0
    return candidate.permissions


REGION_GROUP: AttributeGroup[RegionDevice] = AttributeGroup(
    (
        size,
        align,
        nstype,
        mappings,
        *map(_seed_attribute, SeedKind),
        read_only,
        set_cookie,
        available_size,
        max_available_extent,
        init_namespaces,
        badblocks,
        resource,
        deep_flush,
        persistence_domain,
    ),
    visible=_region_visible,
)

#: The most DIMMs of a region that have an attribute (REGION_MAPPING, drivers/nvdimm/region_devs.c, Linux 6.1).
MAX_MAPPINGS = 32


def _mapping_attribute(position: int) -> KernelAttribute[RegionDevice]:
    def show(region: RegionDevice) -> str:
        mapping = region.mappings[position]
        return f"{mapping.dimm.name},{mapping.start},{mapping.size},{mapping.position}\n"

    show.__doc__ = "A DIMM, the first address and the bytes on it, and its position in the interleave set, with commas."
    return KernelAttribute(f"mapping{position}", 0o444, show, None)


def _mapping_visible(region: RegionDevice, candidate: KernelAttribute[RegionDevice]) -> int:
    return candidate.permissions if candidate in _MAPPINGS[: len(region.mappings)] else 0


_MAPPINGS = tuple(map(_mapping_attribute, range(MAX_MAPPINGS)))
MAPPING_GROUP: AttributeGroup[RegionDevice] = AttributeGroup(_MAPPINGS, visible=_mapping_visible)
