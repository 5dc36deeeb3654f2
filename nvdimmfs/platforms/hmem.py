"""Memory that firmware reserves: devices hmem.N, and the driver that registers them on the dax bus.

drivers/dax/hmem, Linux 6.1 and 6.12.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from nvdimmfs.core.device import Device
from nvdimmfs.core.driver import Driver
from nvdimmfs.core.module import Module
from nvdimmfs.core.numbering import Numbering
from nvdimmfs.dax.device import DaxLayer
from nvdimmfs.dax.dynamic import DynamicDaxRegion
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.resource import Intersection, Resource, ResourceDescriptor, ResourceFlag
from nvdimmfs.platforms.platform_bus import PlatformBus, PlatformDevice
from nvdimmfs.platforms.storage import Storage
from nvdimmfs.units import MIB

#: The default alignment of devices, bytes (PMD_SIZE).
ALIGN = 2 * MIB


@attrs.frozen
class HmemRange:
    """A range of memory, and the node that it belongs to.

    Attributes:
        start, size: the range, bytes.
        node: the node (target_node).
    """

    start: int
    size: int
    node: int

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.start + self.size

    def contains(self, other: HmemRange) -> bool:
        """Whether all of another range is in this one."""
        return self.start <= other.start and other.end <= self.end


class HmemDevice(PlatformDevice):
    """A platform device hmem.N: a range of soft reserved memory.

    Attributes:
        range: the range.
        near: the nearest node that was online when the device was made.
    """

    def __init__(self, bus: PlatformBus, number: int, range_: HmemRange, near: int) -> None:
        super().__init__(bus, "hmem", number, numa_node=near)
        self.id = number
        self.range = range_
        self.near = near


class HmemPlatformDevice(PlatformDevice):
    """The platform device hmem_platform.0 of Linux 6.6 and later.

    Attributes:
        ranges: what was announced at boot, in address order (hmem_active, drivers/dax/hmem/device.c).
    """

    def __init__(self, bus: PlatformBus, ranges: Sequence[HmemRange]) -> None:
        super().__init__(bus, HmemPlatformDriver.name, 0)
        self.ranges = ranges


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
        start, size = device.range.start, device.range.size
        media = self._storage.media(start, size)
        region = DynamicDaxRegion(
            self._layer, device, device.id, start, size, ALIGN, device.range.node, media, device.near
        )
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
        return isinstance(device, HmemPlatformDevice) and device.suits(self.name)

    def probe(self, device: Device) -> None:
        assert isinstance(device, HmemPlatformDevice)
        for range_ in device.ranges:
            if not _is_soft_reserved(self._memory, range_):
                continue
            number = self._numbering.allocate()
            device.manage(self._numbering.free, number)
            hmem = _device(self._platform_bus, self._memory, number, range_)
            hmem.add()
            device.manage(hmem.unregister)


def announce_soft_reserved(
    bus: PlatformBus, memory: Memory, numbering: Numbering, targets: Sequence[HmemRange] = ()
) -> None:
    """Announce soft reserved memory at boot: a device for each range, or since 6.6 one for all of them.

    The memory of the SRAT comes first (hmat_register_target_devices): a range makes a device if all that it has is soft
    reserved.  Then come the soft reserved ranges themselves (hmem_init).

    Args:
        bus: the platform bus.
        memory: the machine's physical memory.
        numbering: the ids of memory regions, shared with the nvdimm bus.
        targets: the memory of the SRAT, node by node, if there is an HMAT.
    """
    if memory.kernel.devices.hmem_has_platform_device:
        ranges = _active([*targets, *_soft_reserved(memory)])
        if ranges:
            HmemPlatformDevice(bus, ranges).add()
        return
    registered = [target for target in targets if _is_soft_reserved(memory, target)]
    registered += [found for found in _soft_reserved(memory) if not any(each.contains(found) for each in registered)]
    for range_ in registered:
        _register(bus, memory, numbering, range_)


def _active(ranges: Iterable[HmemRange]) -> list[HmemRange]:
    """The ranges in address order, without those that overlap earlier ones (__hmem_register_resource, Linux 6.12)."""
    active: list[HmemRange] = []
    for range_ in ranges:
        if not any(other.start < range_.end and range_.start < other.end for other in active):
            active.append(range_)
    return sorted(active, key=lambda range_: range_.start)


def _register(bus: PlatformBus, memory: Memory, numbering: Numbering, range_: HmemRange) -> None:
    """Register a device of the kernels that have no hmem_platform (hmem_register_device, Linux 6.1)."""
    number = numbering.allocate()
    memory.iomem.insert(
        Resource(f"hmem.{number}", range_.start, range_.end - 1, ResourceFlag.MEM, ResourceDescriptor.SOFT_RESERVED)
    )
    _device(bus, memory, number, range_).add()


def _soft_reserved(memory: Memory) -> list[HmemRange]:
    found = memory.iomem.matching(ResourceFlag.MEM, ResourceDescriptor.SOFT_RESERVED)
    return [HmemRange(each.start, each.size, memory.nodes.node_of(each.start)) for each in found]


def _is_soft_reserved(memory: Memory, range_: HmemRange) -> bool:
    """Whether a range has soft reserved memory, and no other."""
    found = memory.iomem.intersects(range_.start, range_.size, ResourceFlag.MEM, ResourceDescriptor.SOFT_RESERVED)
    return found is Intersection.INTERSECTS


def _device(bus: PlatformBus, memory: Memory, number: int, range_: HmemRange) -> HmemDevice:
    return HmemDevice(bus, number, range_, memory.nodes.nearest(range_.node, memory.zones))
