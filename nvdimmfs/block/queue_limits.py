"""The limits and the settings of a disk's request queue, apart from the files that show them."""

from __future__ import annotations

import errno
from typing import Protocol

import attrs

from nvdimmfs.block.backing_device import DEFAULT_READ_AHEAD
from nvdimmfs.block.badblocks import SECTOR_SIZE
from nvdimmfs.block.statistics import Statistics
from nvdimmfs.core.attribute import HasSystem
from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.disk_rules import DiskRules
from nvdimmfs.units import KIB, PAGE_SIZE, align_down

#: Default size of the largest request, in KiB (BLK_DEF_MAX_SECTORS).
DEFAULT_MAX_SECTORS_KB = 1280
#: Sectors of the largest request that a driver accepts: limited only by the 32 bits of the field.
MAX_SECTORS = (1 << 32) - 1

#: The names of the switches of a queue that its code asks for.
STABLE_WRITES = "stable_writes"
ROTATIONAL, IOSTATS = "rotational", "iostats"
#: The names of the switches of an integrity profile.
READ_VERIFY, WRITE_GENERATE = "read_verify", "write_generate"


@attrs.frozen
class QueueLimits:
    """The limits that a driver declares for its disk.

    Attributes:
        logical_block_size: bytes of the smallest request.
        physical_block_size: bytes of the smallest write that the device performs atomically.
        dax: whether user space can map the media directly.
        write_cache: whether written data needs a flush to be durable.
        fua: whether the device makes a single write durable (Force Unit Access).
        tag_size: bytes of metadata of each block; 0 when the driver registers no integrity profile.
        max_integrity_segments: the largest number of segments of metadata in a request.
    """

    logical_block_size: int = 512
    physical_block_size: int = 512
    dax: bool = False
    write_cache: bool = False
    fua: bool = False
    tag_size: int = 0
    max_integrity_segments: int = 0

    @property
    def max_hw_sectors_kb(self) -> int:
        """KiB of the largest request that the driver accepts, in whole blocks (blk_queue_logical_block_size, 6.1)."""
        return self._whole_blocks(MAX_SECTORS) * SECTOR_SIZE // KIB

    def capped_sectors_kb(self, wanted: int) -> int:
        """KiB of the largest request when user space asks for `wanted` KiB (blk_validate_limits, Linux 6.12).

        0 stands for the default.  The kernel counts in sectors of 32 bits, without a check for overflow.  EINVAL for
        less than a page.
        """
        sectors = wanted * (KIB // SECTOR_SIZE) & MAX_SECTORS
        if not sectors:
            return DEFAULT_MAX_SECTORS_KB
        if sectors < PAGE_SIZE // SECTOR_SIZE:
            raise KernelError(errno.EINVAL, "less than a page")
        return self._whole_blocks(sectors) * SECTOR_SIZE // KIB

    def block_size_of(self, size: int) -> int:
        """Bytes of a block of the page cache of the disk, or of a partition, of `size` bytes.

        It begins as the logical block size and doubles up to a page as long as it divides the size (set_init_blocksize,
        block/bdev.c, Linux 6.1).
        """
        block_size = self.logical_block_size
        while block_size < PAGE_SIZE and size % (2 * block_size) == 0:
            block_size *= 2
        return block_size

    def _whole_blocks(self, sectors: int) -> int:
        return align_down(sectors, self.logical_block_size // SECTOR_SIZE)


@attrs.define
class QueueSettings:
    """The writable settings of one queue.

    Attributes:
        write_cache: whether flushes are sent to the disk.
        switches: names of the plain switches that are on.
        nomerges: 0 to try all merges of requests, 1 only the simple ones, 2 none.
        rq_affinity: 0 to complete a request on any CPU, 1 in the group of the submitting CPU, 2 on that CPU itself.
        max_sectors_kb: KiB of the largest request.
        latency: target latency of writeback throttling in nanoseconds; None until user space sets it.
        integrity: names of the integrity switches that are on.
        statistics: what was counted while `iostats` was on.
    """

    write_cache: bool
    switches: frozenset[str] = frozenset()
    nomerges: int = 0
    rq_affinity: int = 0
    max_sectors_kb: int = DEFAULT_MAX_SECTORS_KB
    latency: int | None = None
    integrity: frozenset[str] = frozenset()
    statistics: Statistics = attrs.Factory(Statistics)

    @property
    def counts_requests(self) -> bool:
        """Whether user space has turned `iostats` on."""
        return IOSTATS in self.switches

    @property
    def is_rotational(self) -> bool:
        """Whether user space has declared the disk rotational."""
        return ROTATIONAL in self.switches

    @classmethod
    def initial(cls, limits: QueueLimits, rules: DiskRules) -> QueueSettings:
        """The settings of a new disk; an integrity profile turns its switches on (blk_integrity_register, 6.1)."""
        return cls(
            limits.write_cache,
            frozenset({STABLE_WRITES} if limits.tag_size and rules.metadata_needs_stable_writes else ()),
            integrity=frozenset(
                {READ_VERIFY, WRITE_GENERATE} if limits.tag_size or rules.integrity_begins_switched_on else ()
            ),
        )


class ReadAhead(Protocol):
    """The part of a backing device info that the queue shows.

    Attributes:
        read_ahead_kb: KiB to read ahead.
    """

    read_ahead_kb: int


class HasQueue(HasSystem, Protocol):
    """The part of a disk that the files of its queue use."""

    @property
    def limits(self) -> QueueLimits:
        """The limits that its driver declared."""

    @property
    def settings(self) -> QueueSettings:
        """The writable settings of the queue."""

    @property
    def bdi(self) -> ReadAhead:
        """Its backing device info."""


def with_switch(switches: frozenset[str], name: str, *, on: bool) -> frozenset[str]:
    """Those switches, with one of them turned on or off."""
    return switches | {name} if on else switches - {name}


def commit_limits(disk: HasQueue) -> None:
    """A limit of the queue was stored (queue_limits_commit_update, block/blk-settings.c, Linux 6.12)."""
    if disk.system.kernel.disks.limits_raise_read_ahead:
        disk.bdi.read_ahead_kb = max(disk.bdi.read_ahead_kb, DEFAULT_READ_AHEAD // KIB)
