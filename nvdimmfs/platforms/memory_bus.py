"""Buses of memory without DIMMs that a device announces by itself: virtio-pmem and a device tree."""

from __future__ import annotations

from nvdimmfs.core.device import Device
from nvdimmfs.core.device_tree import DeviceTreeNode
from nvdimmfs.core.module import Module
from nvdimmfs.machine_file import model
from nvdimmfs.media.base import range_medium
from nvdimmfs.nd.bus import NdLayer, NvdimmBus
from nvdimmfs.nd.poison import poison
from nvdimmfs.nd.region import RegionDescription, RegionDevice
from nvdimmfs.platforms.storage import Storage


def add_memory_bus(
    layer: NdLayer,
    parent: Device,
    module: Module,
    storage: Storage,
    table: model.BusDescription,
    of_node: DeviceTreeNode | None = None,
) -> None:
    """Register a bus with a region for each range of a table; the unbind of the parent unregisters them.

    The regions have neither DIMMs nor flush hints, so no attribute `deep_flush`; their raw namespaces are mapped with
    struct pages (ND_REGION_PAGEMAP).

    Args:
        layer: what all nvdimm buses share.
        parent: the device that announces the memory.
        module: the module of its driver.
        storage: the bytes of the memory.
        table: the provider and the ranges.
        of_node: the node of a device tree that describes the memory; None without one.
    """
    bus = NvdimmBus(layer, parent, table.provider, module)
    bus.of_node = of_node
    bus.add()
    parent.manage(bus.unregister)
    for range_ in table.ranges:
        description = RegionDescription(
            start=range_.start,
            size=range_.size,
            media=storage.media(range_.start, range_.size),
            page_mapped=True,
            volatile=range_.kind.is_volatile,
            numa_node=range_.numa_node,
            target_node=range_.target_node,
        )
        region = RegionDevice(bus, layer.region_numbers.allocate(), description)
        region.of_node = of_node
        region.read_only = range_.read_only
        poison(region, parent.system.faults.bad_sectors(range_medium(region.start, region.size)))
        region.add()
