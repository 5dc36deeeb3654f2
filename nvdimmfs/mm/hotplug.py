"""Memory hotplug: RAM in blocks that come and go, go on line and off line (mm/memory_hotplug.c, Linux 6.1)."""

from __future__ import annotations

import enum
import errno
from typing import Protocol

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.resource import Resource, ResourceFlag
from nvdimmfs.mm.zone import Zone
from nvdimmfs.units import GIB, MIB, PAGE_SHIFT, align_down, align_up, div_round_up, pages

#: Bytes of a block, where RAM ends below and from the limit on (probe_memory_block_size, arch/x86/mm/init_64.c).
SMALL_BLOCK = 128 * MIB
LARGE_BLOCK = 2 * GIB
LARGE_BLOCK_LIMIT = 64 * GIB


class OnlineType(enum.StrEnum):
    """What becomes of a block (MMOP_*, include/linux/memory_hotplug.h), as user space calls it."""

    OFFLINE = "offline"
    ONLINE = "online"
    """In the zone that its neighbours are in."""
    KERNEL = "online_kernel"
    MOVABLE = "online_movable"


@attrs.define(eq=False)
class MemoryBlock:
    """What goes on line and off line as one.

    Attributes:
        number: the N of memoryN.
        first_pfn, end_pfn: its page frames, the latter not included.
        nid: its node.
        online: whether the page allocator has its pages.
        zone: the zone of all its pages; None while they are off line, or when they are of several zones.
    """

    number: int
    first_pfn: int
    end_pfn: int
    nid: int
    online: bool = False
    zone: Zone | None = None

    @property
    def size(self) -> int:
        """Page frames."""
        return self.end_pfn - self.first_pfn


class BlockListener(Protocol):
    """Who shows blocks to user space."""

    def block_added(self, block: MemoryBlock) -> None:
        """It has come, and is off line."""

    def block_removed(self, block: MemoryBlock) -> None:
        """It has gone."""

    def block_switched(self, block: MemoryBlock) -> None:
        """It has gone on line, or off line."""


class MemoryBlocks:
    """The blocks of one machine.

    Attributes:
        memory: the machine's.
        size: bytes of each.
        blocks: by number.
        auto_online: what becomes of those that are added.
        listener: who is told.
    """

    def __init__(self, memory: Memory) -> None:
        self.size = LARGE_BLOCK if memory.max_pfn << PAGE_SHIFT >= LARGE_BLOCK_LIMIT else SMALL_BLOCK
        self.blocks: dict[int, MemoryBlock] = {}
        self.auto_online = OnlineType.OFFLINE
        self.listener: BlockListener | None = None
        self.memory = memory
        for first, end in memory.ram:
            for number in range(first // pages(self.size), div_round_up(end, pages(self.size))):
                if number not in self.blocks:
                    self._enter(number, nid=0)
        for block in self.blocks.values():
            block.online, block.zone = True, self._only_zone(block)

    def add(self, start: int, size: int, nid: int, name: str) -> None:
        """Take in memory, below a resource that whoever knows of it has reserved (add_memory_driver_managed).

        Args:
            start: first physical address, a multiple of a block.
            size: bytes, a multiple of a block.
            nid: the node it belongs to.
            name: of its resource.

        Raises `KernelError`: EEXIST when it is there already, ENOMEM when there is no room for its memmap.
        """
        numbers = self._numbers(start, size)
        resource = self.memory.request_region(start, size, name)
        try:
            self.memory.hot_add(pages(start), pages(start + size))
        except KernelError:
            resource.detach()
            raise
        for block in [self._enter(number, nid) for number in numbers]:
            self._tell_added(block)
        if self.auto_online is not OnlineType.OFFLINE:
            for number in numbers:
                self.switch_on(self.blocks[number], self.auto_online)

    def remove(self, start: int, size: int) -> None:
        """Let memory go that was added, with the same start and size (remove_memory).  EBUSY while on line."""
        leaving = [self.blocks[number] for number in self._numbers(start, size)]
        for block in leaving:
            if block.online:
                raise KernelError(errno.EBUSY, f"memory{block.number} is on line")
        for block in leaving:
            del self.blocks[block.number]
            if self.listener:
                self.listener.block_removed(block)
        self.memory.hot_remove(pages(start), pages(start + size))
        self.memory.release_region(start, size)

    def switch_on(self, block: MemoryBlock, how: OnlineType) -> None:
        """Give the pages of a block that is off line to the page allocator (online_pages)."""
        block.zone = self._zone_for(block, how)
        self.memory.online_pages(block.zone, block.first_pfn, block.end_pfn)
        block.online = True
        self._tell_switched(block)

    def switch_off(self, block: MemoryBlock) -> None:
        """Take the pages of a block that is on line from the page allocator (offline_pages).

        EINVAL when there are holes in it or it is of several zones; EBUSY when a page is in use that cannot be moved.
        """
        if block.zone is None or not self.memory.is_all_ram(block.first_pfn, block.end_pfn):
            raise KernelError(errno.EINVAL, f"memory{block.number} has holes or several zones")
        zone = block.zone
        self.memory.offline_pages(zone, block.first_pfn, block.end_pfn)
        block.online, block.zone = False, None
        zone.shrink(
            block.first_pfn,
            block.end_pfn,
            [(other.first_pfn, other.end_pfn) for other in self.blocks.values() if other.zone is zone],
        )
        self._tell_switched(block)

    def allowed_zones(self, block: MemoryBlock) -> list[Zone]:
        """The zones that a block that is off line can go to, the one of plain `online` first (valid_zones_show)."""
        zones = [self._zone_for(block, how) for how in (OnlineType.ONLINE, OnlineType.KERNEL, OnlineType.MOVABLE)]
        return list(dict.fromkeys(zones))

    def _numbers(self, start: int, size: int) -> range:
        return range(start // self.size, (start + size) // self.size)

    def _enter(self, number: int, nid: int) -> MemoryBlock:
        length = pages(self.size)
        block = self.blocks[number] = MemoryBlock(number, number * length, (number + 1) * length, nid)
        return block

    def _only_zone(self, block: MemoryBlock) -> Zone | None:
        """The zone that all of a block is in (early_node_zone_for_memory_block, drivers/base/memory.c)."""
        met = [zone for zone in self.memory.node_zones(block.nid) if _meets(zone, block)]
        return met[0] if len(met) == 1 else None

    def _zone_for(self, block: MemoryBlock, how: OnlineType) -> Zone:
        """Where a block's pages go (zone_for_pfn_range with the policy contig-zones)."""
        *kernel_zones, normal, movable, _device = self.memory.node_zones(block.nid)
        kernel = next((zone for zone in (*kernel_zones, normal) if _meets(zone, block)), normal)
        if how is OnlineType.KERNEL:
            return kernel
        if how is OnlineType.MOVABLE:
            return movable
        return movable if _meets(movable, block) and not _meets(kernel, block) else kernel

    def _tell_added(self, block: MemoryBlock) -> None:
        if self.listener:
            self.listener.block_added(block)

    def _tell_switched(self, block: MemoryBlock) -> None:
        if self.listener:
            self.listener.block_switched(block)


def whole_blocks(start: int, end: int, size: int) -> tuple[int, int]:
    """Start and end of the whole blocks of `size` bytes from address `start` to before `end`; there may be none."""
    return align_up(start, size), align_down(end, size)


def claim_as_ram(memory: Memory, start: int, size: int, owner: str) -> Resource:
    """Reserve a range for its owner as System RAM, within which memory can be added.  EBUSY."""
    resource = memory.request_region(start, size, owner)
    resource.flags = ResourceFlag.SYSTEM_RAM
    return resource


def _meets(zone: Zone, block: MemoryBlock) -> bool:
    """Whether a zone spans a part of a block (zone_intersects)."""
    return zone.spanned > 0 and zone.start_pfn < block.end_pfn and block.first_pfn < zone.end_pfn
