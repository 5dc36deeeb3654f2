"""Where a pfn or dax device puts its parts, as far as kernels differ.

`nvdimmfs.mm.pfn_layout` is the formula that these are the terms of.
"""

from __future__ import annotations

import enum
import errno

import attrs

from nvdimmfs.kernels.differences import Difference, Rules, errno_name, size
from nvdimmfs.units import KIB, PAGES_PER_SECTION, PMD_SIZE, SECTION_SIZE, SUBSECTION_SIZE

_INIT = "nd_pfn_init, drivers/nvdimm/pfn_devs.c (pmem.c before 4.9)"


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
class LayoutRules(Rules):
    """The terms of one kernel's formula."""

    minimum_size = Difference(
        "A namespace below this size is refused, ENODEV",
        _INIT,
        {"rfc": SECTION_SIZE, "4.5": 0},
        show=size,
    )
    start_alignment = Difference(
        "What the namespace's address must be a multiple of",
        _INIT,
        {"rfc": SECTION_SIZE, "4.5": 1, "5.7": SUBSECTION_SIZE},
        show=size,
    )
    start_errno = Difference(
        "What an address that is not such a multiple gives",
        _INIT,
        {"rfc": errno.ENODEV, "5.7": errno.EINVAL},
        show=errno_name,
    )
    collisions = Difference(
        "Who costs a device the rest of its first or last section by being there",
        _INIT,
        {
            "rfc": Collisions.IGNORED,
            "4.6": Collisions.SYSTEM_RAM,
            "4.15": Collisions.SYSTEM_RAM_AND_REGIONS,
            "5.7": Collisions.IGNORED,
        },
    )
    uses_align = Difference("The align attribute counts", _INIT, {"rfc": False, "4.5": True})
    minimum_alignment_pmem = Difference(
        "Mode pmem aligns its data to no less than this",
        _INIT,
        {"rfc": PMD_SIZE, "4.5": 1, "4.15": PMD_SIZE},
        show=size,
    )
    minimum_alignment_ram = Difference(
        "Mode ram aligns its data to no less than this",
        _INIT,
        {"rfc": PMD_SIZE, "4.3": 1, "5.7": SUBSECTION_SIZE},
        show=size,
    )
    aligns_address = Difference(
        "The address of the data is aligned, not its offset in the namespace",
        _INIT,
        {"rfc": False, "4.6": True},
    )
    trims_end = Difference(
        "What lies behind the last aligned address is left unused",
        _INIT,
        {"rfc": False, "4.15": True},
    )
    memmap_counts_end = Difference(
        "The memmap has room for what is cut off the end, too",
        _INIT,
        {"rfc": False, "5.7": True},
    )
    memmap_pages = Difference(
        "The memmap has room for a multiple of so many pages",
        _INIT,
        {"rfc": 1, "4.15": PAGES_PER_SECTION, "5.7": 1},
    )
    memmap_size = Difference(
        "The memmap's own size is a multiple of this",
        _INIT,
        {"rfc": 1, "4.6": PMD_SIZE, "4.15": 1},
        show=size,
    )
    dax_reserve = Difference(
        "A dax device keeps this for a label that never came",
        _INIT,
        {"rfc": 0, "4.9": 128 * KIB, "5.2": 0},
        show=size,
    )
    capacity = Difference(
        "What must be less than the namespace's size, or ENXIO",
        _INIT,
        {
            "rfc": CapacityCheck.NONE,
            "4.6": CapacityCheck.OFFSET_AND_PADS,
            "5.7": CapacityCheck.OFFSET,
            "6.12": CapacityCheck.OFFSET_AND_END,
        },
    )
    mode_pmem = Difference(
        "Mode pmem has a layout (else ENXIO)",
        "nvdimm_namespace_attach_pfn, drivers/nvdimm/pmem.c",
        {"rfc": True, "4.3": False, "4.5": True},
    )
    ram_offset_is_fixed = Difference(
        "Mode ram is bound only with its data 8 KiB into the namespace (else EINVAL)",
        "nvdimm_namespace_attach_pfn, drivers/nvdimm/pmem.c",
        {"rfc": True, "4.5": False},
    )
    minor = Difference(
        "Minor version of the info block that is written; younger fields are neither written nor read",
        "drivers/nvdimm/pfn.h; nd_pfn_init",
        {"rfc": 0, "4.6": 1, "4.9": 2, "4.15": 3, "4.20": 2, "5.7": 4},
    )
