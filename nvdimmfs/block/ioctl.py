"""ioctls on block devices that change the model: partitions and the read-only flag (block/ioctl.c)."""

from __future__ import annotations

import errno
import struct
from collections.abc import Generator
from typing import TypeAlias

from nvdimmfs.block.badblocks import SECTOR_SIZE
from nvdimmfs.block.disk import Disk
from nvdimmfs.block.partition import Partition
from nvdimmfs.core.user_memory import CopyIn, CopyOut
from nvdimmfs.errors import KernelError

# Requests (include/uapi/linux/fs.h, include/uapi/linux/blkpg.h), and the operations of BLKPG.
BLKROSET = 0x125D
BLKRRPART = 0x125F
BLKPG = 0x1269
_ADD, _DELETE, _RESIZE = 1, 2, 3

#: struct blkpg_ioctl_arg: operation, flags and length (both ignored), address of a struct blkpg_partition.
_ARGUMENT = struct.Struct("=i8x4xQ")
#: struct blkpg_partition: start and length in bytes, the number; two names (ignored).
_PARTITION = struct.Struct("=qqi132x")
_NUMBER = struct.Struct("=i")

Steps: TypeAlias = Generator[CopyIn | CopyOut, bytes, int]


def block_ioctl(device: Disk | Partition, request: int, argument: int, *, privileged: bool) -> Steps:
    """Carry out an ioctl on a block device (blkdev_ioctl, Linux 6.1).  ENOTTY for any but the three above.

    EACCES when the caller lacks CAP_SYS_ADMIN; EFAULT for memory that the caller has not mapped; EINVAL for a
    partition of a partition and for invalid values; ENXIO when the partition to change does not exist; EBUSY when the
    partition to add exists or overlaps another.

    Args:
        device: the disk or partition behind the node.
        request: the ioctl's number.
        argument: the address passed to ioctl(2); the structure there holds the address of another one for BLKPG.
        privileged: whether the caller has CAP_SYS_ADMIN.

    Returns:
        0.
    """
    if request == BLKPG:
        operation, where = _ARGUMENT.unpack((yield CopyIn(0, _ARGUMENT.size)))
        _require(privileged)
        start, length, number = _PARTITION.unpack((yield CopyIn(where - argument, _PARTITION.size)))
        _change(_whole(device), operation, number, start, length)
        return 0
    if request not in (BLKROSET, BLKRRPART):
        raise KernelError(errno.ENOTTY, f"ioctl {request:#x} is not supported")
    _require(privileged)
    if request == BLKRRPART:
        _whole(device).rescan_partitions()
        return 0
    (value,) = _NUMBER.unpack((yield CopyIn(0, _NUMBER.size)))
    device.read_only = bool(value)
    return 0


def _require(privileged: bool) -> None:
    if not privileged:
        raise KernelError(errno.EACCES, "the caller lacks CAP_SYS_ADMIN")


def _whole(device: Disk | Partition) -> Disk:
    if isinstance(device, Partition):
        raise KernelError(errno.EINVAL, f"{device.name} is a partition")
    return device


def _change(disk: Disk, operation: int, number: int, start: int, length: int) -> None:
    """Carry out an operation of BLKPG (blkpg_do_ioctl); `start` and `length` are bytes."""
    if number <= 0:
        raise KernelError(errno.EINVAL, f"{number} is not a valid partition number")
    if operation == _DELETE:
        disk.delete_partition(number)
        return
    block = disk.limits.logical_block_size
    if start < 0 or length <= 0 or start % block or length % block:
        raise KernelError(errno.EINVAL, f"{length} bytes at {start} are not whole logical blocks")
    if operation == _ADD:
        disk.add_partition(number, start // SECTOR_SIZE, length // SECTOR_SIZE)
    elif operation == _RESIZE:
        disk.resize_partition(number, start // SECTOR_SIZE, length // SECTOR_SIZE)
    else:
        raise KernelError(errno.EINVAL, f"BLKPG has no operation {operation}")
