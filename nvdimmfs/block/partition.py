"""Partitions of a disk: devices below it, found in the table on it when it is added (block/partitions, Linux 6.1)."""

from __future__ import annotations

import errno
from typing import Protocol, Self

from nvdimmfs.block.badblocks import SECTOR_SIZE
from nvdimmfs.block.queue import QueueLimits
from nvdimmfs.block.trace import TRACE_GROUP, Trace
from nvdimmfs.core.attribute import AttributeGroup, attribute, constant, create_files
from nvdimmfs.core.device import Device
from nvdimmfs.core.device_number import DeviceNumber
from nvdimmfs.core.numbering import Numbering
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.partition_table import PartitionEntry
from nvdimmfs.kernfs import BinaryFile, Bytes


class WholeDiskBytes(Bytes, Protocol):
    """The bytes of a disk with partitions."""

    def write_sectors(self, offset: int, data: bytes) -> None:
        """Write whole sectors, without the page cache."""


class WholeDisk(Device):
    """A disk, as its partitions see it.

    Attributes:
        limits: the limits that its driver declared.
        read_only: writes are refused with EPERM.
        minors: the minor numbers of disks and partitions.
    """

    limits: QueueLimits
    read_only: bool
    minors: Numbering

    def sequence_variables(self) -> list[tuple[str, str]]:
        """The variables of uevents that identify the disk among others of its name or number."""
        raise NotImplementedError


class Partition(Device):
    """A partition.

    Attributes:
        parent: the disk.
        entry: where it is.
        data: its bytes.
        read_only: writes to it are refused, whatever the disk says.
        trace: how its requests are traced; None when they are not.
        has_front: as that of its disk.
    """

    device_type = "partition"
    has_device_link = False
    parent: WholeDisk

    def __init__(self, disk: WholeDisk, whole: WholeDiskBytes, entry: PartitionEntry, number: DeviceNumber) -> None:
        super().__init__(disk.system, f"{disk.name}{'p' if disk.name[-1].isdigit() else ''}{entry.number}", disk)
        self.device_class = disk.device_class
        self.number = number
        self.entry = entry
        self.data = PartitionBytes(self, whole)
        self.read_only = False
        self.trace: Trace | None = None
        self.has_front = False
        self._minor = number.minor

    @property
    def sectors(self) -> int:
        """Its size, in 512 bytes."""
        return self.entry.count

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (PARTITION_GROUP, TRACE_GROUP)

    def uevent_variables(self) -> list[tuple[str, str]]:
        variables = [*super().uevent_variables(), *self.parent.sequence_variables(), ("PARTN", str(self.entry.number))]
        return [*variables, ("PARTNAME", self.entry.name)] if self.entry.name else variables

    def add(self) -> None:
        super().add()
        create_files(self.directory, self, HOLDERS)
        self.system.dev.add(BinaryFile(self.name, 0o600, self.data, self.parent.limits.logical_block_size))

    def unregister(self) -> None:
        self.system.dev.remove(self.name)
        super().unregister()

    def renumber(self, number: DeviceNumber) -> None:
        """Go by the number of the block device that stands before it from now on."""
        super().renumber(number)
        self.has_front = True

    def release(self) -> None:
        self.parent.minors.free(self._minor)


class PartitionBytes:
    """A partition as a file: a part of its disk."""

    def __init__(self, partition: Partition, whole: WholeDiskBytes) -> None:
        self._partition = partition
        self._whole = whole
        self._start = partition.entry.start * SECTOR_SIZE

    @property
    def size(self) -> int:
        """Bytes; 0 when it ends before it begins: the kernel's size is negative then, and nothing is in it."""
        entry = self._partition.entry
        return entry.count * SECTOR_SIZE if entry.start < entry.end else 0

    def read(self, offset: int, length: int) -> bytes:
        """Errors as of the disk."""
        return self._whole.read(self._start + offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """EPERM when the partition is read-only; else as of the disk."""
        if self._partition.read_only and not self._partition.has_front:
            raise KernelError(errno.EPERM, f"{self._partition.name} is read-only")
        write = self._whole.write_sectors if self._partition.has_front else self._whole.write
        write(self._start + offset, data)

    def flush(self) -> None:
        self._whole.flush()


@attribute("partition")
def partition(device: Partition) -> str:
    """Its number in the table."""
    return f"{device.entry.number}\n"


@attribute("start")
def start(device: Partition) -> str:
    """Its first sector of 512 bytes."""
    return f"{device.entry.start}\n"


@attribute("size")
def size(device: Partition) -> str:
    """Sectors of 512 bytes; nearly 2**64 when a GPT has it end before it begins."""
    return f"{device.sectors}\n"


@attribute("ro")
def ro(device: Partition) -> str:
    """Whether writes are refused."""
    return f"{int(device.read_only or device.parent.read_only)}\n"


@attribute("alignment_offset")
def alignment_offset(device: Partition) -> str:
    """Bytes from its start to the next boundary of what the disk writes at once.

    As queue_limit_alignment_offset (include/linux/blkdev.h, Linux 6.1).
    """
    return f"{-device.entry.start * SECTOR_SIZE % device.parent.limits.physical_block_size}\n"


#: Eleven, then seventeen counters since Linux 5.5: nothing counts requests here.
STATISTICS = " ".join(f"{0:8}" for _ in range(17))

PARTITION_GROUP: AttributeGroup[Partition] = AttributeGroup(
    (
        partition,
        start,
        size,
        ro,
        alignment_offset,
        constant("discard_alignment", "0\n"),
        constant("stat", f"{STATISTICS}\n"),
        constant("inflight", f"{0:8} {0:8}\n"),
    )
)
#: Where those that are made of it would have links.
HOLDERS: tuple[AttributeGroup[Partition], ...] = (AttributeGroup((), "holders"),)
