"""Partitions: children of a disk, read from its partition table when the disk is added (block/partitions, 6.1)."""

from __future__ import annotations

import errno
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, Self

from nvdimmfs.block.badblocks import SECTOR_SIZE
from nvdimmfs.block.queue_limits import QueueLimits
from nvdimmfs.block.statistics import Statistics, stat_text
from nvdimmfs.block.trace import TRACE_GROUP, Trace
from nvdimmfs.core.attribute import AttributeGroup, attribute, constant, create_files
from nvdimmfs.core.device import Device
from nvdimmfs.core.device_number import DeviceNumber
from nvdimmfs.core.numbering import Numbering
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.partition_name import partition_name
from nvdimmfs.formats.partition_table import PartitionEntry
from nvdimmfs.kernfs import BinaryFile


class Parts(Protocol):
    """The bytes of a disk, of which each part is read and written as a device of its own."""

    @property
    def size(self) -> int:
        """Bytes of the disk."""

    def view_part(self, origin: int, size: int, offset: int, length: int, /) -> bytes | memoryview:
        """Read, perhaps without a copy, from an offset in the part of `size` bytes from `origin` on."""

    def write_part(self, origin: int, size: int, offset: int, data: bytes, /) -> None:
        """Write there."""

    def flush(self) -> None:
        """Return when all that was written is durable."""


class WholeDisk(Device):
    """A disk, as its partitions see it.

    Attributes:
        limits: the limits that its driver declared.
        read_only: writes are refused with EPERM.
        trace: the settings of the running trace; None when requests are not traced.
        claims: how many processes have it open with O_EXCL: one at most.
    """

    claims: int = 0
    limits: QueueLimits
    read_only: bool
    trace: Trace | None

    @property
    def counted(self) -> Statistics | None:
        """Where requests are counted at the moment; None while they are not."""
        raise NotImplementedError

    @property
    def minors(self) -> Numbering:
        """The minor numbers of disks and partitions."""
        raise NotImplementedError

    def sequence_variables(self) -> list[tuple[str, str]]:
        """The variables of uevents that identify the disk among others of its name or number."""
        raise NotImplementedError


class Partition(Device):
    """A partition.

    Attributes:
        parent: the disk.
        entry: its number, start and length.
        data: its bytes.
        direct_data: its bytes as requests past the page cache read and write them.
        read_only: whether writes are refused, in addition to the disk's own flag.
        loop_backed: see `Disk`.
        claims: see `WholeDisk`.
        statistics: what was counted of its requests.
    """

    device_type = "partition"
    has_device_link = False
    claims: int = 0
    parent: WholeDisk

    def __init__(
        self, disk: WholeDisk, whole: Parts, direct: Parts, entry: PartitionEntry, number: DeviceNumber
    ) -> None:
        """`whole` and `direct`: the bytes of the disk, through the page cache and past it."""
        super().__init__(disk.system, partition_name(disk.name, entry.number), disk)
        self.device_class = disk.device_class
        self.number = number
        self.entry = entry
        self.data = PartitionBytes(self, whole, direct)
        self.direct_data = PartitionBytes(self, direct, direct)
        self.read_only = disk.read_only and not disk.system.kernel.disks.partitions_follow_their_disk
        self.loop_backed = False
        self._minor = number.minor
        self.statistics = Statistics()

    @property
    def is_read_only(self) -> bool:
        """Whether writes are refused, by the partition itself or by its disk."""
        follows = self.system.kernel.disks.partitions_follow_their_disk
        return self.read_only or (follows and self.parent.read_only)

    @property
    def whole(self) -> WholeDisk:
        """The disk."""
        return self.parent

    @property
    def first_sector(self) -> int:
        """Its first sector on the disk."""
        return self.entry.start

    @property
    def sectors(self) -> int:
        """Its size in sectors of 512 bytes."""
        return self.entry.count

    @property
    def alignment(self) -> int:
        """Bytes from its start to the next boundary of a physical block of the disk.

        As queue_limit_alignment_offset (include/linux/blkdev.h, Linux 6.1).
        """
        return -self.entry.start * SECTOR_SIZE % self.parent.limits.physical_block_size

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (PARTITION_GROUP, TRACE_GROUP)

    def uevent_variables(self) -> list[tuple[str, str]]:
        variables = [*super().uevent_variables(), *self.parent.sequence_variables(), ("PARTN", str(self.entry.number))]
        return [*variables, ("PARTNAME", self.entry.name)] if self.entry.name else variables

    def add(self) -> None:
        super().add()
        create_files(self.directory, self, HOLDERS)
        block_size = self.parent.limits.logical_block_size
        self.system.dev.add(BinaryFile(self.name, 0o600, self.data, block_size, self.direct_data))

    def unregister(self) -> None:
        self.system.dev.remove(self.name)
        super().unregister()

    def renumber(self, number: DeviceNumber) -> None:
        """Take on the device number of the loop device through which user space accesses the partition."""
        super().renumber(number)
        self.loop_backed = True

    def release(self) -> None:
        self.parent.minors.free(self._minor)


class PartitionBytes:
    """The bytes of a partition: a part of the bytes of its disk."""

    def __init__(self, partition: Partition, whole: Parts, direct: Parts) -> None:
        """`direct`: the bytes of the disk past the page cache, for a partition behind a loop device."""
        self._partition = partition
        self._whole = whole
        self._direct = direct
        self._start = partition.entry.start * SECTOR_SIZE

    @property
    def size(self) -> int:
        """Size in bytes; 0 for a partition that ends before it begins, whose size the kernel computes as negative."""
        entry = self._partition.entry
        return entry.count * SECTOR_SIZE if entry.start < entry.end else 0

    def read(self, offset: int, length: int) -> bytes:
        """EIO beyond the end of the disk; also raises the errors of the disk."""
        self._require_on_disk(offset, length)
        with self._counted():
            return bytes(self._whole.view_part(self._start, self.size, offset, length))

    def view(self, offset: int, length: int) -> bytes | memoryview:
        """As `read`, but perhaps not a copy: it is valid until the next write."""
        self._require_on_disk(offset, length)
        with self._counted():
            return self._whole.view_part(self._start, self.size, offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """EPERM when the partition is read-only, EIO beyond the end of the disk; also raises the errors of the disk."""
        if self._partition.read_only and not self._partition.loop_backed:
            raise KernelError(errno.EPERM, f"{self._partition.name} is read-only")
        self._require_on_disk(offset, len(data))
        whole = self._direct if self._partition.loop_backed else self._whole
        with self._counted():
            whole.write_part(self._start, self.size, offset, data)

    def flush(self) -> None:
        with self._counted():
            self._whole.flush()

    def _counted(self) -> AbstractContextManager[None]:
        """A context in which what the disk counts counts for the partition, too."""
        total = self._partition.parent.counted
        return nullcontext() if total is None else self._partition.statistics.following(total)

    def _require_on_disk(self, offset: int, length: int) -> None:
        """EIO for a part of the partition that is not on the disk: BLKPG does not compare the two (Linux 6.1).

        The driver of a real machine then accesses whatever follows the disk in memory.
        """
        if self._start + offset + length > self._whole.size:
            raise KernelError(errno.EIO, f"{self._partition.name} ends beyond {self._partition.parent.name}")


@attribute("partition")
def partition(device: Partition) -> str:
    """The partition's number in the table."""
    return f"{device.entry.number}\n"


@attribute("start")
def start(device: Partition) -> str:
    """The partition's first sector, in units of 512 bytes."""
    return f"{device.entry.start}\n"


@attribute("size")
def size(device: Partition) -> str:
    """Sectors of 512 bytes; close to 2**64 for a GPT partition that ends before it begins."""
    return f"{device.sectors}\n"


@attribute("ro")
def ro(device: Partition) -> str:
    """Whether writes are refused."""
    return f"{int(device.is_read_only)}\n"


@attribute("alignment_offset")
def alignment_offset(device: Partition) -> str:
    """Bytes from the partition's start to the next boundary of a physical block of the disk."""
    return f"{device.alignment}\n"


@attribute("stat")
def stat(device: Partition) -> str:
    """17 counters of requests, which are 0 until `iostats` of the disk is on."""
    return stat_text(device.statistics)


PARTITION_GROUP: AttributeGroup[Partition] = AttributeGroup(
    (
        partition,
        start,
        size,
        ro,
        alignment_offset,
        constant("discard_alignment", "0\n"),
        stat,
        constant("inflight", f"{0:8} {0:8}\n"),
    )
)
#: The directory for links to devices stacked on the partition; always empty here.
HOLDERS: tuple[AttributeGroup[Partition], ...] = (AttributeGroup((), "holders"),)
