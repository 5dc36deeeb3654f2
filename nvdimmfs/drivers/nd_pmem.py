"""The driver that makes a disk of a namespace: raw, through a BTT, or of the data after a pfn info block."""

from __future__ import annotations

import errno
from typing import Self

from nvdimmfs.block.badblocks import SECTOR_SIZE, new_badblocks
from nvdimmfs.block.disk import BlockLayer, Disk, Geometry, badblocks
from nvdimmfs.block.queue_limits import QueueLimits
from nvdimmfs.core.attribute import AttributeGroup, attribute, truth_value
from nvdimmfs.core.device import Device
from nvdimmfs.core.driver import Bus
from nvdimmfs.core.module import Module
from nvdimmfs.drivers.btt import Btt, BttConfig
from nvdimmfs.drivers.btt_debugfs import show_arenas
from nvdimmfs.drivers.pagemap import map_pages, pfn_pagemap, raw_pagemap
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.btt import DEFAULT_NFREE
from nvdimmfs.formats.info_block import INFO_BLOCK_SIZE
from nvdimmfs.kernfs import Directory
from nvdimmfs.media.base import MediaWindow
from nvdimmfs.nd.btt import BttDevice, btt_version
from nvdimmfs.nd.clear_error import clear_poison
from nvdimmfs.nd.device import DeviceType, NdDevice
from nvdimmfs.nd.driver import NdDriver
from nvdimmfs.nd.namespace import NamespaceDevice
from nvdimmfs.nd.namespace_io import NamespaceBadblocks
from nvdimmfs.nd.pfn import PfnDevice
from nvdimmfs.nd.probe import common_probe, detect, require_info_blocks, reserve
from nvdimmfs.nd.region import RegionDevice
from nvdimmfs.traces.effects import InfoBlockWritten
from nvdimmfs.units import PAGE_SIZE, Range

#: The limits that the driver declares, by whether the memory is mapped with struct page, the bytes of a sector, and
#: whether the region has flush hints.
_LIMITS = {
    (dax, sector, fua): QueueLimits(
        logical_block_size=sector, physical_block_size=PAGE_SIZE, dax=dax, write_cache=True, fua=fua
    )
    for dax in (False, True)
    for sector in (SECTOR_SIZE, PAGE_SIZE)
    for fua in (False, True)
}


class NamespaceDisk(Disk):
    """A disk that the driver makes of a namespace."""

    def revalidate_poison(self) -> None:
        """Add the bad ranges that the bus has learned of."""
        raise NotImplementedError


class PmemDisk(NamespaceDisk):
    """A disk over the memory itself, which user space can map."""

    data: MediaWindow

    def __init__(
        self,
        layer: BlockLayer,
        parent: NdDevice,
        namespace: NamespaceDevice,
        data: Range,
        *,
        page_mapped: bool,
    ) -> None:
        """`data`: the physical addresses of the part of the namespace that the disk consists of."""
        window = namespace.window(data.start, data.size)
        badblocks = new_badblocks(layer.system.kernel)
        limits = _LIMITS[page_mapped, namespace.logical_block_size, namespace.region.has_flush_hints]
        super().__init__(layer, namespace.disk_name, parent, window, limits, badblocks)
        self.cache_flushed = namespace.region.has_cache
        self._nvdimm_bus = namespace.region.parent
        self._addresses = data
        self.populate_badblocks()

    @property
    def begins_blank(self) -> bool:
        return self.data.is_blank(0, PAGE_SIZE)

    def populate_badblocks(self) -> None:
        """Add the bad ranges that the bus knows."""
        assert self.badblocks is not None, "it has a list"
        self._nvdimm_bus.badrange.populate(self.badblocks, self._addresses.start, self._addresses.end)

    def clear_badblocks(self, sector: int, count: int) -> None:
        """Have the platform clear the sectors (pmem_clear_poison, Linux 6.1).  EIO when some stay bad."""
        length = count * SECTOR_SIZE
        try:
            cleared = clear_poison(self._nvdimm_bus, self._addresses.start + sector * SECTOR_SIZE, length)
        except KernelError as refusal:
            raise KernelError(errno.EIO, f"{self.name}: bad blocks stay: {refusal}") from None
        super().clear_badblocks(sector, cleared // SECTOR_SIZE)
        self._notify_badblocks()
        if cleared < length:
            raise KernelError(errno.EIO, f"{self.name}: some bad blocks stay")

    def revalidate_poison(self) -> None:
        """Add the bad ranges that the bus has learned of, and wake the pollers of the list."""
        with self.finding_badblocks():
            self.populate_badblocks()
        self._notify_badblocks()

    def _notify_badblocks(self) -> None:
        if badblocks.exists_in(self.system.kernel):
            self.notify(badblocks.name)

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (*super().groups(), DAX_GROUP)


class BttDisk(NamespaceDisk):
    """A disk over translated sectors, which keeps no list of bad blocks itself: the I/O of its BTT has one."""

    def __init__(
        self, layer: BlockLayer, name: str, btt: BttDevice, data: Btt, limits: QueueLimits, known: NamespaceBadblocks
    ) -> None:
        """`known`: the bad sectors of which the BTT's I/O knows."""
        super().__init__(layer, name, btt, data, limits, None)
        self._known = known

    @property
    def geometry(self) -> Geometry:
        """64 heads and 32 sectors, whatever the size (btt_getgeo, drivers/nvdimm/btt.c, Linux 6.1)."""
        heads, sectors = 64, 32
        return Geometry(heads, sectors, self.sectors // (heads * sectors))

    def revalidate_poison(self) -> None:
        self._known.populate()


@attribute("write_cache")
def write_cache(disk: PmemDisk) -> str:
    """1 when a flush writes the processor's caches back, else 0."""
    return f"{int(disk.cache_flushed)}\n"


@write_cache.on_store
def _store_write_cache(disk: PmemDisk, data: bytes) -> None:
    """EINVAL for anything but a truth value."""
    disk.cache_flushed = truth_value(disk, data)


DAX_GROUP: AttributeGroup[PmemDisk] = AttributeGroup((write_cache,), name="dax", since="4.13")


class NdPmemDriver(NdDriver):
    """nd_pmem: namespaces, and the btt and pfn devices that claim them."""

    name = "nd_pmem"
    device_types = frozenset({DeviceType.NAMESPACE_IO, DeviceType.NAMESPACE_PMEM})

    def __init__(self, bus: Bus, module: Module, layer: BlockLayer, btt_folder: Directory) -> None:
        """`btt_folder`: the folder of BTTs in debugfs."""
        self._layer = layer
        self._btt_folder = btt_folder
        self._disks: dict[NdDevice, NamespaceDisk] = {}
        super().__init__(bus, module)

    def probe(self, device: Device) -> None:
        """Errors as `nd.probe.common_probe`, then as the device's kind has them (nd_pmem_probe, Linux 6.1)."""
        namespace = common_probe(device)
        if isinstance(device, BttDevice):
            self._attach_btt(device, namespace)
        elif isinstance(device, PfnDevice):
            self._attach_pfn(device, namespace)
        else:
            self._attach_namespace(namespace)

    def revalidate_poison(self, device: NdDevice) -> None:
        """Update the list of the device's disk or BTT."""
        self._disks[device].revalidate_poison()

    def revalidate_region(self, device: NdDevice) -> None:
        """Make the disk read-only or writable, like its region."""
        self._disks[device].set_read_only(_region_of(device).read_only)

    def _attach_namespace(self, namespace: NamespaceDevice) -> None:
        """Make a plain disk, unless an info block is found.

        ENXIO: a personality was found, and will be registered.  EOPNOTSUPP: one was found that does not fit.
        """
        if not namespace.begins_blank:  # else `reserve` refuses what `require_info_blocks` would
            require_info_blocks(namespace)
            if found := detect(namespace):
                raise KernelError(errno.ENXIO, f"{namespace.name} holds a {found.kind} info block")
        reserve(namespace, namespace, namespace.size)
        if namespace.page_mapped:
            map_pages(namespace, namespace.region.driver_memory, raw_pagemap(namespace), namespace.numa_node)
        whole = Range.sized(namespace.start, namespace.size)
        disk = PmemDisk(self._layer, namespace, namespace, whole, page_mapped=namespace.page_mapped)
        self._add_disk(namespace, disk)

    def _attach_pfn(self, pfn: PfnDevice, namespace: NamespaceDevice) -> None:
        """Make a disk over the data after the info block; errors as `PageMapPersonality.set_up` and `map_pages`.

        Linux 4.5 does not check that there is room for data, and makes a disk of 16 EiB whose readers crash; here this
        is ENXIO, as in the kernels that check.
        """
        require_info_blocks(namespace)
        layout = pfn.set_up()
        pagemap = pfn_pagemap(pfn, layout)
        reserve(pfn, namespace, namespace.size)
        map_pages(pfn, namespace.region.driver_memory, pagemap, pfn.numa_node)
        if layout.data_size < 0:
            raise KernelError(errno.ENXIO, f"{namespace.name} has no room for data")
        parent = namespace if self.system.kernel.disks.pfn_disk_below_namespace else pfn
        self._add_disk(pfn, PmemDisk(self._layer, parent, namespace, layout.data, page_mapped=True))

    def _attach_btt(self, btt: BttDevice, namespace: NamespaceDevice) -> None:
        """Make a disk over the translated sectors.

        ENODEV without uuid or sector size; EBUSY; ENXIO below 16 MiB of arena; ENOMEM for any error in the layout
        on media.
        """
        if btt.uuid is None or not btt.sector_size:
            raise KernelError(errno.ENODEV, f"{btt.name} has no uuid or no sector size")
        reserve(btt, namespace, namespace.size)
        config = BttConfig(
            uuid=btt.uuid,
            lbasize=btt.sector_size,
            parent_uuid=namespace.parent_uuid,
            version=btt_version(namespace),
            read_only=btt.region.read_only,
            lanes=DEFAULT_NFREE if btt.system.kernel.devices.btt_counts_lanes else 0,
        )
        badblocks = NamespaceBadblocks(namespace)
        data = Btt.attach(namespace.media, config, badblocks)
        _report_info_blocks(btt, namespace, data)
        btt.size = data.size
        tag_size = btt.sector_size - data.sector_size
        limits = QueueLimits(
            logical_block_size=data.sector_size,
            physical_block_size=data.sector_size,
            tag_size=tag_size,
            max_integrity_segments=int(tag_size > 0 or self.system.kernel.disks.btt_has_integrity_segment),
        )
        self._add_disk(btt, BttDisk(self._layer, namespace.disk_name, btt, data, limits, badblocks))
        show_arenas(self._btt_folder, btt.name, data, self.system.kernel)
        btt.manage(lambda: self._btt_folder.remove(btt.name))

    def _add_disk(self, device: NdDevice, disk: NamespaceDisk) -> None:
        disk.add()
        disk.set_read_only(_region_of(device).read_only)
        self._disks[device] = disk
        device.manage(_remove_disk, self._disks, device)


def _remove_disk(disks: dict[NdDevice, NamespaceDisk], device: NdDevice) -> None:
    disks.pop(device).unregister()


def _report_info_blocks(btt: BttDevice, namespace: NamespaceDevice, data: Btt) -> None:
    """Report the info blocks of a new BTT to the trace: two for each arena, in the order in which they were written."""
    trace = btt.system.trace
    if trace is None or not data.is_new:
        return
    for layout in data.layouts:
        for offset in (layout.info2off, layout.infooff):
            trace.report(InfoBlockWritten(btt.name, namespace.name, data.initial_offset + offset, INFO_BLOCK_SIZE))


def _region_of(device: NdDevice) -> RegionDevice:
    assert isinstance(device.parent, RegionDevice), "only a region's children are bound to this driver"
    return device.parent
