"""Legacy persistent memory: ranges that memmap= declares, announced by the platform device e820_pmem."""

from __future__ import annotations

from nvdimmfs.core.device import Device
from nvdimmfs.core.driver import Driver
from nvdimmfs.core.module import Module
from nvdimmfs.mm.nodes import NUMA_NO_NODE
from nvdimmfs.mm.resource import Resource, ResourceDescriptor, ResourceFlag
from nvdimmfs.nd.bus import NdLayer, NvdimmBus
from nvdimmfs.nd.region import RegionDescription
from nvdimmfs.platforms.memory_bus import add_plain_bus, add_plain_region
from nvdimmfs.platforms.platform_bus import PlatformBus, PlatformDevice
from nvdimmfs.platforms.storage import Storage


class E820PmemDriver(Driver):
    """e820_pmem: registers an nvdimm bus with a region for each range."""

    name = "e820_pmem"

    def __init__(self, bus: PlatformBus, module: Module, layer: NdLayer, storage: Storage) -> None:
        self._layer = layer
        self._storage = storage
        super().__init__(bus, module)

    def matches(self, device: Device) -> bool:
        return isinstance(device, PlatformDevice) and device.suits(self.name)

    def probe(self, device: Device) -> None:
        """Register one root device, and a region for each legacy range in address order."""
        nvdimm_bus = add_plain_bus(self._layer, device, self.module, "e820")
        rules = self.system.kernel.devices
        for resource in legacy_ranges(self._layer.memory.iomem, nested=rules.legacy_ranges_are_nested):
            self._add_region(nvdimm_bus, resource)

    def _add_region(self, nvdimm_bus: NvdimmBus, resource: Resource) -> None:
        media = self._storage.media(resource.start, resource.size)
        memory = self._layer.memory
        near = target = NUMA_NO_NODE
        if self.system.kernel.devices.legacy_has_node:
            target = memory.nodes.node_of(resource.start)
            near = memory.nodes.nearest(target, memory.zones)
        description = RegionDescription(
            resource.start, resource.size, media, page_mapped=True, numa_node=near, target_node=target
        )
        add_plain_region(nvdimm_bus, description)


def legacy_ranges(iomem: Resource, *, nested: bool = True) -> list[Resource]:
    """The ranges that memmap= declared, in address order, at any depth of the resource tree.

    Without `nested`, only those at the top level.
    """
    found = iomem.matching(ResourceFlag.MEM, ResourceDescriptor.PERSISTENT_MEMORY_LEGACY)
    return [resource for resource in found if nested or resource.parent is iomem]
