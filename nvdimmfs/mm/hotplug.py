"""Memory hotplug: blocks of RAM that are added, removed, onlined and offlined (mm/memory_hotplug.c, Linux 6.1)."""

from __future__ import annotations

import enum
import errno
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

import attrs

from nvdimmfs.errors import EHWPOISON, KernelError
from nvdimmfs.mm.intervals import IntervalSet
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.resource import Resource, ResourceFlag
from nvdimmfs.mm.zone import Zone
from nvdimmfs.units import GIB, MIB, PAGE_SHIFT, align_down, align_up, div_round_up, pages

#: Bytes of a block if RAM ends below the limit, and if it ends at or above it (probe_memory_block_size,
#: arch/x86/mm/init_64.c).
SMALL_BLOCK = 128 * MIB
LARGE_BLOCK = 2 * GIB
LARGE_BLOCK_LIMIT = 64 * GIB


class OnlineType(enum.StrEnum):
    """How a block is onlined or offlined (MMOP_*, include/linux/memory_hotplug.h), as named in sysfs."""

    OFFLINE = "offline"
    ONLINE = "online"
    """In the zone of its neighbours."""
    KERNEL = "online_kernel"
    MOVABLE = "online_movable"


@attrs.define(eq=False)
class MemoryBlock:
    """The unit of memory that goes online and offline.

    Attributes:
        number: the N of memoryN.
        first_pfn, end_pfn: its page frames; `end_pfn` is not included.
        nid: its node; of a block that has RAM of several nodes since boot, the last of them.
        online: whether the page allocator owns its pages.
        zone: the zone of all its pages; None while they are offline, or when they are in several zones.
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
    """A receiver of changes to blocks, which shows them to user space."""

    def block_added(self, block: MemoryBlock) -> None:
        """`block` was added; it is offline."""

    def block_removed(self, block: MemoryBlock) -> None:
        """`block` was removed."""

    def node_removed(self, nid: int) -> None:
        """A node went offline, with its last memory."""

    def block_switched(self, block: MemoryBlock) -> None:
        """`block` went online or offline."""


class BlocksByNumber(Mapping[int, MemoryBlock]):
    """The blocks by number: first those that are there at boot, then those that were added.

    A petabyte has half a million blocks.  Those that are there at boot are created when they are looked up.

    Attributes:
        untouched: the numbers of blocks that have not been looked up, and are as they were at boot.
    """

    def __init__(self, boot: IntervalSet, create: Callable[[int], MemoryBlock]) -> None:
        self.untouched = boot.copy()
        self._boot = boot
        self._create = create
        self._blocks: dict[int, MemoryBlock] = {}

    def __getitem__(self, number: int) -> MemoryBlock:
        if number in self.untouched:
            self.untouched.remove(number, number + 1)
            self._blocks[number] = self._create(number)
        return self._blocks[number]

    def __iter__(self) -> Iterator[int]:
        yield from itertools.chain.from_iterable(range(*each) for each in self._boot)
        yield from [number for number in self._blocks if number not in self._boot]

    def __len__(self) -> int:
        return self.untouched.count + len(self._blocks)

    @property
    def touched(self) -> Iterable[MemoryBlock]:
        """The blocks that are not `untouched`."""
        return self._blocks.values()

    def add(self, block: MemoryBlock) -> None:
        """Add a block that was not there at boot."""
        self._blocks[block.number] = block

    def remove(self, block: MemoryBlock) -> None:
        """Remove a block that was added."""
        del self._blocks[block.number]


class MemoryBlocks:
    """The blocks of one machine.

    Attributes:
        memory: the machine's memory.
        size: bytes of each block.
        boot: the numbers of the blocks that are there at boot.
        boot_nodes: those of each node; a block that has RAM of several nodes is in several.
        blocks: by number.
        auto_online: how added blocks are onlined; OFFLINE leaves them offline.
        listener: receives changes.
    """

    def __init__(self, memory: Memory) -> None:
        self.size = LARGE_BLOCK if memory.max_pfn << PAGE_SHIFT >= LARGE_BLOCK_LIMIT else SMALL_BLOCK
        self.auto_online = OnlineType(memory.kernel.auto_online_blocks)
        self.listener: BlockListener | None = None
        self.memory = memory
        self.boot = IntervalSet(self._numbers_of(first, end) for first, end in memory.ram)
        self.boot_nodes = {
            nid: IntervalSet(self._numbers_of(first, end) for first, end in ram) for nid, ram in memory.node_ram.items()
        }
        self.blocks = BlocksByNumber(self.boot, self._at_boot)
        self._boot_zones = [
            (zone, self._numbers_of(zone.start_pfn, zone.end_pfn))
            for nid in self.boot_nodes
            for zone in memory.node_zones(nid)
            if zone.spanned > 0
        ]

    def nodes_of(self, block: MemoryBlock) -> tuple[int, ...]:
        """The nodes that a block belongs to, in ascending order; several only since boot."""
        if block.number not in self.boot:
            return (block.nid,)
        return tuple(nid for nid, numbers in self.boot_nodes.items() if block.number in numbers)

    def add(self, start: int, size: int, nid: int, name: str) -> None:
        """Add memory within a resource that its driver has reserved (add_memory_driver_managed).

        Args:
            start: first physical address, a multiple of the block size.
            size: bytes, a multiple of the block size.
            nid: its node.
            name: name of its resource.

        Raises `KernelError`: EEXIST when the memory is present already, ENOMEM when its memmap does not fit in RAM.
        """
        numbers = self._numbers(start, size)
        resource = self.memory.request_region(start, size, name)
        try:
            self.memory.hot_add(pages(start), pages(start + size), nid)
        except KernelError:
            resource.detach()
            raise
        for block in [self._insert(number, nid) for number in numbers]:
            if self.listener:
                self.listener.block_added(block)
        if self.auto_online is not OnlineType.OFFLINE:
            for number in numbers:
                self.switch_on(self.blocks[number], self.auto_online)

    def remove(self, start: int, size: int) -> None:
        """Remove memory that was added with the same start and size (remove_memory).  EBUSY if a block is online."""
        removed = [self.blocks[number] for number in self._numbers(start, size)]
        for block in removed:
            if block.online:
                raise KernelError(errno.EBUSY, f"memory{block.number} is online")
        for block in removed:
            self.blocks.remove(block)
            if self.listener:
                self.listener.block_removed(block)
        self.memory.hot_remove(pages(start), pages(start + size))
        self.memory.release_region(start, size)
        for nid in sorted({block.nid for block in removed}):
            self._try_offline_node(nid)

    def _try_offline_node(self, nid: int) -> None:
        """Take a node offline that has neither memory nor processors (try_offline_node)."""
        if nid in self.memory.nodes.online or any(block.nid == nid for block in self.blocks.touched):
            return
        self.memory.node_offline(nid)
        if self.listener:
            self.listener.node_removed(nid)

    def switch_on(self, block: MemoryBlock, how: OnlineType) -> None:
        """Give the pages of an offline block to the page allocator (online_pages).

        EHWPOISON when one of them was declared bad, since Linux 6.2 (memory_block_online, drivers/base/memory.c).
        """
        bad = self.memory.bad_pages.pfns.count_within(block.first_pfn, block.end_pfn)
        if bad and self.memory.kernel.tracks_bad_blocks:
            raise KernelError(EHWPOISON, f"memory{block.number} has {bad} bad pages")
        block.zone = self._zone_for(block, how)
        self.memory.online_pages(block.zone, block.first_pfn, block.end_pfn)
        block.online = True
        self._report_switch(block)

    def switch_off(self, block: MemoryBlock) -> None:
        """Remove the pages of an online block from the page allocator (offline_pages).

        EINVAL when the block has holes or spans several zones; EBUSY when a page is in use and cannot be moved.
        """
        if block.zone is None or not self.memory.is_all_ram(block.first_pfn, block.end_pfn):
            raise KernelError(errno.EINVAL, f"memory{block.number} has holes or spans several zones")
        zone = block.zone
        self.memory.offline_pages(zone, block.first_pfn, block.end_pfn)
        block.online, block.zone = False, None
        zone.shrink(block.first_pfn, block.end_pfn, self._frames_in(zone))
        self._report_switch(block)

    def allowed_zones(self, block: MemoryBlock) -> list[Zone]:
        """The zones that an offline block can be onlined in, the one for plain `online` first (valid_zones_show)."""
        zones = [self._zone_for(block, how) for how in (OnlineType.ONLINE, OnlineType.KERNEL, OnlineType.MOVABLE)]
        return list(dict.fromkeys(zones))

    def _numbers(self, start: int, size: int) -> range:
        return range(start // self.size, (start + size) // self.size)

    def _numbers_of(self, first: int, end: int) -> tuple[int, int]:
        """The numbers of the blocks that a range of page frames intersects: the first, and the one after the last."""
        return first // pages(self.size), div_round_up(end, pages(self.size))

    def _insert(self, number: int, nid: int) -> MemoryBlock:
        block = self._new(number, nid)
        self.blocks.add(block)
        return block

    def _new(self, number: int, nid: int) -> MemoryBlock:
        length = pages(self.size)
        return MemoryBlock(number, number * length, (number + 1) * length, nid)

    def _at_boot(self, number: int) -> MemoryBlock:
        """A block as it is at boot: online, and in the zone that contains all of it, if one does.

        See memory_block_add_nid and early_node_zone_for_memory_block, drivers/base/memory.c.
        """
        *others, nid = (nid for nid, numbers in self.boot_nodes.items() if number in numbers)
        block = self._new(number, nid)
        block.online = True
        found = [zone for zone, (first, end) in self._boot_zones if zone.nid == nid and first <= number < end]
        block.zone = found[0] if len(found) == 1 and not others else None
        return block

    def _frames_in(self, zone: Zone) -> Iterator[tuple[int, int]]:
        """The page frames of all blocks that are in a zone and online."""
        for block in self.blocks.touched:
            if block.zone is zone:
                yield block.first_pfn, block.end_pfn
        alone = IntervalSet()
        for numbers in (numbers for each, numbers in self._boot_zones if each is zone):
            for part in self.blocks.untouched.within(*numbers):
                for own in self.boot_nodes[zone.nid].within(*part):
                    alone.add(*own)
        for other, numbers in self._boot_zones:
            if other is not zone and other.nid == zone.nid:
                alone.remove(*numbers)
        for nid, shared in self.boot_nodes.items():
            if nid != zone.nid:
                for part in shared:
                    alone.remove(*part)
        length = pages(self.size)
        for first, end in alone:
            yield first * length, end * length

    def _zone_for(self, block: MemoryBlock, how: OnlineType) -> Zone:
        """Choose the zone for a block's pages (zone_for_pfn_range with the policy contig-zones)."""
        *kernel_zones, normal, movable, _device = self.memory.node_zones(block.nid)
        kernel = next((zone for zone in (*kernel_zones, normal) if _intersects(zone, block)), normal)
        if how is OnlineType.KERNEL:
            return kernel
        if how is OnlineType.MOVABLE:
            return movable
        return movable if _intersects(movable, block) and not _intersects(kernel, block) else kernel

    def _report_switch(self, block: MemoryBlock) -> None:
        if self.listener:
            self.listener.block_switched(block)


def whole_blocks(start: int, end: int, size: int) -> tuple[int, int]:
    """Return start and end of the whole blocks of `size` bytes within a range; without any, end <= start."""
    return align_up(start, size), align_down(end, size)


def claim_as_ram(memory: Memory, start: int, size: int, owner: str) -> Resource:
    """Reserve a range for its owner as System RAM, so that memory can be added within it.  EBUSY."""
    resource = memory.request_region(start, size, owner)
    resource.flags = ResourceFlag.SYSTEM_RAM
    return resource


def _intersects(zone: Zone, block: MemoryBlock) -> bool:
    """Whether a zone spans a part of a block (zone_intersects)."""
    return zone.spanned > 0 and zone.start_pfn < block.end_pfn and block.first_pfn < zone.end_pfn
