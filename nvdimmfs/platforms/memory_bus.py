"""Buses of memory without DIMMs and commands: those of memmap=, virtio-pmem and a device tree.

The regions have no flush hints, so no attribute `deep_flush`; their raw namespaces are mapped with struct pages
(ND_REGION_PAGEMAP).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvdimmfs.core.device import Device
from nvdimmfs.core.module import Module
from nvdimmfs.machine_file import model
from nvdimmfs.nd.bus import NdLayer, NvdimmBus
from nvdimmfs.nd.poison import poison_registered
from nvdimmfs.nd.region import RegionDescription, RegionDevice
from nvdimmfs.platforms.storage import Storage

if TYPE_CHECKING:  # loaded where there is a device tree
    from nvdimmfs.core.device_tree import DeviceTreeNode


def add_memory_bus(
    layer: NdLayer,
    parent: Device,
    module: Module,
    storage: Storage,
    table: model.BusDescription,
    of_node: DeviceTreeNode | None = None,
) -> None:
    """Register a bus with a region for each range of a table; the unbind of the parent unregisters them.

    Args:
        layer: what all nvdimm buses share.
        parent: the device that announces the memory.
        module: the module of its driver.
        storage: the bytes of the memory.
        table: the provider and the ranges.
        of_node: the node of a device tree that describes the memory; None without one.
    """
    bus = add_plain_bus(layer, parent, module, table.provider, of_node)
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
        add_plain_region(bus, description, read_only=range_.read_only)


def add_plain_bus(
    layer: NdLayer, parent: Device, module: Module, provider: str, of_node: DeviceTreeNode | None = None
) -> NvdimmBus:
    """Register a bus without regions; the unbind of the parent unregisters it.  Arguments as `add_memory_bus`."""
    bus = NvdimmBus(layer, parent, provider, module)
    bus.of_node = of_node
    bus.add()
    parent.manage(bus.unregister)
    return bus


def add_plain_region(bus: NvdimmBus, description: RegionDescription, *, read_only: bool = False) -> None:
    """Register a region of such a bus."""
    region = RegionDevice(bus, bus.layer.region_numbers.allocate(), description)
    region.of_node = bus.of_node
    region.read_only = read_only
    poison_registered(region)
    region.add()
