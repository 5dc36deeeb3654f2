"""Differences between kernels in disks, their queues and their partitions."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs

from nvdimmfs.kernels.differences import Difference, Rules, member_value


class WriteBack(enum.Enum):
    """What writing `write back` to `queue/write_cache` does to a disk whose driver declared no cache."""

    SET = "accepted, and read again"
    REFUSED = "EINVAL"
    IGNORED = "accepted, without effect"


def _suffixes(suffixes: Mapping[str, str]) -> str:
    return ", ".join(f"{suffix} ({use})" for use, suffix in suffixes.items())


@attrs.frozen
class DiskRules(Rules):
    """How the disks of a kernel answer."""

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
    limits_raise_read_ahead = Difference(
        "Writing a limit of a disk's queue raises `read_ahead_kb` to 128 KiB if it is less",
        "blk_apply_bdi_limits, queue_limits_commit_update; block/blk-settings.c",
        {"rfc": False, "6.12": True},
        commit="block: never reduce ra_pages in blk_apply_bdi_limits",
    )
    poll_delay_is_a_relic = Difference(
        "A disk's `queue/io_poll_delay` is -1 and takes any text, without effect (else 0, and EINVAL for any text)",
        "queue_poll_delay_show, queue_poll_delay_store; block/blk-sysfs.c",
        {"rfc": False, "6.6": True},
        commit="54bdd67d0f88 blk-mq: remove hybrid polling",
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
        show=member_value,
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
    partitions_end_with_their_disk = Difference(
        "BLKPG is EINVAL for a partition that would end beyond its disk (else it is added, or its size changed)",
        "blkpg_do_ioctl, block/ioctl.c; bdev_add_partition, block/partitions/core.c",
        {"rfc": False, "6.12": True},
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
