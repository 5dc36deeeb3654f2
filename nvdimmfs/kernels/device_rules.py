"""Differences between kernels in info blocks, attribute values and drivers.

These rules are data and depend on no device code.  The release that introduced an attribute is not listed here but in
the attribute's own declaration (`since=`).
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
    """A condition that an info block must meet to be valid for the current address and size of its namespace."""

    START_ON_SECTION = "the namespace begins a section"
    DATA_ON_SECTION = "the data begins a section"
    ALIGN_WITHIN_SIZE = "the alignment is no larger than the namespace"
    OFFSET_WITHIN_SIZE = "the data begins within the namespace"
    OFFSET_WITHIN_REST = "the data's offset is less than the size of the namespace without the unused bytes at its ends"
    OFFSET_IS_POWER_OF_TWO = (
        "the data's offset is a power of two of at least a page, and becomes the device's alignment"
    )
    OFFSET_ALIGNED = "the data's offset is a multiple of the alignment and of a page"
    DATA_ALIGNED = "the data's address is a multiple of the alignment, its offset of a page"
    RANGE_ON_SUBSECTION = "the mapped range begins and ends at a multiple of 2 MiB"


@attrs.frozen
class FitCheck:
    """One check of an info block, and the errno when the block fails it."""

    fit: Fit
    errno: int

    def __str__(self) -> str:
        return f"{self.fit.value}, or {errno_name(self.errno)}"


class AlignRule(enum.Enum):
    """Valid values of the align attribute, and whether the value or the device's state is checked first."""

    POWER_OF_TWO = "a power of two from 4 KiB to 1 GiB; EINVAL is checked before EBUSY"
    LISTED = "a value listed in supported_alignments; EBUSY is checked before EINVAL"


class ModuleBuild(enum.Enum):
    """A build of Debian's whose modules are on record: CONFIG_BUILD_SALT, which is its release."""

    LINUX_5_10 = "5.10.0-32-amd64"
    LINUX_6_1 = "6.1.0-57-amd64"
    LINUX_6_12 = "6.12.117+deb12-amd64"


class WriteBack(enum.Enum):
    """What writing `write back` to `queue/write_cache` does to a disk whose driver declared no cache."""

    SET = "accepted, and read again"
    REFUSED = "EINVAL"
    IGNORED = "accepted, without effect"


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
        "Errors of the block on the media on which a bind writes a new block instead of failing",
        "nd_pfn_init, drivers/nvdimm/pfn_devs.c (pmem.c before 4.9)",
        {
            "rfc": frozenset({errno.ENODEV, errno.ENXIO, errno.ENOTTY, errno.EINVAL}),
            "4.5": frozenset({errno.ENODEV}),
        },
        show=errno_names,
    )
    is_written = Difference(
        "A new block is written to the media",
        "nd_pfn_init, drivers/nvdimm/pmem.c of the RFC's patch 7, which omits the write",
        {"rfc": False, "4.3": True},
    )
    clears_memmap_errors = Difference(
        "A bind clears bad blocks in a memmap on media",
        "nd_pfn_clear_memmap_errors, drivers/nvdimm/pfn_devs.c",
        {"rfc": False, "4.20": True},
    )
    has_parent = Difference(
        "The block holds the namespace's uuid, which is compared (else the field is zero and not checked)",
        _VALIDATE,
        {"rfc": False, "4.5": True},
    )
    pmem_errno = Difference(
        "Errno for a block on the media whose mode is pmem",
        _VALIDATE,
        {"rfc": 0, "4.3": errno.ENOTTY, "4.5": 0},
        show=errno_name,
    )
    uuid_errno = Difference(
        "Errno for a block whose uuid differs from the device's",
        _VALIDATE,
        {"rfc": errno.EINVAL, "4.6": errno.ENODEV},
        show=errno_name,
    )
    sets_mode = Difference(
        "On bind, the device's mode is set from the block",
        "nvdimm_namespace_attach_pfn, drivers/nvdimm/pmem.c",
        {"rfc": False, "4.3": True},
    )
    settings_errno = Difference[int | None](
        "Errno for a block with the device's uuid but another mode or align; kernels that compare them set both from "
        "the block when they create a device for it",
        _VALIDATE,
        {"rfc": None, "4.9": errno.EINVAL, "5.7": errno.EOPNOTSUPP},
        show=_compared,
    )
    has_page_size = Difference(
        "The page sizes in the block and the alignment of a dax device are checked; a mismatch is EOPNOTSUPP",
        _VALIDATE,
        {"rfc": False, "5.7": True},
    )
    fit = Difference(
        "Further conditions that a block must meet",
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
            "6.6": (
                FitCheck(Fit.ALIGN_WITHIN_SIZE, errno.EOPNOTSUPP),
                FitCheck(Fit.OFFSET_WITHIN_REST, errno.EOPNOTSUPP),
                FitCheck(Fit.DATA_ALIGNED, errno.EOPNOTSUPP),
                FitCheck(Fit.RANGE_ON_SUBSECTION, errno.EOPNOTSUPP),
            ),
        },
        show=_checks,
        commit="e96d9a938e89 nvdimm/pfn_dev: Prevent the creation of zero-sized namespaces",
    )


@attrs.frozen
class DeviceRules(Rules):
    """Other differences in devices and their drivers."""

    mode_pmem_errno = Difference(
        "Errno for writing `pmem` to a pfn device's `mode`",
        "mode_store, drivers/nvdimm/pfn_devs.c",
        {"rfc": 0, "4.3": errno.ENOTTY, "4.5": 0},
        show=errno_name,
    )
    align_format = Difference(
        "Format of a pfn device's `align`",
        "align_show, drivers/nvdimm/pfn_devs.c",
        {"4.5": "x", "4.15": "d"},
        show=_hexadecimal,
    )
    align_rule = Difference(
        "Valid values for a pfn device's `align`",
        "__align_store, nd_size_select_store; drivers/nvdimm/pfn_devs.c, core.c",
        {"4.5": AlignRule.POWER_OF_TWO, "4.15": AlignRule.LISTED},
        show=_value,
    )
    uuid_separators = Difference(
        "A written uuid is 16 pairs of hexadecimal digits, each optionally followed by `-`, `:`, newline or NUL (else "
        "it must have the form 8-4-4-4-12)",
        "nd_uuid_parse, drivers/nvdimm/core.c; uuid_parse, lib/uuid.c",
        {"rfc": True, "6.1": False},
    )
    advancing_seeds = Difference(
        "Seeds that are replaced once they are bound",
        "nd_region_notify_driver_action, nd_region_advance_seeds; drivers/nvdimm/region_devs.c",
        {"rfc": frozenset({"btt"}), "4.5": frozenset({"btt", "pfn", "dax"})},
        show=listed,
    )
    has_dax = Difference(
        "dax devices, their seeds, drivers and bus exist",
        "drivers/nvdimm/dax_devs.c, drivers/dax",
        {"rfc": False, "4.9": True},
    )
    hmem_has_platform_device = Difference(
        "Soft reserved memory is announced by one device hmem_platform.0, whose driver in dax_hmem registers hmem.N "
        "(else the kernel registers hmem.N at boot)",
        "drivers/dax/hmem/device.c, hmem.c",
        {"rfc": False, "6.6": True},
        commit="7dab174e2e27 dax/hmem: Move hmem device registration to dax_hmem.ko",
    )
    hmem_is_for_kmem = Difference(
        "kmem matches dax devices of soft reserved memory, unless `region_idle` was on when their region was made, and "
        "device_dax only those whose names are in its `new_id` (else device_dax matches all devices)",
        "dax_hmem_probe, drivers/dax/hmem/hmem.c; dax_match_type, drivers/dax/bus.c",
        {"rfc": False, "6.6": True},
        commit="e9ee9fe3a9d4 dax: Assign RAM regions to memory-hotplug by default",
    )
    kmem_needs_a_block = Difference(
        "kmem refuses a device without a whole memory block with EINVAL (else it binds it, and adds nothing)",
        "dev_dax_kmem_probe, drivers/dax/kmem.c",
        {"rfc": False, "5.15": True},
    )
    mapping_ignores_unaligned = Difference(
        "A range whose length is not aligned, written to `mapping` of a dax device, is accepted and has no effect "
        "(else ENXIO)",
        "mapping_store, drivers/dax/bus.c: the errno is overwritten when the lock is taken",
        {"rfc": False, "6.12": True},
        commit="c05ae9d85b47 dax/bus.c: replace driver-core lock usage by a local rwsem",
    )
    has_dax_class = Difference(
        "The class dax exists, and is empty (CONFIG_DEV_DAX_PMEM_COMPAT, which Debian sets)",
        "dax_bus_init, drivers/dax/bus.c",
        {"rfc": False, "4.9": True, "6.1": False},
    )
    bind_errno = Difference[int | None](
        "Errno of every refused write to `bind`",
        "bind_store, drivers/base/bus.c; really_probe, drivers/base/dd.c",
        {"rfc": errno.ENODEV, "5.15": None},
        show=errno_name,
    )
    failed_link_fails_probe = Difference(
        "`drivers_probe` is EINVAL for a device whose directory was removed with its parent's, if a driver matches it "
        "(else accepted)",
        "really_probe, drivers/base/dd.c",
        {"rfc": False, "5.15": True},
    )
    bind_uevents = Difference(
        "Uevents `bind` and `unbind` are sent",
        "driver_bound, drivers/base/dd.c",
        {"rfc": False, "4.15": True},
    )
    power_directories = Difference(
        "Devices of an nvdimm bus have a power directory",
        "device_set_pm_not_required in nd_device_register, drivers/nvdimm/bus.c",
        {"rfc": True, "5.15": False},
    )
    disk_suffixes = Difference(
        "Suffix of a disk's name, by the kind of device behind it",
        "nvdimm_namespace_disk_name, drivers/nvdimm/namespace_devs.c",
        {"rfc": {"btt": "s", "pfn": "m"}, "4.3": {"btt": "s", "pfn": "m", "memory": "m"}, "4.5": {"btt": "s"}},
        show=_suffixes,
    )
    disk_numbers = Difference(
        "A disk's name includes the namespace's number if that is not 0",
        "nvdimm_namespace_disk_name, drivers/nvdimm/namespace_devs.c",
        {"rfc": False, "4.9": True},
    )
    pfn_disk_below_namespace = Difference(
        "In sysfs, a pfn device's disk is a child of the namespace, not of the pfn device",
        "pmem_attach_disk, drivers/nvdimm/pmem.c; the RFC's patch 7 and its v2",
        {"rfc": True, "4.3": False},
    )
    memory_named_after_device = Difference(
        "/proc/iomem names the memory of a bound device after that device (else after the namespace)",
        "pmem_alloc, drivers/nvdimm/pmem.c; devm_nsio_enable, drivers/nvdimm/claim.c",
        {"rfc": True, "4.9": False},
    )
    minimum_namespace_size = Difference(
        "Smallest namespace that a driver binds; a smaller one is ENODEV",
        "ND_MIN_NAMESPACE_SIZE, include/uapi/linux/ndctl.h",
        {"rfc": 4 * MIB, "4.20": PAGE_SIZE},
        show=size,
    )
    align_needs_dimms = Difference(
        "Writing `align` of a region without DIMMs is ENXIO",
        "align_store, drivers/nvdimm/region_devs.c",
        {"rfc": True, "6.1": False},
    )
    t_and_f_are_truth_values = Difference(
        "t and f are truth values, as the first letters of `true` and `false` (else EINVAL)",
        "kstrtobool, lib/kstrtox.c",
        {"rfc": False, "6.1": True},
    )
    raw_pagemap = Difference(
        "Raw namespaces of a legacy platform get struct pages",
        "ND_REGION_PAGEMAP, drivers/nvdimm/e820.c; pmem_should_map_pages",
        {"rfc": False, "4.3": True},
    )
    mixed_is_not_mapped = Difference(
        "... except a namespace that overlaps System RAM in part (else its bind fails)",
        "pmem_should_map_pages, drivers/nvdimm/namespace_devs.c",
        {"rfc": False, "4.6": True},
    )
    force_raw_is_not_mapped = Difference(
        "... and except a namespace with force_raw set",
        "pmem_should_map_pages, drivers/nvdimm/namespace_devs.c",
        {"rfc": False, "5.2": True},
    )
    raw_alignment = Difference(
        "Required alignment of start and end of a raw namespace that gets struct pages, or EOPNOTSUPP",
        "nvdimm_namespace_common_probe, drivers/nvdimm/namespace_devs.c",
        {"rfc": 1, "5.7": SUBSECTION_SIZE},
        show=size,
    )
    read_only_reaches_disks = Difference(
        "Writing a region's `read_only` changes existing disks",
        "read_only_store, drivers/nvdimm/region_devs.c",
        {"rfc": False, "5.15": True},
    )
    badblocks_are_sorted = Difference(
        "Lists of bad blocks are always sorted, and a range is refused only if no part of it can be kept",
        "_badblocks_set, _badblocks_clear; block/badblocks.c",
        {"rfc": False, "6.8": True},
        commit="aa511ff8218b badblocks: switch to the improved badblock handling code",
    )
    integrity_begins_switched_on = Difference(
        "A disk's `integrity/read_verify` and `write_generate` are 1 at first even if its blocks have no metadata",
        "flag_show, block/blk-integrity.c",
        {"rfc": False, "6.12": True},
        commit="9f4aa46f2a74 block: invert the BLK_INTEGRITY_{GENERATE,VERIFY} flags",
    )
    metadata_needs_stable_writes = Difference(
        "A disk whose blocks have metadata begins with `queue/stable_writes` on",
        "blk_integrity_register, block/blk-integrity.c",
        {"rfc": True, "6.12": False},
        commit="43c5dbe98a39 block: don't require stable pages for non-PI metadata",
    )
    integrity_switches_are_checked = Difference(
        "A text that is no number is EINVAL for a disk's `integrity/read_verify` and `write_generate` (else 0)",
        "flag_store, block/blk-integrity.c",
        {"rfc": False, "6.12": True},
        commit="1d59857ed2ec block: use kstrtoul in flag_store",
    )
    largest_request_is_capped = Difference(
        "A disk's `queue/max_sectors_kb` takes 0, which restores the default, and numbers above the limit of the "
        "driver, which stand for it (else EINVAL)",
        "queue_max_sectors_store, block/blk-sysfs.c; blk_validate_limits, block/blk-settings.c",
        {"rfc": False, "6.12": True},
        commit="0327ca9d53bf block: use queue_limits_commit_update in queue_max_sectors_store",
    )
    poll_delay_is_a_relic = Difference(
        "A disk's `queue/io_poll_delay` is -1 and takes any text, without effect (else 0, and EINVAL for any text)",
        "queue_poll_delay_show, queue_poll_delay_store; block/blk-sysfs.c",
        {"rfc": False, "6.6": True},
        commit="54bdd67d0f88 blk-mq: remove hybrid polling",
    )
    btt_counts_lanes = Difference(
        "An arena of a BTT with fewer free blocks than the region has lanes is ENODEV",
        "btt_freelist_init, drivers/nvdimm/btt.c",
        {"rfc": False, "6.1": True, "6.6": False, "6.12": True},
    )
    btt_has_integrity_segment = Difference(
        "A BTT's `queue/max_integrity_segments` is 1 even if its blocks have no metadata",
        "btt_blk_init, drivers/nvdimm/btt.c",
        {"rfc": False, "6.12": True},
        commit="c6e56cf6b2e7 block: move integrity information into queue_limits",
    )
    writers_may_reserve = Difference(
        "A persistent reservation needs a privileged caller or a disk that is open for writing, and cannot be of a "
        "partition (else it needs a privileged caller); EPERM",
        "blkdev_pr_allowed, block/ioctl.c",
        {"rfc": False, "6.6": True},
        commit="9a72a02456a8 block: fine-granular CAP_SYS_ADMIN for Persistent Reservation",
    )
    discard_reads_its_range_first = Difference(
        "BLKDISCARD is EFAULT for a range that cannot be read, then EOPNOTSUPP (else EBADF for a disk that is not open "
        "for writing, then EOPNOTSUPP)",
        "blk_ioctl_discard, block/ioctl.c",
        {"rfc": False, "6.12": True},
        commit="30f1e7241422 block: move discard checks into the ioctl handler",
    )
    write_back_without_cache = Difference(
        "`write back`, written to a disk's `queue/write_cache` though its driver declared no cache",
        "queue_wc_store, block/blk-sysfs.c",
        {"rfc": WriteBack.SET, "6.1": WriteBack.REFUSED, "6.12": WriteBack.IGNORED},
        show=_value,
        commit="1122c0c1cc71 block: move cache control settings out of queue->flags (6.11)",
    )
    largest_request_is_whole_blocks = Difference(
        "A disk's `queue/max_hw_sectors_kb` is rounded down to whole blocks",
        "blk_queue_logical_block_size, block/blk-settings.c",
        {"rfc": False, "5.15": True},
    )
    shows_partscan = Difference(
        "A disk has the file `partscan`",
        "partscan_show, block/genhd.c, also in the stable series of 6.6",
        {"rfc": False, "6.6": True, "6.8": False, "6.12": True},
    )
    disk_capability = Difference(
        "A disk's `capability`, flags of the kernel in hexadecimal",
        "disk_capability_show, block/genhd.c; GENHD_FL_UP and GENHD_FL_EXT_DEVT, include/linux/genhd.h",
        {"rfc": "50", "5.15": "40", "6.1": "0"},
    )
    partitions_follow_their_disk = Difference(
        "A partition is read-only while its disk is (else each has a flag of its own, and the driver sets all of them)",
        "bdev_read_only, include/linux/blkdev.h; set_disk_ro, block/genhd.c",
        {"rfc": False, "5.15": True},
    )
    rereading_checks_rights_first = Difference(
        "BLKRRPART of a partition by a caller without privileges is EACCES (else EINVAL)",
        "blkdev_common_ioctl, blkdev_reread_part; block/ioctl.c",
        {"rfc": False, "6.1": True},
    )
    closed_disks_have_no_trace = Difference(
        "The files in `trace` of a disk that no one has open are ENXIO; here they always are",
        "sysfs_blk_trace_attr_show, blk_trace_get_queue, kernel/trace/blktrace.c",
        {"rfc": True, "5.15": False},
    )
    ratios_wrap_around = Difference(
        "A bdi keeps its ratios in millionths, and a percentage that does not fit into 32 bits of them wraps around",
        "bdi_set_min_ratio, bdi_set_max_ratio, mm/page-writeback.c",
        {"rfc": False, "6.6": True},
        commit="ae82291e9ca4 mm: use part per 1000000 for bdi ratios",
    )
    knows_disable_master = Difference(
        "A DIMM's `security` takes `disable_master`, which is EOPNOTSUPP for DIMMs of an NFIT (else EINVAL)",
        "__store, security_disable; drivers/nvdimm/security.c",
        {"rfc": False, "6.6": True},
        commit="dcedadfae285 nvdimm/cxl/pmem: Add support for master passphrase disable security command",
    )
    regions_need_coherent_dimms = Difference(
        "In a virtual machine, whose processor cannot invalidate its caches for a range, a region with a DIMM that was "
        "unlocked, erased or overwritten since it was registered is not bound any more: ENXIO",
        "nd_region_invalidate_memregion, drivers/nvdimm/region_devs.c",
        {"rfc": False, "6.6": True},
        commit="dc370b28c842 nvdimm/region: Move cache management to the region driver",
    )
    test_platform_asks_for_security = Difference(
        "The modules of nfit_test ask a DIMM for its state when its `security` is read (else as others, when it "
        "may have changed; CONFIG_NVDIMM_SECURITY_TEST, which Debian does not set, restores it)",
        "security_show; tools/testing/nvdimm/dimm_devs.c, drivers/nvdimm/dimm_devs.c",
        {"rfc": True, "6.6": False},
        commit="15a8348707ff libnvdimm: Introduce CONFIG_NVDIMM_SECURITY_TEST flag",
    )
    majors_taken_later = Difference(
        "By how much the majors of nmemN and ndctlN, taken from 254 on downwards, are lower than 245 and 246: "
        "other drivers of Debian's kernel take one more before",
        "register_chrdev in nvdimm_bus_init, drivers/nvdimm/bus.c",
        {"rfc": 0, "5.10": -4, "6.1": 0, "6.12": 1},
    )
    acpi_drivers_name_their_module = Difference(
        "The driver nfit of the ACPI bus and its module link to each other",
        "acpi_bus_register_driver, include/acpi/acpi_bus.h; __acpi_bus_register_driver, drivers/acpi/bus.c",
        {"rfc": False, "6.12": True},
        commit="48b9c4862bd3 ACPI: store owner from modules with acpi_bus_register_driver()",
    )
    modules_have_several_memories = Difference(
        "The code, the data and the constants of a module are in memories of their own (else in one)",
        "enum mod_mem_type, include/linux/module.h",
        {"rfc": False, "6.6": True},
        commit="ac3b43283923 module: replace module_layout with module_memory",
    )
    module_build = Difference(
        "The build of Debian's whose modules' sizes, sections and notes are shown",
        "CONFIG_BUILD_SALT, CONFIG_X86_KERNEL_IBT, CONFIG_LTO of Debian's kernels",
        {
            "rfc": ModuleBuild.LINUX_6_1,
            "5.10": ModuleBuild.LINUX_5_10,
            "6.1": ModuleBuild.LINUX_6_1,
            "6.6": ModuleBuild.LINUX_6_12,
        },
        show=_value,
    )
    dax_pmem_has_core = Difference(
        "What the module dax_pmem does is in a module of its own, dax_pmem_core",
        "drivers/dax/pmem/core.c",
        {"rfc": False, "5.10": True, "6.1": False},
    )
    has_security_keys = Difference(
        "Keys unlock DIMMs and change their security (else a write to `security` is EOPNOTSUPP, no DIMM is unlocked, "
        "and the module libnvdimm has no parameter `key_revalidate`)",
        "drivers/nvdimm/security.c; nd-core.h, nd.h; CONFIG_NVDIMM_KEYS, which Debian's 5.10 does not set",
        {"rfc": True, "5.10": False, "5.15": True},
    )
    virtio_regions_have_node = Difference(
        "Regions of virtio-pmem have the NUMA node of their range (else that of the device, which is -1)",
        "virtio_pmem_probe, drivers/nvdimm/virtio_pmem.c",
        {"rfc": False, "6.6": True},
    )
    built_in_virtio_drivers = Difference(
        "Drivers of the virtio bus that are built into the kernel",
        "CONFIG_VIRTIO_CONSOLE, CONFIG_VIRTIO_FS of Debian's kernels",
        {"rfc": (), "6.12": ("virtio_console", "virtio_rproc_serial", "virtiofs")},
        show=listed,
    )
    resets_virtio_rings = Difference(
        "A virtio device uses the feature VIRTIO_F_RING_RESET, bit 40 of `features`",
        "vp_transport_features, drivers/virtio/virtio_pci_modern.c",
        {"rfc": False, "6.1": True},
    )
    legacy_device_is_always_there = Difference(
        "A machine without legacy ranges still has the device e820_pmem and an empty bus",
        "register_e820_pmem, arch/x86/kernel/pmem.c",
        {"rfc": True, "4.15": False},
    )
    legacy_ranges_are_nested = Difference(
        "A legacy range nested in another resource is found",
        "e820_pmem_probe, drivers/nvdimm/e820.c",
        {"rfc": False, "5.2": True},
    )
    legacy_has_node = Difference(
        "Regions of a legacy platform have the NUMA node of their range (else -1)",
        "e820_range_to_nid, drivers/nvdimm/e820.c",
        {"rfc": False, "4.5": True},
    )
    legacy_shows_node = Difference(
        "Regions of a legacy platform have the attribute numa_node",
        "e820_pmem_region_attribute_groups, drivers/nvdimm/e820.c",
        {"rfc": False, "5.7": True},
    )
