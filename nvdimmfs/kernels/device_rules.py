"""What devices do differently from kernel to kernel: their info blocks, their attributes' values, their drivers.

It stands beside the memory's rules so that a kernel is one object; nothing in here knows a device.  Since when an
attribute exists is said where the attribute is declared.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Mapping

import attrs

from nvdimmfs.kernels.differences import Difference, Rules, errno_name, errno_names, listed, size
from nvdimmfs.units import MIB, PAGE_SIZE, SUBSECTION_SIZE

_VALIDATE = "nd_pfn_validate, drivers/nvdimm/pfn_devs.c"


class Fit(enum.Enum):
    """What an info block must be to suit the place where its namespace lies now."""

    START_ON_SECTION = "the namespace begins a section"
    DATA_ON_SECTION = "the data begins a section"
    ALIGN_WITHIN_SIZE = "the alignment is no larger than the namespace"
    OFFSET_WITHIN_SIZE = "the data begins within the namespace"
    OFFSET_IS_POWER_OF_TWO = (
        "the data's offset is a power of two of at least a page, and becomes the device's alignment"
    )
    OFFSET_ALIGNED = "the data's offset is a multiple of the alignment and of a page"
    DATA_ALIGNED = "the data's address is a multiple of the alignment, its offset of a page"
    RANGE_ON_SUBSECTION = "what is mapped begins and ends with a multiple of 2 MiB"


@attrs.frozen
class FitCheck:
    """One check, and the errno of a block that fails it."""

    fit: Fit
    errno: int

    def __str__(self) -> str:
        return f"{self.fit.value}, or {errno_name(self.errno)}"


class AlignRule(enum.Enum):
    """Which values the align attribute takes, and when it looks whether the device is bound."""

    POWER_OF_TWO = "a power of two from 4 KiB to 1 GiB; EINVAL before EBUSY"
    LISTED = "one of those in supported_alignments; EBUSY before EINVAL"


def _checks(checks: object) -> str:
    assert isinstance(checks, tuple)
    return "; ".join(map(str, checks))


def _compared(number: int | None) -> str:
    return "not compared" if number is None else errno_name(number)


def _suffixes(suffixes: Mapping[str, str]) -> str:
    return ", ".join(f"{suffix} ({use})" for use, suffix in suffixes.items())


def _hexadecimal(letter: str) -> str:
    return {"x": "hexadecimal without 0x", "d": "decimal"}[letter]


def _value(member: enum.Enum) -> str:
    return str(member.value)


@attrs.frozen
class InfoBlockRules(Rules):
    """How a kernel reads and writes the info block of pfn and dax devices."""

    overwritten = Difference(
        "What a bind may find wrong with the block and then write a new one",
        "nd_pfn_init, drivers/nvdimm/pfn_devs.c (pmem.c before 4.9)",
        {
            "rfc": frozenset({errno.ENODEV, errno.ENXIO, errno.ENOTTY, errno.EINVAL}),
            "4.5": frozenset({errno.ENODEV}),
        },
        show=errno_names,
    )
    is_written = Difference(
        "A new block is written to the media",
        "nd_pfn_init, drivers/nvdimm/pmem.c of the RFC's patch 7, which forgot to",
        {"rfc": False, "4.3": True},
    )
    clears_memmap_errors = Difference(
        "A bind clears bad blocks in a memmap on media",
        "nd_pfn_clear_memmap_errors, drivers/nvdimm/pfn_devs.c",
        {"rfc": False, "4.20": True},
    )
    has_parent = Difference(
        "The namespace's uuid is written into the block and compared (else zeros, unchecked)",
        _VALIDATE,
        {"rfc": False, "4.5": True},
    )
    pmem_errno = Difference(
        "A block on the media whose mode is pmem",
        _VALIDATE,
        {"rfc": 0, "4.3": errno.ENOTTY, "4.5": 0},
        show=errno_name,
    )
    uuid_errno = Difference(
        "A block whose uuid is not the device's",
        _VALIDATE,
        {"rfc": errno.EINVAL, "4.6": errno.ENODEV},
        show=errno_name,
    )
    sets_mode = Difference(
        "A bound device takes its mode from the block",
        "nvdimm_namespace_attach_pfn, drivers/nvdimm/pmem.c",
        {"rfc": False, "4.3": True},
    )
    settings_errno = Difference[int | None](
        "A block with the device's uuid and another mode or align; where it is compared, a device that is made for a "
        "block takes both from it",
        _VALIDATE,
        {"rfc": None, "4.9": errno.EINVAL, "5.7": errno.EOPNOTSUPP},
        show=_compared,
    )
    has_page_size = Difference(
        "Page sizes in the block, and the alignment of a dax device, are checked (else EOPNOTSUPP)",
        _VALIDATE,
        {"rfc": False, "5.7": True},
    )
    fit = Difference(
        "What else is asked of a block",
        f"{_VALIDATE}; for the RFC that of v2 of its patch 6",
        {
            "rfc": (FitCheck(Fit.DATA_ON_SECTION, errno.EBUSY), FitCheck(Fit.OFFSET_WITHIN_SIZE, errno.EBUSY)),
            "4.3": (FitCheck(Fit.START_ON_SECTION, errno.EBUSY), FitCheck(Fit.OFFSET_WITHIN_SIZE, errno.EBUSY)),
            "4.5": (
                FitCheck(Fit.ALIGN_WITHIN_SIZE, errno.EINVAL),
                FitCheck(Fit.OFFSET_WITHIN_SIZE, errno.EBUSY),
                FitCheck(Fit.OFFSET_IS_POWER_OF_TWO, errno.ENXIO),
            ),
            "4.9": (
                FitCheck(Fit.ALIGN_WITHIN_SIZE, errno.EINVAL),
                FitCheck(Fit.OFFSET_WITHIN_SIZE, errno.EBUSY),
                FitCheck(Fit.OFFSET_ALIGNED, errno.ENXIO),
            ),
            "4.15": (
                FitCheck(Fit.ALIGN_WITHIN_SIZE, errno.EINVAL),
                FitCheck(Fit.OFFSET_WITHIN_SIZE, errno.EBUSY),
                FitCheck(Fit.DATA_ALIGNED, errno.ENXIO),
            ),
            "5.7": (
                FitCheck(Fit.ALIGN_WITHIN_SIZE, errno.EOPNOTSUPP),
                FitCheck(Fit.OFFSET_WITHIN_SIZE, errno.EOPNOTSUPP),
                FitCheck(Fit.DATA_ALIGNED, errno.EOPNOTSUPP),
                FitCheck(Fit.RANGE_ON_SUBSECTION, errno.EOPNOTSUPP),
            ),
        },
        show=_checks,
    )


@attrs.frozen
class DeviceRules(Rules):
    """What else devices and their drivers do differently."""

    mode_pmem_errno = Difference(
        "Writing `pmem` to a pfn device's `mode`",
        "mode_store, drivers/nvdimm/pfn_devs.c",
        {"rfc": 0, "4.3": errno.ENOTTY, "4.5": 0},
        show=errno_name,
    )
    align_format = Difference(
        "How a pfn device's `align` reads",
        "align_show, drivers/nvdimm/pfn_devs.c",
        {"4.5": "x", "4.15": "d"},
        show=_hexadecimal,
    )
    align_rule = Difference(
        "What may be written to a pfn device's `align`",
        "__align_store, nd_size_select_store; drivers/nvdimm/pfn_devs.c, core.c",
        {"4.5": AlignRule.POWER_OF_TWO, "4.15": AlignRule.LISTED},
        show=_value,
    )
    uuid_separators = Difference(
        "A uuid is 16 pairs of digits with or without a `-`, `:`, newline or NUL after each (else the usual form)",
        "nd_uuid_parse, drivers/nvdimm/core.c; uuid_parse, lib/uuid.c",
        {"rfc": True, "6.1": False},
    )
    advancing_seeds = Difference(
        "Which seeds are replaced once they are bound",
        "nd_region_notify_driver_action, nd_region_advance_seeds; drivers/nvdimm/region_devs.c",
        {"rfc": frozenset({"btt"}), "4.5": frozenset({"btt", "pfn", "dax"})},
        show=listed,
    )
    has_dax = Difference(
        "There are dax devices, their seeds, their drivers and their bus",
        "drivers/nvdimm/dax_devs.c, drivers/dax",
        {"rfc": False, "4.9": True},
    )
    bind_errno = Difference[int | None](
        "What a refused `bind` reads as, whatever the reason",
        "bind_store, drivers/base/bus.c; really_probe, drivers/base/dd.c",
        {"rfc": errno.ENODEV, "6.1": None},
        show=errno_name,
    )
    bind_uevents = Difference(
        "Uevents `bind` and `unbind`",
        "driver_bound, drivers/base/dd.c",
        {"rfc": False, "4.15": True},
    )
    power_directories = Difference(
        "Devices of an nvdimm bus have a power directory",
        "device_set_pm_not_required in nd_device_register, drivers/nvdimm/bus.c",
        {"rfc": True, "6.1": False},
    )
    disk_suffixes = Difference(
        "What a disk's name ends with, by what is behind it",
        "nvdimm_namespace_disk_name, drivers/nvdimm/namespace_devs.c",
        {"rfc": {"btt": "s", "pfn": "m"}, "4.3": {"btt": "s", "pfn": "m", "memory": "m"}, "4.5": {"btt": "s"}},
        show=_suffixes,
    )
    disk_numbers = Difference(
        "A disk is named after its namespace's number, too, where that is not 0",
        "nvdimm_namespace_disk_name, drivers/nvdimm/namespace_devs.c",
        {"rfc": False, "4.9": True},
    )
    pfn_disk_below_namespace = Difference(
        "A pfn device's disk stands below its namespace in sysfs",
        "pmem_attach_disk, drivers/nvdimm/pmem.c; the RFC's patch 7 and its v2",
        {"rfc": True, "4.3": False},
    )
    memory_named_after_device = Difference(
        "The memory of a bound device bears its name in /proc/iomem (else always the namespace's)",
        "pmem_alloc, drivers/nvdimm/pmem.c; devm_nsio_enable, drivers/nvdimm/claim.c",
        {"rfc": True, "4.9": False},
    )
    minimum_namespace_size = Difference(
        "No driver takes a namespace below this size, ENODEV",
        "ND_MIN_NAMESPACE_SIZE, include/uapi/linux/ndctl.h",
        {"rfc": 4 * MIB, "4.20": PAGE_SIZE},
        show=size,
    )
    raw_pagemap = Difference(
        "Raw namespaces of a legacy platform are mapped with struct page",
        "ND_REGION_PAGEMAP, drivers/nvdimm/e820.c; pmem_should_map_pages",
        {"rfc": False, "4.3": True},
    )
    mixed_is_not_mapped = Difference(
        "... but not one that is System RAM in part (else its bind fails)",
        "pmem_should_map_pages, drivers/nvdimm/namespace_devs.c",
        {"rfc": False, "4.6": True},
    )
    force_raw_is_not_mapped = Difference(
        "... nor one with force_raw",
        "pmem_should_map_pages, drivers/nvdimm/namespace_devs.c",
        {"rfc": False, "5.2": True},
    )
    raw_alignment = Difference(
        "Start and end of a raw namespace that is mapped so are multiples of this, or EOPNOTSUPP",
        "nvdimm_namespace_common_probe, drivers/nvdimm/namespace_devs.c",
        {"rfc": 1, "5.7": SUBSECTION_SIZE},
        show=size,
    )
    read_only_reaches_disks = Difference(
        "Writing a region's `read_only` changes the disks that are there",
        "read_only_store, drivers/nvdimm/region_devs.c",
        {"rfc": False, "6.1": True},
    )
    legacy_device_is_always_there = Difference(
        "A machine without legacy ranges has the device e820_pmem and an empty bus all the same",
        "register_e820_pmem, arch/x86/kernel/pmem.c",
        {"rfc": True, "4.15": False},
    )
    legacy_ranges_are_nested = Difference(
        "A legacy range within another resource is found",
        "e820_pmem_probe, drivers/nvdimm/e820.c",
        {"rfc": False, "5.2": True},
    )
    legacy_has_node = Difference(
        "Legacy ranges belong to a NUMA node (else -1)",
        "e820_range_to_nid, drivers/nvdimm/e820.c",
        {"rfc": False, "4.5": True},
    )
    legacy_shows_node = Difference(
        "Regions of a legacy platform have the attribute numa_node",
        "e820_pmem_region_attribute_groups, drivers/nvdimm/e820.c",
        {"rfc": False, "5.7": True},
    )
