"""/proc/zoneinfo (zoneinfo_show_print in mm/vmstat.c, Linux 6.1 and 6.12).

Spans, present and managed counts, watermarks, protection and free pages are computed from the machine's memory.
Counters that change only on a running system (page cache, anonymous memory, allocations per node) are 0, as no process
runs on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from nvdimmfs.kernels.kernel import KERNEL_6_1, Kernel
from nvdimmfs.mm.zone import Zone
from nvdimmfs.units import MIB, PAGE_SHIFT, PAGE_SIZE

#: /proc/sys/vm/lowmem_reserve_ratio: allocations that could use a higher zone must leave 1/n of its pages free here.
LOWMEM_RESERVE_RATIO = {"DMA": 256, "DMA32": 256, "Normal": 32, "Movable": 0, "Device": 0}

#: Pages of a page block, and the blocks that transparent huge pages keep free in each zone (mm/khugepaged.c).
_PAGES_PER_BLOCK = 512
_BLOCKS_KEPT_FREE = 2 + 3 * 3

#: The counters of a node, and those of a zone that change only on a running system, of all kernels.
_NODE_COUNTERS = (
    "nr_inactive_anon",
    "nr_active_anon",
    "nr_inactive_file",
    "nr_active_file",
    "nr_unevictable",
    "nr_slab_reclaimable",
    "nr_slab_unreclaimable",
    "nr_isolated_anon",
    "nr_isolated_file",
    "workingset_nodes",
    "workingset_refault_anon",
    "workingset_refault_file",
    "workingset_activate_anon",
    "workingset_activate_file",
    "workingset_restore_anon",
    "workingset_restore_file",
    "workingset_nodereclaim",
    "nr_anon_pages",
    "nr_mapped",
    "nr_file_pages",
    "nr_dirty",
    "nr_writeback",
    "nr_writeback_temp",
    "nr_shmem",
    "nr_shmem_hugepages",
    "nr_shmem_pmdmapped",
    "nr_file_hugepages",
    "nr_file_pmdmapped",
    "nr_anon_transparent_hugepages",
    "nr_vmscan_write",
    "nr_vmscan_immediate_reclaim",
    "nr_dirtied",
    "nr_written",
    "nr_throttled_written",
    "nr_kernel_misc_reclaimable",
    "nr_foll_pin_acquired",
    "nr_foll_pin_released",
    "nr_kernel_stack",
    "nr_page_table_pages",
    "nr_sec_page_table_pages",
    "nr_iommu_pages",
    "nr_swapcached",
    "pgpromote_success",
    "pgpromote_candidate",
    "pgdemote_kswapd",
    "pgdemote_direct",
    "pgdemote_khugepaged",
)

_IDLE_ZONE_COUNTERS = (
    "nr_zone_inactive_anon",
    "nr_zone_active_anon",
    "nr_zone_inactive_file",
    "nr_zone_active_file",
    "nr_zone_unevictable",
    "nr_zone_write_pending",
    "nr_mlock",
    "nr_bounce",
    "nr_zspages",
    "nr_free_cma",
    "nr_unaccepted",
    "numa_hit",
    "numa_miss",
    "numa_foreign",
    "numa_interleave",
    "numa_local",
    "numa_other",
)

#: The counter that is one of a zone in older kernels, and the one that it then follows there.
_PAGE_TABLES, _BEFORE_PAGE_TABLES = "nr_page_table_pages", "nr_mlock"

#: The least and the most pages of the lowest watermark of a zone without a share of the reserve (SWAP_CLUSTER_MAX).
_LEAST_PAGES, _MOST_PAGES = 32, 128

#: The zone that nothing is allocated from while there is other memory.
_LAST_RESORT = "DMA"


def node_counters(kernel: Kernel) -> list[str]:
    """The names of a node's counters."""
    names = _known(_NODE_COUNTERS, kernel)
    return [name for name in names if name != _PAGE_TABLES] if kernel.page_tables_count_by_zone else names


def idle_zone_counters(kernel: Kernel) -> list[str]:
    """The names of a zone's counters that change only on a running system."""
    names = _known(_IDLE_ZONE_COUNTERS, kernel)
    if kernel.page_tables_count_by_zone:
        names.insert(names.index(_BEFORE_PAGE_TABLES) + 1, _PAGE_TABLES)
    return names


def _known(names: Iterable[str], kernel: Kernel) -> list[str]:
    return [name for name in names if name not in kernel.missing_lines]


def zoneinfo_text(
    nodes: Mapping[int, Sequence[Zone]], free_pages: Callable[[Zone], int], kernel: Kernel = KERNEL_6_1
) -> str:
    """Return the content of the file; `free_pages` returns the number of free pages in a zone."""
    reserve = _Reserve.of(nodes, kernel)
    lines: list[str] = []
    for zones in nodes.values():
        first_populated = next((zone for zone in zones if zone.populated), None)
        for index, zone in enumerate(zones):
            lines.append(f"Node {zone.nid}, zone {zone.name:>8}")
            if zone is first_populated:
                lines.append("  per-node stats")
                lines += [_counter(name, 0) for name in node_counters(kernel)]
            marks = reserve.watermarks(zone)
            free = free_pages(zone)
            lines += _summary(zone, free, marks, _protection(zones, index), kernel)
            if zone.populated:
                lines += _details(zone, free, marks, kernel)
    return "".join(line + "\n" for line in lines)


def reserved_pages(nodes: Mapping[int, Sequence[Zone]], kernel: Kernel = KERNEL_6_1) -> int:
    """Pages that are not for user space (calculate_totalreserve_pages, mm/page_alloc.c)."""
    reserve = _Reserve.of(nodes, kernel)
    reserved = 0
    for zones in nodes.values():
        for index, zone in enumerate(zones):
            high = reserve.watermarks(zone)[2]
            reserved += min(zone.managed, max(_protection(zones, index)) + high)
    return reserved


def _summary(zone: Zone, free: int, marks: Sequence[int], protection: Sequence[int], kernel: Kernel) -> list[str]:
    numbers = {
        "boost": 0,
        **dict(zip(_WATERMARKS, marks, strict=True)),
        "spanned": zone.spanned,
        "present": zone.present,
        "managed": zone.managed,
        "cma": 0,
    }
    return [
        f"  pages free     {free}",
        *(f"        {name:<8} {numbers[name]}" for name in _known(numbers, kernel)),
        f"        protection: ({', '.join(map(str, protection))})",
    ]


def _details(zone: Zone, free: int, marks: Sequence[int], kernel: Kernel) -> list[str]:
    """The further lines of a populated zone: its counters, and the page lists of the one processor."""
    batch = _batch(zone)
    is_idle = kernel.idle_page_lists_are_empty and zone.name == _LAST_RESORT
    return [
        _counter("nr_free_pages", free),
        *(_counter(name, 0) for name in idle_zone_counters(kernel)),
        "  pagesets",
        "    cpu: 0",
        "              count: 0",
        f"              high:  {0 if is_idle else max(marks[1], 4 * batch)}",
        f"              batch: {batch}",
        f"  vm stats threshold: {_stat_threshold(zone)}",
        "  node_unreclaimable:  0",
        f"  start_pfn:           {zone.start_pfn}",
    ]


def _counter(name: str, value: int) -> str:
    return f"      {name:<12} {value}"


def _min_free_pages(zones: Sequence[Zone]) -> int:
    """The value of vm.min_free_kbytes, in pages, with transparent huge pages on (set_recommended_min_free_kbytes)."""
    populated = [zone for zone in zones if zone.populated]
    recommended = _PAGES_PER_BLOCK * len(populated) * _BLOCKS_KEPT_FREE
    return min(recommended, sum(zone.managed for zone in populated) // 20)


#: The watermarks, lowest first.
_WATERMARKS = ("min", "low", "high", "promo")


@attrs.frozen
class _Reserve:
    """What the page allocator keeps free.

    Attributes:
        pages: in all zones together.
        managed: the pages of the zones that have a share in it.
        leaves_out_movable: whether Movable has none.
    """

    pages: int
    managed: int
    leaves_out_movable: bool

    @classmethod
    def of(cls, nodes: Mapping[int, Sequence[Zone]], kernel: Kernel) -> _Reserve:
        every_zone = [zone for zones in nodes.values() for zone in zones]
        without = kernel.movable_reserves_nothing
        managed = sum(zone.managed for zone in every_zone if not (without and zone.name == "Movable"))
        return cls(_min_free_pages(every_zone), managed, without)

    def watermarks(self, zone: Zone) -> tuple[int, ...]:
        """The watermarks of a zone, in pages (__setup_per_zone_wmarks)."""
        share = self.pages * zone.managed // self.managed if self.managed else 0
        step = max(share // 4, zone.managed // 1000)
        lowest = share
        if self.leaves_out_movable and zone.name == "Movable":
            lowest = max(_LEAST_PAGES, min(zone.managed // 1024, _MOST_PAGES))
        return tuple(lowest + number * step for number in range(len(_WATERMARKS)))


def _protection(zones: Sequence[Zone], index: int) -> list[int]:
    """Pages protected from allocations that a higher zone could serve (setup_per_zone_lowmem_reserve)."""
    ratio = LOWMEM_RESERVE_RATIO[zones[index].name]
    protection = []
    above = 0
    for other, zone in enumerate(zones):
        above += zone.managed if other > index else 0
        protection.append(above // ratio if ratio and zones[index].managed else 0)
    return protection


def _batch(zone: Zone) -> int:
    """Pages moved to a processor's list in one batch (zone_batchsize)."""
    quarter = max(1, min(zone.managed >> 10, MIB // PAGE_SIZE) // 4)
    return max(1, (1 << (quarter + quarter // 2).bit_length() - 1) - 1)


def _stat_threshold(zone: Zone) -> int:
    """The largest drift of a processor's counters (calculate_normal_threshold, mm/vmstat.c)."""
    blocks_of_128_mib = zone.managed >> (27 - PAGE_SHIFT)
    return min(125, 2 * (1 + blocks_of_128_mib.bit_length()))
