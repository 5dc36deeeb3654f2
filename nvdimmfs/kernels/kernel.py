"""Kernel releases, and differences between them in memory management.

Other differences are in `layout_rules`, `info_block_rules`, `device_rules` and `disk_rules`.  A `Kernel` gives access
to all of them.
"""

from __future__ import annotations

import enum
import errno
from typing import TypeVar

import attrs

from nvdimmfs.kernels.device_rules import DeviceRules
from nvdimmfs.kernels.differences import RFC, Difference, Rules, errno_name, listed, size, version
from nvdimmfs.kernels.disk_rules import DiskRules
from nvdimmfs.kernels.info_block_rules import InfoBlockRules
from nvdimmfs.kernels.layout_rules import LayoutRules
from nvdimmfs.units import KIB, MIB, SECTION_SIZE, SUBSECTION_SIZE

RulesT = TypeVar("RulesT", bound=Rules)

#: Bytes at the start of a namespace that hold the info block, before the memmap (SZ_8K in drivers/nvdimm/pfn_devs.c,
#: nd_info_block_reserve since Linux 5.7).
INFO_BLOCK_RESERVE = 8 * KIB

#: Virtual address of physical address 0 before 4.20 (Documentation/x86/x86_64/mm.txt) with 4-level and with 5-level
#: paging; the oldest kernels do not support the latter.
_OLD_PAGE_OFFSET = (0xFFFF_8800_0000_0000, 0xFF10_0000_0000_0000)
_PAGE_OFFSET = (0xFFFF_8880_0000_0000, 0xFF11_0000_0000_0000)


#: Lines of files about memory that came after a release.
_LINES_AFTER_6_8 = frozenset({"nr_iommu_pages", "promo"})
_LINES_AFTER_6_6 = _LINES_AFTER_6_8 | {"pgdemote_kswapd", "pgdemote_direct", "pgdemote_khugepaged"}
_LINES_AFTER_6_1 = _LINES_AFTER_6_6 | {"nr_unaccepted", "Unaccepted"}
_LINES_AFTER_5_15 = _LINES_AFTER_6_1 | {
    *("nr_throttled_written", "nr_sec_page_table_pages", "pgpromote_success", "pgpromote_candidate", "boost"),
    *("SecPageTables", "Zswap", "Zswapped"),
}
_LINES_AFTER_5_10 = _LINES_AFTER_5_15 | {"nr_swapcached", "cma", "SwapCached of a node"}
_LATER_LINES = {"6.1": _LINES_AFTER_6_1, "6.6": _LINES_AFTER_6_6, "6.8": _LINES_AFTER_6_8, "6.12": frozenset[str]()}


class RamRule(enum.Enum):
    """How registration treats a range that overlaps System RAM, in part (the kernel's REGION_MIXED) or in full."""

    UNCHECKED = enum.auto()
    LINEAR = enum.auto()
    """In part: ENXIO.  In full: the linear address, and nothing is registered."""
    REFUSED = enum.auto()
    """ENXIO either way."""


class ConflictRule(enum.Enum):
    """How registration detects an overlap with another registered range."""

    UNCHECKED = enum.auto()
    SECTIONS = enum.auto()
    """EBUSY when any section of it is registered."""
    ENDS = enum.auto()
    """ENOMEM when its first or its last page is registered."""


class PfnFlagBits(enum.Enum):
    """Where a pfn_t, a page frame number with flags, keeps the flags."""

    NONE = enum.auto()
    """There is no pfn_t."""
    LOW = enum.auto()
    """Below the address of the page."""
    HIGH = enum.auto()
    """In the top bits, beside the page frame number."""


def _addresses(values: tuple[int, ...]) -> str:
    return " or ".join(f"{value:#x}" for value in values)


def _rules(kind: type[RulesT]) -> RulesT:
    """The default of a field: the rules of one kind for the release."""
    default: RulesT = attrs.Factory(lambda kernel: kind(kernel.version), takes_self=True)
    return default


@attrs.frozen
class Kernel(Rules):
    """One kernel release with all differences that this program knows.

    Attributes:
        name: the argument of `--kernel`.
        release: the beginning of `uname -r`.
        layout: layout of pfn devices.
        info_block: reading and writing the info block of pfn and dax devices.
        devices: other differences in devices.
        disks: differences in disks.
    """

    name: str
    release: str
    layout: LayoutRules = attrs.field(init=False, repr=False, default=_rules(LayoutRules))
    info_block: InfoBlockRules = attrs.field(init=False, repr=False, default=_rules(InfoBlockRules))
    devices: DeviceRules = attrs.field(init=False, repr=False, default=_rules(DeviceRules))
    disks: DiskRules = attrs.field(init=False, repr=False, default=_rules(DiskRules))

    low_memory = Difference(
        "RAM below this address is reserved by the kernel",
        "reserve_real_mode, arch/x86/realmode/init.c; trim_low_memory_range, arch/x86/kernel/setup.c",
        {"rfc": 64 * KIB, "5.15": MIB},
        show=size,
    )
    granularity = Difference(
        "Unit in which device memory is added",
        "sparse_add_section, mm/sparse.c",
        {"rfc": SECTION_SIZE, "5.7": SUBSECTION_SIZE},
        show=size,
    )
    rounds_out = Difference(
        "A misaligned range is rounded out to whole sections, and a section that is present already is reused (else "
        "EINVAL and EEXIST)",
        "devm_memremap_pages, kernel/memremap.c; memremap_pages, mm/memremap.c",
        {"rfc": True, "5.7": False},
    )
    ram = Difference(
        "Registering a range that is System RAM in full (one that is RAM in part is ENXIO, unless unchecked)",
        "devm_memremap_pages, kernel/memremap.c; register_dev_memmap in the RFC",
        {
            "rfc": RamRule.UNCHECKED,
            "4.3": RamRule.LINEAR,
            "4.15": RamRule.REFUSED,
            "4.20": RamRule.LINEAR,
            "5.2": RamRule.REFUSED,
        },
    )
    ram_within_sections = Difference(
        "That check covers the whole sections that the range touches",
        "devm_memremap_pages, kernel/memremap.c; memremap_pages, mm/memremap.c",
        {"rfc": False, "4.5": True, "5.7": False},
    )
    conflicts = Difference(
        "How registration detects an overlap with another range (by sections: EBUSY; by first and last page: ENOMEM)",
        "devm_memremap_pages, kernel/memremap.c; register_dev_memmap in the RFC",
        {"rfc": ConflictRule.UNCHECKED, "4.5": ConflictRule.SECTIONS, "4.15": ConflictRule.ENDS},
    )
    failure_errno = Difference[int | None](
        "Errno of every failed registration",
        "register_dev_memmap returns NULL, nvdimm_namespace_attach_pfn of the RFC's patch 7",
        {"rfc": errno.ENOMEM, "4.3": None},
        show=errno_name,
    )
    altmap_skips_reserve = Difference(
        "Allocations in the altmap begin after the info block (else at the base)",
        "vmem_altmap_alloc, the RFC's patch 3; altmap_alloc_block_buf, mm/sparse-vmemmap.c",
        {"rfc": False, "4.3": True},
    )
    device_zone_shrinks = Difference(
        "The span of ZONE_DEVICE shrinks when a range at its edge is removed",
        "remove_pfn_range_from_zone, mm/memory_hotplug.c",
        {"rfc": True, "5.7": False},
    )
    shares_tail_pages = Difference(
        "The memmap of compound pages in RAM is deduplicated",
        "vmemmap_can_optimize, mm/sparse-vmemmap.c",
        {"rfc": False, "6.1": True},
    )
    tracks_bad_blocks = Difference(
        "A memory block with bad pages cannot go online again (EHWPOISON), and HardwareCorrupted does not include bad "
        "pages that were removed with their memory",
        "memory_block_online, drivers/base/memory.c; clear_hwpoisoned_pages, mm/sparse.c",
        {"rfc": False, "6.6": True},
        commit="5033091de814 mm/hwpoison: introduce per-memory_block hwpoison counter",
    )
    reports_bad_pages_again = Difference(
        "Writing the address of a page that is bad already to `hard_offline_page` is EHWPOISON (else accepted)",
        "memory_failure, mm/memory-failure.c",
        {"rfc": False, "5.15": True},
    )
    auto_online_blocks = Difference(
        "`auto_online_blocks` at boot: whether memory that a driver adds is put online at once",
        "CONFIG_MEMORY_HOTPLUG_DEFAULT_ONLINE of Debian's kernels",
        {"rfc": "offline", "6.12": "online"},
    )
    aligns_node_meminfo = Difference(
        "FileHugePages and FilePmdMapped in the meminfo of a node are aligned with the other lines",
        "node_read_meminfo, drivers/base/node.c",
        {"rfc": False, "6.6": True},
        commit="mm,thp: fix nodeN/meminfo output alignment",
    )
    missing_lines = Difference(
        "Lines that /proc/zoneinfo, /proc/meminfo and a node's `meminfo` and `vmstat` do not have",
        "vmstat_text, zoneinfo_show_print, mm/vmstat.c; node_read_meminfo, drivers/base/node.c; fs/proc/meminfo.c",
        {"rfc": _LINES_AFTER_5_10, "5.15": _LINES_AFTER_5_15, **_LATER_LINES},
        show=listed,
        commit="of `promo`: mm: print the promo watermark in zoneinfo",
    )
    page_tables_count_by_zone = Difference(
        "`nr_page_table_pages` is a counter of a zone (else of a node)",
        "zone_stat_item, node_stat_item; include/linux/mmzone.h",
        {"rfc": True, "5.15": False},
    )
    movable_reserves_nothing = Difference(
        "The zone Movable has no share of the reserve: its lowest watermark is a thousandth of it, 32 pages at least, "
        "128 at most (else its share)",
        "__setup_per_zone_wmarks, mm/page_alloc.c",
        {"rfc": False, "6.6": True},
        commit="mm/page_alloc: fix min_free_kbytes calculation regarding ZONE_MOVABLE",
    )
    idle_page_lists_are_empty = Difference(
        "The page list of a processor for a zone that nothing is allocated from, as DMA, has 0 as `high` (else as for "
        "other zones)",
        "zone_set_pageset_high_and_batch, mm/page_alloc.c",
        {"rfc": False, "6.8": True},
        commit="51a755c56dc0 mm: tune PCP high automatically",
    )
    pfn_flags = Difference(
        "Where a pfn_t keeps its flags: below the address of the page, or in the top bits",
        '__pfn_t in v5 of the series "introduce __pfn_t for unmapped pfn I/O"; include/linux/pfn_t.h',
        {"rfc": PfnFlagBits.LOW, "4.3": PfnFlagBits.NONE, "4.5": PfnFlagBits.HIGH},
    )
    page_offset = Difference(
        "Virtual address of physical address 0 in the direct map, with 4 or with 5 levels of page tables",
        "Documentation/x86/x86_64/mm.rst",
        {"rfc": _OLD_PAGE_OFFSET, "4.20": _PAGE_OFFSET},
        show=_addresses,
    )


def _kernel(name: str, release: str) -> Kernel:
    return Kernel(version(name), name, release)


#: Every kernel whose source was read, by name, oldest first.  `rfc` is the series as mailed on 13 August 2015.
KERNELS = {
    name: _kernel(name, release)
    for name, release in (
        (RFC, "4.2.0-rc6"),
        ("4.3", "4.3.0"),
        ("4.5", "4.5.0"),
        ("4.6", "4.6.2"),
        ("4.9", "4.9.0"),
        ("4.15", "4.15.18"),
        ("4.20", "4.20.0"),
        ("5.2", "5.2.1"),
        ("5.7", "5.7.14"),
        ("5.10", "5.10.0"),
        ("5.15", "5.15.0"),
        ("6.1", "6.1.0"),
        ("6.6", "6.6.0"),
        ("6.8", "6.8.0"),
        ("6.12", "6.12.0"),
    )
}

#: The reference kernel, which is also the default of a machine.
KERNEL_6_1 = KERNELS["6.1"]

#: The kernels that a machine can be started with.
EMULATED_KERNELS = (RFC, "4.3", "4.5", "5.10", "5.15", "6.1", "6.6", "6.8", "6.12")
