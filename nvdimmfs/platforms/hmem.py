"""Memory that firmware reserves: devices hmem.N, and the driver that registers them on the dax bus.

drivers/dax/hmem, Linux 6.1.
"""

from __future__ import annotations

from nvdimmfs.core.device import Device
from nvdimmfs.core.driver import Driver
from nvdimmfs.core.module import Module
from nvdimmfs.core.numbering import Numbering
from nvdimmfs.dax.device import DaxLayer
from nvdimmfs.dax.dynamic import DynamicDaxRegion
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.resource import Resource, ResourceDescriptor, ResourceFlag
from nvdimmfs.platforms.platform_bus import PlatformBus, PlatformDevice
from nvdimmfs.platforms.storage import Storage
from nvdimmfs.units import MIB

#: The default alignment of devices, bytes (PMD_SIZE).
ALIGN = 2 * MIB


class HmemDevice(PlatformDevice):
    """A platform device hmem.N: a range of soft reserved memory.

    Attributes:
        resource: its resource, the parent of the one that the memory map declares.
        node: the node of its memory.
    """

    def __init__(self, bus: PlatformBus, number: int, resource: Resource, node: int) -> None:
        super().__init__(bus, "hmem", number, numa_node=node)
        self.id = number
        self.resource = resource
        self.node = node


class HmemDriver(Driver):
    """hmem: makes a dax region of each, whose first device gets all of it, or nothing while region_idle is on."""

    name = "hmem"

    def __init__(self, bus: PlatformBus, module: Module, layer: DaxLayer, storage: Storage) -> None:
        self._layer = layer
        self._storage = storage
        super().__init__(bus, module)

    def matches(self, device: Device) -> bool:
        return isinstance(device, HmemDevice) and device.suits(self.name)

    def probe(self, device: Device) -> None:
        """ENOMEM when the range is not aligned to 2 MiB (dax_hmem_probe)."""
        assert isinstance(device, HmemDevice)
        start, size = device.resource.start, device.resource.size
        media = self._storage.media(start, size)
        region = DynamicDaxRegion(self._layer, device, device.id, start, size, ALIGN, device.node, media)
        region.create(0 if self.module.switched.get("region_idle") else size)

    def remove(self, device: Device) -> None:
        """Unregister all devices, in use or not."""
        for child in list(device.children):
            child.unregister()


def add_hmem_devices(bus: PlatformBus, memory: Memory, numbering: Numbering) -> None:
    """Announce each soft reserved range (hmem_init, hmem_register_device).

    Args:
        bus: the platform bus.
        memory: the machine's physical memory.
        numbering: the ids of memory regions, shared with the nvdimm bus.
    """
    found = list(memory.iomem.matching(ResourceFlag.MEM, ResourceDescriptor.SOFT_RESERVED))
    for soft_reserved in found:
        number = numbering.allocate()
        resource = Resource(
            f"hmem.{number}", soft_reserved.start, soft_reserved.end, ResourceFlag.MEM, ResourceDescriptor.SOFT_RESERVED
        )
        memory.iomem.insert(resource)
        HmemDevice(bus, number, resource, memory.nodes.node_of(resource.start)).add()
