"""Devices on the dax bus, the regions that they are cut from, and their mappings."""

from __future__ import annotations

import errno
from typing import Self

from nvdimmfs.core.attribute import AttributeGroup, KernelAttribute, attribute
from nvdimmfs.core.device import Device, DeviceNumber
from nvdimmfs.core.numbering import Numbering
from nvdimmfs.core.system import System
from nvdimmfs.dax.bus import DaxBus
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import BinaryFile, Bytes
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.memremap import DevPagemap, PagemapState

#: Major number of daxX.Y; the kernel gives it out at boot, this is what the reference machine got.
DAX_MAJOR = 252


class DaxLayer:
    """What all dax devices share.

    Attributes:
        bus: the dax bus.
        memory: the machine's physical memory.
        minors: minor numbers of the character devices.
    """

    def __init__(self, system: System, memory: Memory) -> None:
        self.bus = DaxBus(system)
        self.memory = memory
        self.minors = Numbering()


class DaxRegion:
    """The range that a provider hands to the dax bus, shown as dax_region/ below the provider's device.

    Attributes:
        device: the provider's device.
        id: the X of daxX.Y.
        start, size: the range of data, bytes.
        align: what devices of this region are aligned to, bytes.
    """

    def __init__(self, device: Device, number: int, start: int, size: int, align: int, target_node: int) -> None:
        """ENOMEM when start or size is not a multiple of the alignment (alloc_dax_region, Linux 6.1)."""
        if start & (align - 1) or size & (align - 1):
            raise KernelError(errno.ENOMEM, f"{start:#x} and {size:#x} are no multiples of {align:#x}")
        self.system = device.system
        self.device = device
        self.id = number
        self.start = start
        self.size = size
        self.align = align
        self.target_node = target_node
        DAX_REGION_GROUP.create(device.directory, self)
        device.manage(lambda: DAX_REGION_GROUP.remove(device.directory))


@attribute("id")
def region_id(region: DaxRegion) -> str:
    """The X of daxX.Y."""
    return f"{region.id}\n"


@attribute("size")
def region_size(region: DaxRegion) -> str:
    """Bytes."""
    return f"{region.size}\n"


@attribute("align", 0o400)
def region_align(region: DaxRegion) -> str:
    """What the devices are aligned to, bytes."""
    return f"{region.align}\n"


#: A region of persistent memory is static: one device fills it, and the files to cut it up are not there.
DAX_REGION_GROUP: AttributeGroup[DaxRegion] = AttributeGroup((region_id, region_size, region_align), name="dax_region")


class DaxMapping(Device):
    """A physical range of a dax device."""

    def __init__(self, parent: DevDax) -> None:
        super().__init__(parent.system, "mapping0", parent)
        self.start = parent.region.start
        self.end = parent.region.start + parent.region.size - 1

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (MAPPING_GROUP,)


@attribute("start", 0o400)
def mapping_start(mapping: DaxMapping) -> str:
    """First physical address."""
    return f"{mapping.start:#x}\n"


@attribute("end", 0o400)
def mapping_end(mapping: DaxMapping) -> str:
    """Last physical address."""
    return f"{mapping.end:#x}\n"


@attribute("page_offset", 0o400)
def mapping_page_offset(_mapping: DaxMapping) -> str:
    """Where in the device the range stands, pages."""
    return "0x0\n"


MAPPING_GROUP: AttributeGroup[DaxMapping] = AttributeGroup((mapping_start, mapping_end, mapping_page_offset))


class DevDax(Device):
    """A device daxX.Y on the dax bus.

    Attributes:
        region: what it fills.
        pagemap: how it is mapped with struct page once bound.
        data: its bytes.
    """

    bus: DaxBus

    def __init__(self, layer: DaxLayer, region: DaxRegion, number: int, pagemap: DevPagemap, data: Bytes) -> None:
        super().__init__(region.system, f"dax{region.id}.{number}", region.device)
        self.bus = layer.bus
        self.layer = layer
        self.region = region
        self.pagemap = pagemap
        self.data = data
        self._minor = layer.minors.allocate()
        self.number = DeviceNumber("char", DAX_MAJOR, self._minor)

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (DEV_DAX_GROUP,)

    def uevent_variables(self) -> list[tuple[str, str]]:
        return [*super().uevent_variables(), ("MODALIAS", "dax:t0")]

    def add(self) -> None:
        super().add()
        self.system.dev.add(BinaryFile(self.name, 0o600, DevDaxBytes(self)))
        if not self.region.size:
            return
        mapping = DaxMapping(self)
        if self.system.settling:
            # Initialising the struct pages takes its time.  Who bound the driver has waited for it; of a device that
            # was found on media, the mapping appears some time after the device.
            self.system.finish_later(mapping.add)
        else:
            mapping.add()

    def unregister(self) -> None:
        for child in list(self.children):
            child.unregister()
        self.system.dev.remove(self.name)
        super().unregister()

    def release(self) -> None:
        self.layer.minors.free(self._minor)


class DevDaxBytes:
    """The device as a file; the kernel offers mmap only, here it can be read and written as well."""

    def __init__(self, device: DevDax) -> None:
        self._device = device

    @property
    def size(self) -> int:
        return self._device.data.size

    def read(self, offset: int, length: int) -> bytes:
        """ENXIO while device_dax is not bound."""
        return self._bound().read(offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """ENXIO while device_dax is not bound."""
        self._bound().write(offset, data)

    def flush(self) -> None:
        self._bound().flush()

    def _bound(self) -> Bytes:
        if self._device.pagemap.state is not PagemapState.LIVE:
            raise KernelError(errno.ENXIO, f"{self._device.name} is not mapped")
        return self._device.data


@attribute("modalias")
def modalias(_device: DevDax) -> str:
    """What modprobe needs to find a driver."""
    return "dax:t0\n"


@attribute("size")
def size(device: DevDax) -> str:
    """Bytes."""
    return f"{device.region.size}\n"


@attribute("align")
def align(device: DevDax) -> str:
    """What mappings of the device are aligned to, bytes."""
    return f"{device.region.align}\n"


@attribute("target_node")
def target_node(device: DevDax) -> str:
    """The node that the memory would form; hidden when there is none."""
    return f"{device.region.target_node}\n"


@attribute("numa_node")
def numa_node(device: DevDax) -> str:
    """The nearest node."""
    return f"{device.region.target_node}\n"


@attribute("resource", 0o400)
def resource(device: DevDax) -> str:
    """First physical address."""
    return f"{device.region.start:#x}\n"


def _visible(device: DevDax, candidate: KernelAttribute[DevDax]) -> int:
    if candidate is target_node and device.region.target_node < 0:
        return 0
    return candidate.permissions


DEV_DAX_GROUP: AttributeGroup[DevDax] = AttributeGroup(
    (modalias, size, align, target_node, numa_node, resource), visible=_visible
)
