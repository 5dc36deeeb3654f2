"""/proc/meminfo, /proc/buddyinfo, and the texts of a node about its memory (Linux 6.1).

fs/proc/meminfo.c, mm/vmstat.c and drivers/base/node.c.  As in /proc/zoneinfo, counters that change only on a running
system are 0, because no process runs on the machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import attrs

from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.zone import Zone
from nvdimmfs.mm.zoneinfo import idle_zone_counters, node_counters, reserved_pages
from nvdimmfs.units import GIB, KIB, PAGE_SIZE, PMD_SIZE, align_down, align_up

#: Orders of the buddy allocator: blocks of 1 to 1024 pages (MAX_ORDER, include/linux/mmzone.h, Linux 6.1).
_ORDERS = 11

#: Pages that processes may commit to, in percent of RAM (vm.overcommit_ratio).
_OVERCOMMIT_RATIO = 50

#: The size of the vmalloc area with four levels of page tables and with five, bytes (pgtable_64_types.h).
_VMALLOC_4_LEVELS = 32 << 40
_VMALLOC_5_LEVELS = 12800 << 40

#: A line that the system has longer than its nodes.
_SWAP_CACHED = "SwapCached"

#: What the first bytes of a process's or the kernel's memory are used for, in the order of /proc/meminfo and of a node.
_USES = (
    _SWAP_CACHED,
    "Active",
    "Inactive",
    "Active(anon)",
    "Inactive(anon)",
    "Active(file)",
    "Inactive(file)",
    "Unevictable",
    "Mlocked",
)
_NODE_USES = (
    *_USES,
    "Dirty",
    "Writeback",
    "FilePages",
    "Mapped",
    "AnonPages",
    "Shmem",
    "KernelStack",
    "PageTables",
    "SecPageTables",
    "NFS_Unstable",
    "Bounce",
    "WritebackTmp",
    "KReclaimable",
    "Slab",
    "SReclaimable",
    "SUnreclaim",
)
_SYSTEM_USES = (
    *_USES,
    "SwapTotal",
    "SwapFree",
    "Zswap",
    "Zswapped",
    "Dirty",
    "Writeback",
    "AnonPages",
    "Mapped",
    "Shmem",
    "KReclaimable",
    "Slab",
    "SReclaimable",
    "SUnreclaim",
    "KernelStack",
    "PageTables",
    "SecPageTables",
    "NFS_Unstable",
    "Bounce",
    "WritebackTmp",
)
_HUGE_USES = ("AnonHugePages", "ShmemHugePages", "ShmemPmdMapped")
#: These stand one column further to the left in the file of a node.
_FILE_USES = ("FileHugePages", "FilePmdMapped")

#: Memory that the firmware of a confidential guest has not accepted yet.
_UNACCEPTED = "Unaccepted"

_NUMA_EVENTS = ("numa_hit", "numa_miss", "numa_foreign", "interleave_hit", "local_node", "other_node")


@attrs.frozen
class _Totals:
    """Pages of some zones: those that the page allocator manages, and those that are free."""

    managed: int
    free: int

    @classmethod
    def of(cls, memory: Memory, zones: Iterable[Zone]) -> _Totals:
        zones = list(zones)
        return cls(sum(zone.managed for zone in zones), sum(memory.free_pages(zone) for zone in zones))


def meminfo_text(memory: Memory) -> str:
    """/proc/meminfo."""
    zones = [zone for each in memory.zones.values() for zone in each]
    totals = _Totals.of(memory, zones)
    huge = sum(memory.huge_pages.bytes_of(nid) for nid in memory.zones)
    count = sum(memory.huge_pages.count(nid, PMD_SIZE) for nid in memory.zones)
    limit = (totals.managed - huge // PAGE_SIZE) * _OVERCOMMIT_RATIO // 100
    vmalloc = _VMALLOC_5_LEVELS if memory.space.has_five_levels else _VMALLOC_4_LEVELS
    kilobytes = {
        "MemTotal": _kilobytes(totals.managed),
        "MemFree": _kilobytes(totals.free),
        "MemAvailable": _kilobytes(max(0, totals.free - reserved_pages(memory.zones, memory.kernel))),
        "Buffers": 0,
        "Cached": 0,
        **dict.fromkeys(_SYSTEM_USES, 0),
        "CommitLimit": _kilobytes(limit),
        "Committed_AS": 0,
        "VmallocTotal": (vmalloc - 1) // KIB,
        "VmallocUsed": 0,
        "VmallocChunk": 0,
        "Percpu": 0,
        "HardwareCorrupted": _kilobytes(memory.bad_pages.counted),
        **dict.fromkeys((*_HUGE_USES, *_FILE_USES), 0),
    }
    kilobytes[_UNACCEPTED] = 0
    missing = memory.kernel.missing_lines
    lines = [_line(name, number) for name, number in kilobytes.items() if name not in missing]
    for name, number in (("Total", count), ("Free", count), ("Rsvd", 0), ("Surp", 0)):
        lines.append(f"HugePages_{name + ':':<6}{number:>8}")
    lines += [_line("Hugepagesize", PMD_SIZE // KIB), _line("Hugetlb", huge // KIB)]
    lines += [_line(f"DirectMap{name}", size // KIB) for name, size in _direct_map(memory).items()]
    return "".join(f"{line}\n" for line in lines)


def node_meminfo_text(memory: Memory, nid: int) -> str:
    """Meminfo of a node (node_read_meminfo)."""
    totals = _Totals.of(memory, memory.zones[nid])
    kilobytes = {
        "MemTotal": _kilobytes(totals.managed),
        "MemFree": _kilobytes(totals.free),
        "MemUsed": _kilobytes(totals.managed - totals.free),
        **dict.fromkeys((*_NODE_USES, *_HUGE_USES), 0),
    }
    missing = memory.kernel.missing_lines
    if f"{_SWAP_CACHED} of a node" in missing:
        del kilobytes[_SWAP_CACHED]
    lines = [f"Node {nid} {_line(name, number)}" for name, number in kilobytes.items() if name not in missing]
    width = 16 if memory.kernel.aligns_node_meminfo else 15
    lines += [f"Node {nid} {name + ':':<{width}}{0:>8} kB" for name in _FILE_USES]
    if _UNACCEPTED not in missing:
        lines.append(f"Node {nid} {_line(_UNACCEPTED, 0)}")
    count = memory.huge_pages.count(nid, PMD_SIZE)
    for name, number in (("Total", count), ("Free", count), ("Surp", 0)):
        lines.append(f"Node {nid} HugePages_{name + ':':<7}{number:>5}")
    return "".join(f"{line}\n" for line in lines)


def node_vmstat_text(memory: Memory, nid: int) -> str:
    """Vmstat of a node (node_read_vmstat)."""
    free = _Totals.of(memory, memory.zones[nid]).free
    counters = {
        "nr_free_pages": free,
        **dict.fromkeys((*idle_zone_counters(memory.kernel), *node_counters(memory.kernel)), 0),
    }
    return "".join(f"{name} {number}\n" for name, number in counters.items())


def node_numastat_text() -> str:
    """Numastat of a node (node_read_numastat)."""
    return "".join(f"{name} 0\n" for name in _NUMA_EVENTS)


def buddyinfo_text(memory: Memory) -> str:
    """/proc/buddyinfo: the free blocks of each size, of the zones that have pages."""
    lines = []
    for zone in (zone for zones in memory.zones.values() for zone in zones if zone.populated):
        counts = _blocks(memory.free_ranges(zone))
        numbers = "".join(f"{counts.get(order, 0):>6} " for order in range(_ORDERS))
        lines.append(f"Node {zone.nid}, zone {zone.name:>8} {numbers}\n")
    return "".join(lines)


def _blocks(free: Iterable[tuple[int, int]]) -> Mapping[int, int]:
    """The number of blocks of each order that free page frames are merged to."""
    counts: dict[int, int] = {}
    for first, end in free:
        for order in range(_ORDERS - 1):  # up to where the next larger block is aligned
            if first & 1 << order and first + (1 << order) <= end:
                counts[order] = counts.get(order, 0) + 1
                first += 1 << order
        largest, rest = divmod(end - first, 1 << _ORDERS - 1)
        counts[_ORDERS - 1] = counts.get(_ORDERS - 1, 0) + largest
        for order in range(_ORDERS - 1):
            counts[order] = counts.get(order, 0) + (rest >> order & 1)
    return counts


def _direct_map(memory: Memory) -> Mapping[str, int]:
    """Bytes of RAM that the kernel maps with pages of each size."""
    sizes = {"4k": 0, "2M": 0, "1G": 0}
    for first, end in memory.ram:
        start, stop = first * PAGE_SIZE, end * PAGE_SIZE
        large, huge = _aligned(start, stop, PMD_SIZE), _aligned(start, stop, GIB)
        sizes["1G"] += huge
        sizes["2M"] += large - huge
        sizes["4k"] += stop - start - large
    return sizes


def _aligned(start: int, end: int, size: int) -> int:
    return max(0, align_down(end, size) - align_up(start, size))


def _kilobytes(pages: int) -> int:
    return pages * (PAGE_SIZE // KIB)


def _line(name: str, number: int) -> str:
    """A line of 24 characters before the unit, or more for a large number."""
    label = f"{name}:".ljust(16) if len(name) < 16 else f"{name}: "
    return f"{label}{number:>{24 - len(label)}} kB"


def node_list(nodes: Iterable[int]) -> str:
    """Numbers as ranges, such as 0-1,3 (bitmap_print_list)."""
    return ",".join(f"{first}-{last}" if first < last else str(first) for first, last in _ranges(nodes))


def _ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    first = last = None
    for number in sorted(numbers):
        if first is not None and last is not None and number == last + 1:
            last = number
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = number
    if first is not None and last is not None:
        yield first, last
