"""What differs between kernels in the page engine and in pfn devices, one entry of data a difference.

The versions are samples: a value holds for the kernel that it stands at, and the exact release of a change lies
between two of them.  `rfc` is the series "'struct page' driver for persistent memory" of August 2015.
"""

from __future__ import annotations

import enum
import errno

import attrs

from nvdimmfs.mm.units import KIB, PAGES_PER_SECTION, PMD_SIZE, SECTION_SIZE, SUBSECTION_SIZE

#: Bytes at the start of a namespace that hold the info block, before the memmap (SZ_8K in drivers/nvdimm/pfn_devs.c).
INFO_BLOCK_RESERVE = 8 * KIB


class Collisions(enum.Enum):
    """Which neighbours within a section make a pfn device pad its start and cut its end."""

    IGNORED = enum.auto()
    SYSTEM_RAM = enum.auto()
    SYSTEM_RAM_AND_REGIONS = enum.auto()


class CapacityCheck(enum.Enum):
    """What must be less than the size of the namespace, or ENXIO."""

    NONE = enum.auto()
    OFFSET = enum.auto()
    OFFSET_AND_END = enum.auto()
    OFFSET_AND_PADS = enum.auto()


@attrs.frozen
class LayoutRules:
    """How nd_pfn_init works out where the parts of a namespace lie (nd/pmem.c until 4.9, nd/pfn_devs.c since).

    Attributes:
        minimum_size: a smaller namespace is ENODEV.
        start_alignment: of the namespace's address; a misaligned one is `start_errno`.
        collisions: whose presence in the first or last section costs the rest of that section.
        minimum_alignment_pmem, minimum_alignment_ram: the data is never aligned to less, whatever the attribute says.
        uses_align: whether the align attribute counts at all.
        aligns_address: the address of the data is aligned, rather than its offset.
        trims_end: what lies after the last aligned address is left unused.
        memmap_counts_end: the memmap is sized for what is cut off the end as well.
        memmap_pages: the memmap is sized for a multiple of so many pages.
        memmap_size: and to a multiple of so many bytes.
        dax_reserve: bytes that a dax device keeps for a label that never came.
        capacity: see CapacityCheck.
        mode_pmem: False where mode pmem is worked out and then refused, ENXIO.
        minor: version_minor of the info block that is written.
    """

    minimum_size: int = 0
    start_alignment: int = 1
    start_errno: int = errno.ENODEV
    collisions: Collisions = Collisions.IGNORED
    minimum_alignment_pmem: int = 1
    minimum_alignment_ram: int = 1
    uses_align: bool = True
    aligns_address: bool = True
    trims_end: bool = False
    memmap_counts_end: bool = False
    memmap_pages: int = 1
    memmap_size: int = 1
    dax_reserve: int = 0
    capacity: CapacityCheck = CapacityCheck.OFFSET_AND_PADS
    mode_pmem: bool = True
    minor: int = 0


class RamRule(enum.Enum):
    """What registering does when the range is System RAM in part (MIXED) or in full."""

    UNCHECKED = enum.auto()
    LINEAR = enum.auto()
    """In part: ENXIO.  In full: the linear address, and nothing is registered."""
    REFUSED = enum.auto()
    """ENXIO either way."""


class ConflictRule(enum.Enum):
    """How registering notices another registered range."""

    UNCHECKED = enum.auto()
    SECTIONS = enum.auto()
    """EBUSY when any section of it is registered."""
    ENDS = enum.auto()
    """ENOMEM when its first or its last page is registered."""


@attrs.frozen
class Kernel:
    """One kernel, as far as this package tells kernels apart.

    Attributes:
        name: what `--kernel` takes.
        release: what uname -r would begin with.
        layout: where a pfn device puts its parts.
        granularity: what device memory is added in; 128 MiB, and since 5.3 2 MiB.
        rounds_out: a misaligned range is widened to the granularity (else EINVAL).
        ignores_populated: a section that is there already is taken as it is (else EEXIST).
        ram: see RamRule.
        conflicts: see ConflictRule.
        failure_errno: what every failure to register is reported as; None: as what it is.
        altmap_skips_reserve: allocations begin behind the reserved pages (the RFC began at the base).
        device_zone_shrinks: ZONE_DEVICE's span shrinks when a range at its edge goes
            (zone_is_zone_device in remove_pfn_range_from_zone, mm/memory_hotplug.c, stops that by 6.1).
        shares_tail_pages: the memmap of compound pages in RAM is deduplicated (vmemmap_can_optimize, by 6.1).
        page_offset: virtual address of physical address 0 in the direct map, with 4 and with 5 levels of page tables.
        pfn_attributes: of a pfn device, beside those of every device.
        mode_pmem_errno: what writing `pmem` to mode gives; 0 for success.
        align_format: how the align attribute shows bytes.
        raw_pagemap: a raw legacy namespace is mapped with struct pages.
    """

    name: str
    release: str
    layout: LayoutRules
    granularity: int = SECTION_SIZE
    rounds_out: bool = True
    ignores_populated: bool = True
    ram: RamRule = RamRule.REFUSED
    conflicts: ConflictRule = ConflictRule.ENDS
    failure_errno: int | None = None
    altmap_skips_reserve: bool = True
    device_zone_shrinks: bool = True
    shares_tail_pages: bool = False
    page_offset: tuple[int, int] = (0xFFFF_8880_0000_0000, 0xFF11_0000_0000_0000)
    pfn_attributes: tuple[str, ...] = ("mode", "align", "uuid", "namespace", "resource", "size", "supported_alignments")
    mode_pmem_errno: int = 0
    align_format: str = "d"
    raw_pagemap: bool = True


#: The direct map before 4.20 (Documentation/x86/x86_64/mm.txt); the second is 5-level paging's, unknown to them.
_OLD_PAGE_OFFSET = (0xFFFF_8800_0000_0000, 0xFF10_0000_0000_0000)

_RFC_ATTRIBUTES = ("mode", "uuid", "namespace")

_PADDED_LAYOUT = LayoutRules(
    collisions=Collisions.SYSTEM_RAM,
    memmap_size=PMD_SIZE,
    capacity=CapacityCheck.OFFSET_AND_PADS,
    minor=1,
)

_TRIMMED_LAYOUT = LayoutRules(
    collisions=Collisions.SYSTEM_RAM_AND_REGIONS,
    minimum_alignment_pmem=PMD_SIZE,
    trims_end=True,
    memmap_pages=PAGES_PER_SECTION,
    capacity=CapacityCheck.OFFSET_AND_PADS,
    minor=2,
)

_ALIGNED_LAYOUT = LayoutRules(
    start_alignment=SUBSECTION_SIZE,
    start_errno=errno.EINVAL,
    minimum_alignment_pmem=SUBSECTION_SIZE,
    minimum_alignment_ram=SUBSECTION_SIZE,
    trims_end=True,
    memmap_counts_end=True,
    capacity=CapacityCheck.OFFSET,
    minor=4,
)

#: The series as mailed on 13 August 2015: patches 3, 4, 6 and 7 of 7.
KERNEL_RFC = Kernel(
    name="rfc",
    release="4.2.0-rc6",
    layout=LayoutRules(
        minimum_size=SECTION_SIZE,
        start_alignment=SECTION_SIZE,
        minimum_alignment_pmem=PMD_SIZE,
        minimum_alignment_ram=PMD_SIZE,
        uses_align=False,
        aligns_address=False,
        capacity=CapacityCheck.NONE,
    ),
    ram=RamRule.UNCHECKED,
    conflicts=ConflictRule.UNCHECKED,
    failure_errno=errno.ENOMEM,
    altmap_skips_reserve=False,
    page_offset=_OLD_PAGE_OFFSET,
    pfn_attributes=_RFC_ATTRIBUTES,
    raw_pagemap=False,
)

#: What was merged of it: the memmap in RAM only (drivers/nvdimm/pmem.c and kernel/memremap.c, 4.3 and 4.4).
KERNEL_4_3 = Kernel(
    name="4.3",
    release="4.3.0",
    layout=LayoutRules(
        minimum_size=SECTION_SIZE,
        start_alignment=SECTION_SIZE,
        minimum_alignment_pmem=PMD_SIZE,
        uses_align=False,
        aligns_address=False,
        capacity=CapacityCheck.NONE,
        mode_pmem=False,
    ),
    ram=RamRule.LINEAR,
    conflicts=ConflictRule.UNCHECKED,
    page_offset=_OLD_PAGE_OFFSET,
    pfn_attributes=_RFC_ATTRIBUTES,
    mode_pmem_errno=errno.ENOTTY,
)

#: vmem_altmap, mode pmem and align arrive.
KERNEL_4_5 = Kernel(
    name="4.5",
    release="4.5.0",
    layout=LayoutRules(aligns_address=False, capacity=CapacityCheck.NONE),
    ram=RamRule.LINEAR,
    conflicts=ConflictRule.SECTIONS,
    page_offset=_OLD_PAGE_OFFSET,
    pfn_attributes=("mode", "align", "uuid", "namespace"),
    align_format="x",
)

#: start_pad and end_trunc, for sections shared with System RAM.
KERNEL_4_6 = attrs.evolve(
    KERNEL_4_5,
    name="4.6",
    release="4.6.2",
    layout=_PADDED_LAYOUT,
    pfn_attributes=("mode", "align", "uuid", "namespace", "resource", "size"),
)

#: dax devices, which keep 128 KiB for a label.
KERNEL_4_9 = attrs.evolve(
    KERNEL_4_6,
    name="4.9",
    release="4.9.0",
    layout=attrs.evolve(_PADDED_LAYOUT, dax_reserve=128 * KIB, minor=2),
)

KERNEL_4_15 = Kernel(
    name="4.15",
    release="4.15.18",
    layout=attrs.evolve(_TRIMMED_LAYOUT, dax_reserve=128 * KIB, minor=3),
    page_offset=_OLD_PAGE_OFFSET,
)

KERNEL_4_20 = Kernel(
    name="4.20",
    release="4.20.0",
    layout=attrs.evolve(_TRIMMED_LAYOUT, dax_reserve=128 * KIB),
    ram=RamRule.LINEAR,
)

KERNEL_5_2 = Kernel(name="5.2", release="5.2.1", layout=_TRIMMED_LAYOUT)

#: Subsections: ranges are 2 MiB aligned and no longer padded.
KERNEL_5_7 = Kernel(
    name="5.7",
    release="5.7.14",
    layout=_ALIGNED_LAYOUT,
    granularity=SUBSECTION_SIZE,
    rounds_out=False,
    ignores_populated=False,
    device_zone_shrinks=False,
)

#: The reference: what everything is unless a machine asks for another kernel.
KERNEL_6_1 = attrs.evolve(KERNEL_5_7, name="6.1", release="6.1.0", shares_tail_pages=True)

KERNEL_6_12 = attrs.evolve(
    KERNEL_6_1,
    name="6.12",
    release="6.12.0",
    layout=attrs.evolve(_ALIGNED_LAYOUT, capacity=CapacityCheck.OFFSET_AND_END),
)

#: Every kernel here by name, oldest first.
KERNELS = {
    kernel.name: kernel
    for kernel in (
        KERNEL_RFC,
        KERNEL_4_3,
        KERNEL_4_5,
        KERNEL_4_6,
        KERNEL_4_9,
        KERNEL_4_15,
        KERNEL_4_20,
        KERNEL_5_2,
        KERNEL_5_7,
        KERNEL_6_1,
        KERNEL_6_12,
    )
}

#: Those that a machine can be started as.
EMULATED_KERNELS = ("rfc", "4.3", "4.5", "6.1")
