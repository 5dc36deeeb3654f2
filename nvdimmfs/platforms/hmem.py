"""Memory that firmware reserves: devices hmem.N, and the driver that registers them on the dax bus.

drivers/dax/hmem, Linux 6.1 and 6.12.
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
        start, size: the range, bytes.
        node: the node of its memory.
    """

    def __init__(self, bus: PlatformBus, number: int, start: int, size: int, node: int) -> None:
        super().__init__(bus, "hmem", number, numa_node=node)
        self.id = number
        self.start = start
        self.size = size
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
        start, size = device.start, device.size
        media = self._storage.media(start, size)
        region = DynamicDaxRegion(self._layer, device, device.id, start, size, ALIGN, device.node, media)
        is_idle = self.module.switched.get("region_idle", False)
        region.is_for_kmem = device.system.kernel.devices.hmem_is_for_kmem and not is_idle
        region.create(0 if is_idle else size)

    def remove(self, device: Device) -> None:
        """Unregister all devices, in use or not."""
        for child in list(device.children):
            child.unregister()


class HmemPlatformDriver(Driver):
    """hmem_platform: makes a device hmem.N of each soft reserved range (dax_hmem_platform_probe, Linux 6.12)."""

    name = "hmem_platform"

    def __init__(self, bus: PlatformBus, module: Module, memory: Memory, numbering: Numbering) -> None:
        """`memory`, `numbering`: as of `announce_soft_reserved`."""
        self._platform_bus = bus
        self._memory = memory
        self._numbering = numbering
        super().__init__(bus, module)

    def matches(self, device: Device) -> bool:
        return isinstance(device, PlatformDevice) and device.suits(self.name)

    def probe(self, device: Device) -> None:
        for found in _soft_reserved(self._memory):
            number = self._numbering.allocate()
            device.manage(self._numbering.free, number)
            hmem = _device(self._platform_bus, self._memory, number, found)
            hmem.add()
            device.manage(hmem.unregister)


def announce_soft_reserved(bus: PlatformBus, memory: Memory, numbering: Numbering) -> None:
    """Announce soft reserved memory at boot: a device for each range (hmem_init), or since 6.6 one for all of them.

    Args:
        bus: the platform bus.
        memory: the machine's physical memory.
        numbering: the ids of memory regions, shared with the nvdimm bus.
    """
    found = _soft_reserved(memory)
    if memory.kernel.devices.hmem_has_platform_device:
        if found:
            PlatformDevice(bus, HmemPlatformDriver.name, 0).add()
        return
    for soft_reserved in found:
        number = numbering.allocate()
        memory.iomem.insert(
            Resource(
                f"hmem.{number}",
                soft_reserved.start,
                soft_reserved.end,
                ResourceFlag.MEM,
                ResourceDescriptor.SOFT_RESERVED,
            )
        )
        _device(bus, memory, number, soft_reserved).add()


def _soft_reserved(memory: Memory) -> list[Resource]:
    return list(memory.iomem.matching(ResourceFlag.MEM, ResourceDescriptor.SOFT_RESERVED))


def _device(bus: PlatformBus, memory: Memory, number: int, found: Resource) -> HmemDevice:
    return HmemDevice(bus, number, found.start, found.size, memory.nodes.node_of(found.start))
