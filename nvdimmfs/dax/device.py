"""Devices on the dax bus, and the mappings that show their ranges."""

from __future__ import annotations

import errno
from functools import partial
from typing import Self

from nvdimmfs.core.attribute import AttributeGroup, KernelAttribute, attribute, truth_value, write_only_attribute
from nvdimmfs.core.device import Class, Device
from nvdimmfs.core.device_number import dax_number
from nvdimmfs.core.numbering import Numbering
from nvdimmfs.core.parse import line, parse_unsigned
from nvdimmfs.core.system import System
from nvdimmfs.dax.bus import DaxBus, DaxBusDevice
from nvdimmfs.dax.memory import DevDaxBytes
from nvdimmfs.dax.region import DaxRange, DaxRegion
from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.durations import MEMMAP_INIT, WRITE
from nvdimmfs.kernels.races import FOUND_MEMMAP, Memmap
from nvdimmfs.kernfs import DeviceMemory
from nvdimmfs.mm.buffers import Buffer
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.memremap import DevPagemap
from nvdimmfs.units import ALIGNMENTS, MIB, SUBSECTION_SIZE, Range, pages

#: The smallest unit of ranges, bytes (memremap_compat_align, Linux 6.1).
GRANULARITY = SUBSECTION_SIZE

#: The smallest range with which MEMMAP_INIT was measured, bytes.
_MEASURED = 256 * MIB


class DaxLayer:
    """What all dax devices share.

    Attributes:
        bus: the dax bus.
        memory: the machine's physical memory.
        minors: minor numbers of the character devices.
    """

    def __init__(self, system: System, memory: Memory) -> None:
        self.bus = DaxBus(system)
        if system.kernel.devices.has_dax_class:
            Class(system, "dax")
        self.memory = memory
        self.minors = Numbering()


def _memmap_init(size: int) -> int:
    """Nanoseconds in which the memmap of a range is initialised."""
    return MEMMAP_INIT.nanoseconds * min(size, _MEASURED) // _MEASURED


class DaxMapping(Device):
    """A device mappingN, which shows a range of a dax device."""

    def __init__(self, parent: DevDax, shown: DaxRange) -> None:
        self.id = parent.mapping_numbering.allocate()
        super().__init__(parent.system, f"mapping{self.id}", parent)
        self.range = shown
        self._numbering = parent.mapping_numbering

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (MAPPING_GROUP,)

    def release(self) -> None:
        self._numbering.free(self.id)


@attribute("start", 0o400)
def mapping_start(mapping: DaxMapping) -> str:
    """First physical address."""
    return f"{mapping.range.start:#x}\n"


@attribute("end", 0o400)
def mapping_end(mapping: DaxMapping) -> str:
    """Last physical address."""
    return f"{mapping.range.end - 1:#x}\n"


@attribute("page_offset", 0o400)
def mapping_page_offset(mapping: DaxMapping) -> str:
    """The offset of the range in the device, pages."""
    return f"{mapping.range.page_offset:#x}\n"


MAPPING_GROUP: AttributeGroup[DaxMapping] = AttributeGroup((mapping_start, mapping_end, mapping_page_offset))


class DevDax(DaxBusDevice):
    """A device daxX.Y on the dax bus.

    Attributes:
        region: the region that it is part of.
        id: the Y.
        ranges: the ranges that it consists of, in order.
        align: the alignment of its mappings, bytes.
        pagemap: its current or last page map; None before the first.
        mapping_numbering: the N of mappingN.
        memory: its file in /dev, through which its memory is mapped.
        alive: whether device_dax is bound, so that its node can be opened.
    """

    alive: bool = False

    bus: DaxBus

    def __init__(self, layer: DaxLayer, region: DaxRegion, number: int, pagemap: DevPagemap | None = None) -> None:
        """`pagemap`: that of a static region, all of which the device gets; None: the device is empty."""
        super().__init__(region.system, f"dax{region.id}.{number}", region.device)
        self.bus = layer.bus
        self.layer = layer
        self.region = region
        self.id = number
        self.align = region.align
        self.ranges: list[DaxRange] = []
        self.pagemap = pagemap
        self.mapping_numbering = Numbering()
        if pagemap:
            region.add_range(self, region.start, region.size)
        self.memory = DeviceMemory(self.name, 0o600, DevDaxBytes(self))
        self._minor = layer.minors.allocate()
        self.number = dax_number(self._minor)

    @property
    def size(self) -> int:
        return sum(each.size for each in self.ranges)

    @property
    def is_for_kmem(self) -> bool:
        return self.region.is_for_kmem

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (DEV_DAX_GROUP,)

    def uevent_variables(self) -> list[tuple[str, str]]:
        return [*super().uevent_variables(), ("MODALIAS", "dax:t0")]

    def page_map(self) -> DevPagemap:
        """The page map to register: the provider's, or else one of all ranges, with the memmap in RAM."""
        if self.pagemap is None or self.region.is_dynamic:
            self.pagemap = DevPagemap(
                tuple(Range.sized(each.start, each.size) for each in self.ranges), owner=self.name
            )
        return self.pagemap

    def kill(self) -> None:
        """The driver goes (kill_dev_dax)."""
        self.alive = False

    def came_up(self) -> None:
        self.region.came_up(self)

    def add(self) -> None:
        super().add()
        self.system.dev.add(self.memory)
        for each in self.ranges:
            if self.system.settling and not isinstance(self.region.memory, Buffer):
                # A process that binds the driver waits until the memmap is initialised.  For a device that was found on
                # media no process waits, and its mapping appears some time after the device.  Buffers have no memmap.
                self._show_initialised(each)
            else:
                self.show(each)

    def _show_initialised(self, shown: DaxRange) -> None:
        """Register the mapping of a range when its memmap is initialised, which for a small one is soon."""
        delay = _memmap_init(shown.size)
        if delay > WRITE.nanoseconds and self.system.outcome(FOUND_MEMMAP) is Memmap.READY:
            self.show(shown)
            return
        self.system.clock.schedule(delay, partial(self._show_if_there, shown), MEMMAP_INIT.what)

    def append(self, start: int, size: int) -> None:
        """Append a range."""
        new = DaxRange(start, size, pages(self.size))
        self.ranges.append(new)
        if self.registered:
            self.show(new)

    def drop_last(self) -> None:
        """Remove the last range."""
        mapping = self.ranges.pop().mapping
        if mapping:
            mapping.unregister()

    def show(self, shown: DaxRange) -> None:
        """Register the mapping of a range."""
        shown.mapping = DaxMapping(self, shown)
        shown.mapping.add()

    def _show_if_there(self, shown: DaxRange) -> None:
        """Register the mapping of a range, unless the device or the range was removed meanwhile."""
        if self.registered and shown in self.ranges:
            self.show(shown)

    def allows_size(self, size: int) -> bool:
        """Whether a size in bytes is a multiple of the alignment (alloc_is_aligned, drivers/dax/bus.c, Linux 6.1)."""
        return size % max(self.align, GRANULARITY) == 0

    def unregister(self) -> None:
        for child in list(self.children):
            child.unregister()
        self.system.dev.remove(self.name)
        super().unregister()

    def release(self) -> None:
        self.layer.minors.free(self._minor)
        self.region.device_gone(self)


@attribute("modalias")
def modalias(_device: DevDax) -> str:
    """The alias by which modprobe finds a driver: `dax:t0`."""
    return "dax:t0\n"


@attribute("size")
def size(device: DevDax) -> str:
    """Bytes."""
    return f"{device.size}\n"


@size.on_store
def _store_size(device: DevDax, data: bytes) -> None:
    """Grow into free space, first fit, or shrink from the end.

    EINVAL, ERANGE for no number; EINVAL when it is not a multiple of the alignment; EBUSY while bound; ENOSPC.
    """
    wanted = parse_unsigned(data)
    if not device.allows_size(wanted):
        raise KernelError(errno.EINVAL, f"{wanted} is not aligned")
    device.region.resize(device, wanted)
    device.memory.revoke()


@write_only_attribute("mapping")
def mapping(device: DevDax, data: bytes) -> None:
    """Add a range, START-END in hexadecimal.

    EINVAL, ERANGE for anything else; ENXIO, or in Linux 6.12 nothing, when its length is not aligned; ENOMEM when it
    is not free; EBUSY for an empty range when the device has memory.
    """
    start, dash, end = line(data).partition("-")
    if not dash:
        raise KernelError(errno.EINVAL, "a range is START-END")
    first, last = (parse_unsigned(text.encode("latin-1"), base=16) for text in (start, end))
    if not device.allows_size(last + 1 - first):
        if device.system.kernel.devices.mapping_ignores_unaligned:
            return
        raise KernelError(errno.ENXIO, f"{last + 1 - first} is not aligned")
    device.region.add_range(device, first, last + 1 - first)
    device.memory.revoke()


@attribute("align")
def align(device: DevDax) -> str:
    """The alignment of mappings of the device, bytes."""
    return f"{device.align}\n"


@align.on_store
def _store_align(device: DevDax, data: bytes) -> None:
    """ENXIO for no number, EINVAL for one that is not a page size or does not divide a range, EBUSY while bound."""
    try:
        wanted = parse_unsigned(data)
    except KernelError:
        raise KernelError(errno.ENXIO, "not a number") from None
    if wanted not in ALIGNMENTS:
        raise KernelError(errno.EINVAL, f"{wanted} is not one of {ALIGNMENTS}")
    if device.driver:
        raise KernelError(errno.EBUSY, f"{device.name} is bound to {device.driver.name}")
    if any(each.size % max(wanted, GRANULARITY) for each in device.ranges):
        raise KernelError(errno.EINVAL, f"a range of {device.name} is not a multiple of {wanted}")
    device.align = wanted


@attribute("target_node")
def target_node(device: DevDax) -> str:
    """The node that the memory would form."""
    return f"{device.region.target_node}\n"


@attribute("numa_node")
def numa_node(device: DevDax) -> str:
    """The nearest node."""
    return f"{device.region.numa_node}\n"


@attribute("resource", 0o400)
def resource(device: DevDax) -> str:
    """First physical address: its own, or the region's while it has none."""
    return f"{device.ranges[0].start if device.ranges else device.region.start:#x}\n"


@attribute("memmap_on_memory", since="6.12")
def memmap_on_memory(_device: DevDax) -> str:
    """Whether memory that kmem makes of it holds its own memmap.  Always `0`: the kernel was not booted with that."""
    return "0\n"


@memmap_on_memory.on_store
def _store_memmap_on_memory(device: DevDax, data: bytes) -> None:
    """EINVAL for anything but a truth value, EOPNOTSUPP for a true one (mhp_supports_memmap_on_memory)."""
    if truth_value(device, data):
        raise KernelError(errno.EOPNOTSUPP, "the kernel was booted without memory_hotplug.memmap_on_memory")


def _visible(device: DevDax, candidate: KernelAttribute[DevDax]) -> int:
    """Size and alignment are read-only for a device that cannot be resized (dev_dax_visible)."""
    if candidate is target_node and device.region.target_node < 0:
        return 0
    if device.region.is_dynamic:
        return candidate.permissions
    if candidate is mapping:
        return 0
    return 0o444 if candidate in (size, align) else candidate.permissions


DEV_DAX_GROUP: AttributeGroup[DevDax] = AttributeGroup(
    (modalias, size, mapping, target_node, align, resource, numa_node, memmap_on_memory), visible=_visible
)
