"""The physical memory of one machine: resources, zones, sections and the page maps of its devices."""

from __future__ import annotations

import bisect
import errno
from collections.abc import Iterator

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.faults.faults import Faults
from nvdimmfs.kernels.kernel import KERNEL_6_1, ConflictRule, Kernel, RamRule
from nvdimmfs.mm.address_space import AddressSpace
from nvdimmfs.mm.bad_pages import BadPages
from nvdimmfs.mm.hugepages import HugePages
from nvdimmfs.mm.intervals import IntervalSet
from nvdimmfs.mm.iomem import iomem_text
from nvdimmfs.mm.memremap import DevPagemap, PagemapState, check_altmap
from nvdimmfs.mm.nodes import FIRST_NODE, Nodes
from nvdimmfs.mm.page import Pages
from nvdimmfs.mm.pc_memory_map import DEFAULT_RAM, Ram, build_iomem
from nvdimmfs.mm.ram import RamPool
from nvdimmfs.mm.resource import Intersection, Resource, ResourceFlag
from nvdimmfs.mm.sparse import Memmap, SparseMemory
from nvdimmfs.mm.zone import Zone, device_zone, ram_zones
from nvdimmfs.mm.zoneinfo import zoneinfo_text
from nvdimmfs.units import (
    PAGE_SHIFT,
    PAGE_SIZE,
    PAGES_PER_SECTION,
    PMD_SIZE,
    SECTION_SIZE,
    Range,
    align_down,
    align_up,
    pages,
)


class Memory:
    """A kernel's view of a machine's physical memory.

    Attributes:
        iomem: the root of the resource tree.
        kernel: the kernel whose rules apply.
        space: the direct map and vmemmap.
        ram_bytes: bytes of System RAM; fixed at boot.
        max_pfn: the frame after the last frame of RAM, including RAM removed since; device memory does not change it.
        nodes: the nodes that the firmware describes.
        node_ram: the page frames of RAM at boot of each node that has any.
        zones: the zones of each node that is online, in the order of /proc/zoneinfo.
        hot_memmaps: the struct pages of RAM added after boot, by its first and end pfn.
        huge_pages: the huge pages that user space has reserved.
        bad_pages: the page frames that were declared bad.
        pagemaps: the registrations, live and dying, oldest first.
        sparse: the sections.
        pages: conversion between page frames, struct pages and addresses.
    """

    def __init__(self, iomem: Resource, kernel: Kernel = KERNEL_6_1, nodes: Nodes | None = None) -> None:
        """Boot with the given resources; without nodes, there is one, which has all RAM.

        ENOMEM when the RAM is too small for its own memmap.
        """
        self.iomem = iomem
        self.kernel = kernel
        self.nodes = nodes or Nodes()
        ram = list(iomem.matching(ResourceFlag.SYSTEM_RAM))
        memory = [child.end for child in iomem.children if child.name != "Reserved"]
        self.space = AddressSpace.of(kernel, max(memory, default=0))
        self.ram_bytes = sum(resource.size for resource in ram)
        self.hot_memmaps: dict[tuple[int, int], Memmap] = {}
        self._hot_zones: dict[tuple[int, int], Zone] = {}
        self._moved_zones: dict[tuple[int, int], Zone] = {}
        self.bad_pages = BadPages(counted_out=kernel.tracks_bad_blocks)
        self._taken_off = IntervalSet()
        self._pool = RamPool(
            ((resource.start, resource.end + 1) for resource in ram), self.nodes if self.nodes.ram else None
        )
        parts = [part for resource in ram for part in self.nodes.split(resource.start, resource.end + 1)]
        spans = [(align_up(part.start, PAGE_SIZE) >> PAGE_SHIFT, part.end >> PAGE_SHIFT, part.nid) for part in parts]
        spans = [(first, end, nid) for first, end, nid in spans if first < end]
        self._ram = IntervalSet((first, end) for first, end, _ in spans)
        self.node_ram = {
            nid: IntervalSet((first, end) for first, end, own in spans if own == nid)
            for nid in sorted({nid for *_, nid in spans})
        }
        self.max_pfn = max((end for _, end, _ in spans), default=0)
        self._huge = IntervalSet()
        self.huge_pages = HugePages(self._huge_places, self._take_huge, self._give_back_huge)
        self._pool.reserve(0, kernel.low_memory)
        for resource in ram:
            for child in resource.children:
                self._pool.reserve(child.start, child.end + 1)
        self.sparse = SparseMemory(self.node_ram, self._pool, whole_sections=kernel.rounds_out)
        self.nodes = attrs.evolve(self.nodes, online=self.nodes.online | self.node_ram.keys())
        self.zones = {nid: _zones(nid, list(self.node_ram.get(nid, ()))) for nid in sorted(self.nodes.online)}
        every_zone = [zone for zones in self.zones.values() for zone in zones]
        self._boot_spans = {zone: (zone.start_pfn, zone.end_pfn) for zone in every_zone if zone.populated}
        for zone in every_zone:
            zone.managed = self.free_pages(zone)
        self.pagemaps: list[DevPagemap] = []
        self._mapped: list[tuple[int, int, DevPagemap]] = []
        self.pages = Pages(self)

    @classmethod
    def boot(
        cls, memmap: str = "", ram: Ram = DEFAULT_RAM, kernel: Kernel = KERNEL_6_1, nodes: Nodes | None = None
    ) -> Memory:
        """Return the memory of a PC with that RAM, booted with memmap=`memmap`.  KernelPanic, ValueError."""
        return cls(build_iomem(memmap, ram), kernel, nodes)

    # Resources

    def request_region(self, start: int, size: int, name: str) -> Resource:
        """Reserve a range for one user (request_mem_region).  EBUSY."""
        return self.iomem.request(start, size, name)

    def check_region(self, start: int, size: int, name: str) -> None:
        """EBUSY when a range cannot be reserved."""
        self.iomem.check(start, size, name)

    def release_region(self, start: int, size: int) -> None:
        """Release a range that `request_region` reserved; it must be the same range."""
        self.iomem.release(start, size)

    def iomem_text(self, privileged: bool = True) -> str:
        """/proc/iomem."""
        return iomem_text(self.iomem, privileged)

    # RAM and zones

    @property
    def ram_free(self) -> int:
        """Bytes of RAM available for memmaps, which excludes the kernel's image and the memmap of the RAM itself."""
        return self._pool.free_bytes

    def device_zone(self, nid: int = 0) -> Zone:
        """A node's ZONE_DEVICE."""
        return self.zones[nid][-1]

    def zoneinfo_text(self) -> str:
        """/proc/zoneinfo."""
        return zoneinfo_text(self.zones, self.free_pages, self.kernel)

    def free_pages(self, zone: Zone) -> int:
        """The free page frames of a zone."""
        return sum(end - first for first, end in self.free_ranges(zone))

    def free_ranges(self, zone: Zone) -> Iterator[tuple[int, int]]:
        """Yield the free page frames of a zone, as first and end pfns, in ascending order."""
        if not zone.populated:
            return  # its span may include RAM of other zones
        hot = IntervalSet(block for block, other in self._hot_zones.items() if other is zone)
        free = hot.copy()
        for first, end in hot:
            for taken in (*self._taken_off.within(first, end), *self._huge.within(first, end)):
                free.remove(*taken)
        for first, end in self._boot_frames(zone):
            for start, stop in self._pool.free_ranges(first << PAGE_SHIFT, end << PAGE_SHIFT):
                free.add(pages(start), pages(stop))
        yield from free

    def _boot_frames(self, zone: Zone) -> IntervalSet:
        """The page frames of RAM since boot that are in a zone: those that were, and those that were onlined there."""
        span = self._boot_spans.get(zone)
        frames = IntervalSet(self.node_ram[zone.nid].within(*span) if span else ())
        for block, other in self._moved_zones.items():
            if other is zone:
                frames.add(*block)
            else:
                frames.remove(*block)
        return frames

    # Hotplugged RAM

    @property
    def ram(self) -> IntervalSet:
        """The page frames of online System RAM, including those that the kernel reserved at boot."""
        return self._ram

    def node_zones(self, nid: int) -> list[Zone]:
        """All zones of a node, in the order of /proc/zoneinfo; a node that is not online goes online."""
        if nid not in self.zones:
            self.zones = dict(sorted({**self.zones, nid: _zones(nid, [])}.items()))
        return self.zones[nid]

    def node_offline(self, nid: int) -> None:
        """Take a node offline that has no memory any more (try_offline_node)."""
        self.zones.pop(nid, None)

    def is_ram(self, pfn: int) -> bool:
        """Whether a page frame is System RAM."""
        return pfn in self._ram

    def is_all_ram(self, first: int, end: int) -> bool:
        """Whether all page frames from `first` to before `end` are System RAM."""
        return self._ram.count_within(first, end) == end - first

    def hot_add(self, first: int, end: int, nid: int = FIRST_NODE) -> None:
        """Allocate struct pages, in RAM, for memory of a node that is added after boot (arch_add_memory).

        EEXIST, ENOMEM; a failure leaves what `memremap_pages` would leave.
        """
        self.hot_memmaps[first, end] = self.sparse.add(first, end, nid=nid)
        self.max_pfn = max(self.max_pfn, end)

    def hot_remove(self, first: int, end: int) -> None:
        """Undo `hot_add`; all of the memory must be offline."""
        self.bad_pages.remove(first, end)
        self.sparse.remove(self.hot_memmaps.pop((first, end)))

    def online_pages(self, zone: Zone, first: int, end: int) -> None:
        """Give page frames to a zone and its page allocator.

        Only RAM present since boot is used for memmaps; RAM added later is not.
        """
        self.bad_pages.initialise(first, end)
        if first in self.sparse.hot:
            self._hot_zones[first, end] = zone
        else:
            self._moved_zones[first, end] = zone
            self._pool.release(first << PAGE_SHIFT, end << PAGE_SHIFT)
        zone.grow(first, end)
        zone.present += end - first
        zone.managed += end - first
        self._ram.add(first, end)
        self.sparse.switch(first, end, online=True)

    def offline_pages(self, zone: Zone, first: int, end: int) -> None:
        """Remove page frames from the page allocator; the zone still spans them.  EBUSY when the kernel uses one."""
        self.huge_pages.dissolve(first, end)
        if (first, end) in self._hot_zones:
            del self._hot_zones[first, end]
        else:
            start, stop = first << PAGE_SHIFT, end << PAGE_SHIFT
            if pages(self._pool.free_within(start, stop)) + self._taken_off.count_within(first, end) < end - first:
                raise KernelError(errno.EBUSY, f"pfns {first:#x} to {end:#x} are in use")
            self._pool.reserve(start, stop)
            self._moved_zones.pop((first, end), None)
        self._taken_off.remove(first, end)
        zone.present -= end - first
        zone.managed -= end - first
        self._ram.remove(first, end)
        self.sparse.switch(first, end, online=False)

    def ram_zone(self, pfn: int) -> Zone:
        """The zone of a page frame that is System RAM."""
        for (first, end), zone in (*self._hot_zones.items(), *self._moved_zones.items()):
            if first <= pfn < end:
                return zone
        nid = next(nid for nid, ram in self.node_ram.items() if pfn in ram)
        return next(zone for zone in self.zones[nid] if zone.populated and pfn in zone)

    def node_of(self, pfn: int) -> int:
        """The node of a page frame of online RAM."""
        hot = (zone.nid for (first, end), zone in self._hot_zones.items() if first <= pfn < end)
        return next(hot, self.nodes.node_of(pfn << PAGE_SHIFT))

    # Bad pages

    def is_free(self, pfn: int) -> bool:
        """Whether a page frame of online RAM is unused and owned by the page allocator."""
        if pfn in self.bad_pages or pfn not in self._ram:
            return False
        if pfn in self.sparse.hot:
            return pfn not in self._huge
        start = pfn << PAGE_SHIFT
        return self._pool.free_within(start, start + PAGE_SIZE) == PAGE_SIZE

    def poison(self, pfn: int) -> None:
        """Declare a page frame bad; a free one is removed from the page allocator (take_page_off_buddy)."""
        if self.is_free(pfn):
            self._taken_off.add(pfn, pfn + 1)
            self._pool.reserve(pfn << PAGE_SHIFT, pfn + 1 << PAGE_SHIFT)
        self.bad_pages.add(pfn)

    # Device memory

    def memremap_pages(self, pagemap: DevPagemap, nid: int = 0) -> int:
        """Create struct pages for a range, in the node's ZONE_DEVICE, and return its address in the direct map.

        Errors in the order in which Linux 6.1 checks them.  First, no range at all: EINVAL.  Then, for each range: an
        altmap for a range other than the first, EINVAL; first or last page registered already, ENOMEM; overlap with
        System RAM, ENXIO; beyond the addressable range, EINVAL; an altmap that does not begin with the range or is
        larger than it, EINVAL; not aligned to 2 MiB, EINVAL; a subsection populated already, EEXIST; no room for the
        memmap, ENOMEM.  A node below 0 means node 0.

        When a range fails, the ranges before it are removed.  Those of its own sections that were populated before the
        failure stay until the next boot: they are EEXIST from then on, and their memmap is never freed.
        """
        assert pagemap.state is PagemapState.IDLE, "already registered"
        try:
            return self._register(pagemap, max(nid, 0))
        except KernelError as error:
            if self.kernel.failure_errno is None:
                raise
            raise KernelError(self.kernel.failure_errno, error.reason) from error

    def memunmap_pages(self, pagemap: DevPagemap) -> bool:
        """End a registration; return whether it was removed at once.

        While references remain, the page map is dying: no new references can be taken, and its pages remain until
        `put_dev_pagemap` drops the last reference.
        """
        assert pagemap.state is PagemapState.LIVE, "not registered"
        pagemap.state = PagemapState.DYING
        pagemap.refs -= 1 + self._page_refs(pagemap)
        return self._finish(pagemap)

    def find_pagemap(self, pfn: int) -> DevPagemap | None:
        """The page map, live or dying, that contains a page frame."""
        index = bisect.bisect_right(self._mapped, pfn, key=lambda entry: entry[0]) - 1
        if index < 0 or pfn >= self._mapped[index][1]:
            return None
        return self._mapped[index][2]

    def maps_pages_in(self, start: int, end: int) -> bool:
        """Whether a registration has page frames between two physical addresses, both inclusive."""
        first, last = start >> PAGE_SHIFT, end >> PAGE_SHIFT
        return any(low <= last and first < high for low, high, _ in self._mapped)

    def get_dev_pagemap(self, pfn: int) -> DevPagemap | None:
        """The live page map of a page frame, with a reference to it; None when there is none."""
        pagemap = self.find_pagemap(pfn)
        if pagemap is None or pagemap.state is not PagemapState.LIVE:
            return None
        pagemap.refs += 1
        return pagemap

    def put_dev_pagemap(self, pagemap: DevPagemap) -> None:
        """Drop a reference; the last one of a dying page map removes it."""
        assert pagemap.refs > 0, "no reference is held"
        pagemap.refs -= 1
        if pagemap.state is PagemapState.DYING:
            self._finish(pagemap)

    def initialised(self, first: int, end: int) -> Iterator[tuple[int, int, DevPagemap | None]]:
        """Yield the page frames from `first` to before `end` with an initialised struct page, in order.

        Each item is first pfn, end pfn and the page map, which is None for RAM.
        """
        parts: list[tuple[int, int, DevPagemap | None]] = [
            (low, high, None) for low, high in self._ram.within(first, end)
        ]
        for low, high, pagemap in self._mapped:
            skipped = pagemap.altmap.offset if pagemap.altmap and low == pagemap.range.first_pfn else 0
            a, b = max(low + skipped, first), min(high, end)
            if a < b:
                parts.append((a, b, pagemap))
        yield from sorted(parts, key=lambda part: part[0])

    # Fault injection

    @property
    def faults(self) -> Faults:
        """The fault rules: `memremap_pages`, and the allocations in altmaps."""
        return self.sparse.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self.sparse.faults = faults

    # Implementation

    def _huge_places(self, nid: int, length: int) -> Iterator[int]:
        """Free places for huge pages of so many page frames, the first to be taken first.

        Of added memory, the lowest one in the block that went online first; or the lowest of all if it is too large for
        the page allocator (alloc_contig_pages).  In RAM since boot, the order depends on all that a kernel has
        allocated; here it is the highest.
        """
        for zone in reversed(self.zones[nid]):
            free = IntervalSet(self.free_ranges(zone))
            blocks = [block for block, other in self._hot_zones.items() if other is zone]
            for first, end in blocks if length <= PMD_SIZE >> PAGE_SHIFT else IntervalSet(blocks):
                for low, high in free.within(first, end):
                    yield from range(align_up(low, length), align_down(high, length), length)
                free.remove(first, end)
            for low, high in reversed(list(free)):
                yield from range(align_down(high, length) - length, align_up(low, length) - 1, -length)

    def _take_huge(self, first: int, end: int) -> None:
        self._huge.add(first, end)
        if first not in self.sparse.hot:
            self._pool.reserve(first << PAGE_SHIFT, end << PAGE_SHIFT)

    def _give_back_huge(self, first: int, end: int) -> None:
        self._huge.remove(first, end)
        if first not in self.sparse.hot:
            self._pool.release(first << PAGE_SHIFT, end << PAGE_SHIFT)

    def _register(self, pagemap: DevPagemap, nid: int) -> int:
        if self.faults.registrations:
            self.faults.refuse(self.faults.registrations, pagemap.owner)
        if not pagemap.ranges:
            raise KernelError(errno.EINVAL, "nr_range must be specified")
        pagemap.nid = nid
        self.node_zones(nid)  # a node appears with its first memory
        try:
            for index in range(len(pagemap.ranges)):
                self._add_range(pagemap, index)
        except KernelError:
            self._remove_ranges(pagemap)
            raise
        pagemap.state = PagemapState.LIVE
        pagemap.refs = 1 + self._page_refs(pagemap)
        self.pagemaps.append(pagemap)
        return self.space.phys_to_virt(pagemap.range.start)

    def _add_range(self, pagemap: DevPagemap, index: int) -> None:
        range_ = pagemap.ranges[index]
        altmap = pagemap.altmap
        if altmap and index:
            raise KernelError(errno.EINVAL, "altmap not supported for multiple ranges")
        self._check_conflict(range_)
        if self._is_linear_ram(range_):
            return
        if range_.size <= 0 or range_.start < 0 or range_.end >= self.space.physical_end:
            raise KernelError(errno.EINVAL, f"{range_} is beyond the addressable range")
        first, end = self._widened(range_)
        if altmap:
            check_altmap(altmap, first, end - first)
            altmap.reset()
        if not self.kernel.rounds_out and (range_.start | range_.size) % self.kernel.granularity:
            raise KernelError(errno.EINVAL, f"{range_} is misaligned")
        compound = pagemap.compound if self.kernel.shares_tail_pages else 0
        pagemap.memmaps.append(self.sparse.add(first, end, altmap, compound, pagemap.owner, pagemap.nid))
        if altmap:
            pagemap.overwrite_media()
        self.device_zone(pagemap.nid).grow(first, end)
        bisect.insort(self._mapped, (range_.first_pfn, range_.end_pfn, pagemap), key=lambda entry: entry[0])

    def _check_conflict(self, range_: Range) -> None:
        """Refuse a range that overlaps a registration, as far as the kernel detects it.  ENOMEM, EBUSY."""
        rule = self.kernel.conflicts
        if rule is ConflictRule.ENDS and any(self._is_live(address) for address in (range_.start, range_.end)):
            raise KernelError(errno.ENOMEM, "Conflicting mapping in same section")
        if rule is ConflictRule.SECTIONS:
            first, end = align_down(range_.start, SECTION_SIZE), align_up(range_.end + 1, SECTION_SIZE)
            if any(low < pages(end) and pages(first) < high for low, high, _ in self._mapped):
                raise KernelError(errno.EBUSY, f"{range_} collides with another mapping")

    def _is_live(self, address: int) -> bool:
        pagemap = self.find_pagemap(pages(address))
        return pagemap is not None and pagemap.state is PagemapState.LIVE

    def _is_linear_ram(self, range_: Range) -> bool:
        """Whether a range is RAM, which some kernels accept without registering it.  ENXIO."""
        if self.kernel.ram is RamRule.UNCHECKED:
            return False
        searched = _sections(range_) if self.kernel.ram_within_sections else range_
        found = self.iomem.intersects(searched.start, searched.size)
        if found is Intersection.INTERSECTS and self.kernel.ram is RamRule.LINEAR:
            return True
        if found is not Intersection.DISJOINT:
            kind = "mixed" if found is Intersection.MIXED else "ram"
            raise KernelError(errno.ENXIO, f"attempted on {kind} region {range_}")
        return False

    def _widened(self, range_: Range) -> tuple[int, int]:
        """First and end pfn of the memory that is actually added for a range."""
        if not self.kernel.rounds_out:
            return range_.first_pfn, range_.end_pfn
        return align_down(range_.first_pfn, PAGES_PER_SECTION), align_up(range_.end_pfn, PAGES_PER_SECTION)

    def _page_refs(self, pagemap: DevPagemap) -> int:
        return sum(pagemap.pfn_len(index) for index in range(len(pagemap.memmaps)))

    def _finish(self, pagemap: DevPagemap) -> bool:
        if pagemap.refs:
            return False
        self._remove_ranges(pagemap)
        self.pagemaps.remove(pagemap)
        pagemap.state = PagemapState.IDLE
        return True

    def _remove_ranges(self, pagemap: DevPagemap) -> None:
        for index, memmap in enumerate(pagemap.memmaps):
            self.sparse.remove(memmap, pagemap.altmap if index == 0 else None)
        pagemap.memmaps.clear()
        self._mapped = [entry for entry in self._mapped if entry[2] is not pagemap]
        if self.kernel.device_zone_shrinks:
            others = (other for _, _, other in self._mapped if other.nid == pagemap.nid)
            self.device_zone(pagemap.nid).shrink_to(
                self._widened(range_) for other in others for range_ in other.ranges
            )


def _sections(range_: Range) -> Range:
    """The whole sections that a range touches."""
    start = align_down(range_.start, SECTION_SIZE)
    return Range.sized(start, align_up(range_.end + 1, SECTION_SIZE) - start)


def _zones(nid: int, ram: list[tuple[int, int]]) -> list[Zone]:
    """Create all zones of a node with the given RAM, in pfns."""
    return [*ram_zones(nid, ram), device_zone(nid)]
