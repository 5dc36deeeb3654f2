"""ioctls on block devices that change the model: partitions and the read-only flag (block/ioctl.c)."""

from __future__ import annotations

import errno

from nvdimmfs.block.badblocks import SECTOR_SIZE
from nvdimmfs.block.disk import Disk
from nvdimmfs.block.partition import Partition
from nvdimmfs.core.user_memory import CopyIn, IoctlSteps
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.block_requests import (
    BLKPG,
    BLKPG_ADD,
    BLKPG_DELETE,
    BLKPG_RESIZE,
    BLKROSET,
    BLKRRPART,
    READ_ONLY,
    PartitionRange,
    PartitionRequest,
)


def block_ioctl(device: Disk | Partition, request: int, argument: int, *, privileged: bool) -> IoctlSteps:
    """Carry out an ioctl on a block device (blkdev_ioctl, Linux 6.1).

    ENOTTY for any but BLKPG, BLKRRPART and BLKROSET; EACCES when the caller lacks CAP_SYS_ADMIN; EFAULT for memory
    that the caller has not mapped; EINVAL for a partition of a partition and for invalid values; ENXIO when the
    partition to change does not exist; EBUSY when the partition to add exists or overlaps another.

    Args:
        device: the disk or partition behind the node.
        request: the ioctl's number.
        argument: the address passed to ioctl(2); the structure there holds the address of another one for BLKPG.
        privileged: whether the caller has CAP_SYS_ADMIN.

    Returns:
        0.
    """
    if request == BLKPG:
        change = PartitionRequest.from_bytes((yield CopyIn(0, PartitionRequest.size())))
        _require(privileged)
        partition = PartitionRange.from_bytes((yield CopyIn(change.data - argument, PartitionRange.size())))
        _change(_whole(device), change.operation, partition)
        return 0
    if request not in (BLKROSET, BLKRRPART):
        raise KernelError(errno.ENOTTY, f"ioctl {request:#x} is not supported")
    _require(privileged)
    if request == BLKRRPART:
        _whole(device).rescan_partitions()
        return 0
    (value,) = READ_ONLY.unpack((yield CopyIn(0, READ_ONLY.size)))
    device.read_only = bool(value)
    return 0


def _require(privileged: bool) -> None:
    if not privileged:
        raise KernelError(errno.EACCES, "the caller lacks CAP_SYS_ADMIN")


def _whole(device: Disk | Partition) -> Disk:
    if isinstance(device, Partition):
        raise KernelError(errno.EINVAL, f"{device.name} is a partition")
    return device


def _change(disk: Disk, operation: int, partition: PartitionRange) -> None:
    """Carry out an operation of BLKPG (blkpg_do_ioctl)."""
    number, start, length = partition.number, partition.start, partition.length
    if number <= 0:
        raise KernelError(errno.EINVAL, f"{number} is not a valid partition number")
    if operation == BLKPG_DELETE:
        disk.delete_partition(number)
        return
    block = disk.limits.logical_block_size
    if start < 0 or length <= 0 or start % block or length % block:
        raise KernelError(errno.EINVAL, f"{length} bytes at {start} are not whole logical blocks")
    if operation == BLKPG_ADD:
        if not disk.registered:  # it may have gone while the caller's memory was read (disk_live in bdev_add_partition)
            raise KernelError(errno.ENXIO, f"{disk.name} is gone")
        disk.add_partition(number, start // SECTOR_SIZE, length // SECTOR_SIZE)
    elif operation == BLKPG_RESIZE:
        disk.resize_partition(number, start // SECTOR_SIZE, length // SECTOR_SIZE)
    else:
        raise KernelError(errno.EINVAL, f"BLKPG has no operation {operation}")
