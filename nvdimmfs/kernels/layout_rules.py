"""Differences between kernels in the layout of pfn and dax devices.

`nvdimmfs.mm.pfn_layout` is the formula; these are its terms.
"""

from __future__ import annotations

import enum
import errno

import attrs

from nvdimmfs.kernels.differences import Difference, Rules, errno_name, size
from nvdimmfs.units import KIB, PAGES_PER_SECTION, PMD_SIZE, SECTION_SIZE, SUBSECTION_SIZE

_INIT = "nd_pfn_init, drivers/nvdimm/pfn_devs.c (pmem.c before 4.9)"


class Collisions(enum.Enum):
    """Which neighbours in the same section make a pfn device pad its start and truncate its end."""

    IGNORED = enum.auto()
    SYSTEM_RAM = enum.auto()
    SYSTEM_RAM_AND_REGIONS = enum.auto()


class CapacityCheck(enum.Enum):
    """The sum that must be less than the size of the namespace, or ENXIO."""

    NONE = enum.auto()
    OFFSET = enum.auto()
    OFFSET_BELOW_END = enum.auto()
    OFFSET_AND_PADS = enum.auto()


@attrs.frozen
class LayoutRules(Rules):
    """The terms of the layout formula in one kernel."""

    minimum_size = Difference(
        "Smallest namespace with a layout; a smaller one is ENODEV",
        _INIT,
        {"rfc": SECTION_SIZE, "4.5": 0},
        show=size,
    )
    start_alignment = Difference(
        "Required alignment of the namespace's address",
        _INIT,
        {"rfc": SECTION_SIZE, "4.5": 1, "5.7": SUBSECTION_SIZE},
        show=size,
    )
    start_errno = Difference(
        "Errno for an address without that alignment",
        _INIT,
        {"rfc": errno.ENODEV, "5.7": errno.EINVAL},
        show=errno_name,
    )
    collisions = Difference(
        "Neighbours that make a device leave its part of its first or last section unused",
        _INIT,
        {
            "rfc": Collisions.IGNORED,
            "4.6": Collisions.SYSTEM_RAM,
            "4.15": Collisions.SYSTEM_RAM_AND_REGIONS,
            "5.7": Collisions.IGNORED,
        },
    )
    uses_align = Difference("The layout depends on the align attribute", _INIT, {"rfc": False, "4.5": True})
    minimum_alignment_pmem = Difference(
        "Least alignment of the data in mode pmem",
        _INIT,
        {"rfc": PMD_SIZE, "4.5": 1, "4.15": PMD_SIZE},
        show=size,
    )
    minimum_alignment_ram = Difference(
        "Least alignment of the data in mode ram",
        _INIT,
        {"rfc": PMD_SIZE, "4.3": 1, "5.7": SUBSECTION_SIZE},
        show=size,
    )
    aligns_address = Difference(
        "The data's address is aligned (else its offset in the namespace)",
        _INIT,
        {"rfc": False, "4.6": True},
    )
    trims_end = Difference(
        "Bytes after the last aligned address are left unused",
        _INIT,
        {"rfc": False, "4.15": True},
    )
    memmap_counts_end = Difference(
        "The memmap also has room for the struct pages of the truncated end",
        _INIT,
        {"rfc": False, "5.7": True},
    )
    memmap_pages = Difference(
        "The number of struct pages in the memmap is rounded up to a multiple of this",
        _INIT,
        {"rfc": 1, "4.15": PAGES_PER_SECTION, "5.7": 1},
    )
    memmap_size = Difference(
        "The size of the memmap is rounded up to a multiple of this",
        _INIT,
        {"rfc": 1, "4.6": PMD_SIZE, "4.15": 1},
        show=size,
    )
    dax_reserve = Difference(
        "A dax device reserves this much for a label that no kernel ever wrote",
        _INIT,
        {"rfc": 0, "4.9": 128 * KIB, "5.2": 0},
        show=size,
    )
    capacity = Difference(
        "Sum that must be less than the namespace's size, or ENXIO",
        _INIT,
        {
            "rfc": CapacityCheck.NONE,
            "4.6": CapacityCheck.OFFSET_AND_PADS,
            "5.7": CapacityCheck.OFFSET,
            "6.6": CapacityCheck.OFFSET_BELOW_END,
        },
        commit="e96d9a938e89 nvdimm/pfn_dev: Prevent the creation of zero-sized namespaces",
    )
    mode_pmem = Difference(
        "Mode pmem is supported (else ENXIO)",
        "nvdimm_namespace_attach_pfn, drivers/nvdimm/pmem.c",
        {"rfc": True, "4.3": False, "4.5": True},
    )
    ram_offset_is_fixed = Difference(
        "In mode ram, the data must begin 8 KiB into the namespace, or the bind fails with EINVAL",
        "nvdimm_namespace_attach_pfn, drivers/nvdimm/pmem.c",
        {"rfc": True, "4.5": False},
    )
    minor = Difference(
        "Minor version of the info block that is written; fields of later versions are neither written nor read",
        "drivers/nvdimm/pfn.h; nd_pfn_init",
        {"rfc": 0, "4.6": 1, "4.9": 2, "4.15": 3, "4.20": 2, "5.7": 4},
    )
