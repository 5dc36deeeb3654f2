"""ioctls on disks that the engine must know of: partitions that come and go, and the read-only flag (block/ioctl.c)."""

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

# Requests (include/uapi/linux/fs.h, include/uapi/linux/blkpg.h), and what BLKPG can do.
BLKROSET = 0x125D
BLKRRPART = 0x125F
BLKPG = 0x1269
_ADD, _DELETE, _RESIZE = 1, 2, 3

#: struct blkpg_ioctl_arg: what to do, flags, a length that nobody looks at, where the partition is told.
_ARGUMENT = struct.Struct("=i8x4xQ")
#: struct blkpg_partition: start and length in bytes, the number; two names that nobody looks at.
_PARTITION = struct.Struct("=qqi132x")
_NUMBER = struct.Struct("=i")

Steps: TypeAlias = Generator[CopyIn | CopyOut, bytes, int]


def block_ioctl(device: Disk | Partition, request: int, argument: int, *, privileged: bool) -> Steps:
    """Answer an ioctl (blkdev_ioctl, Linux 6.1).  ENOTTY for any but the three above.

    EACCES for who may not administer the system, EFAULT, EINVAL for a partition of a partition and for what makes no
    sense, ENXIO for a partition that there is not, EBUSY for one that there is, or that overlaps another.

    Args:
        device: what the node stands for.
        request: the ioctl's number.
        argument: the address that the ioctl was given; BLKPG's argument holds another address.
        privileged: whether the caller may administer the system.

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
        raise KernelError(errno.ENOTTY, f"{request:#x} is not for the engine")
    _require(privileged)
    if request == BLKRRPART:
        _whole(device).read_partitions_again()
        return 0
    (value,) = _NUMBER.unpack((yield CopyIn(0, _NUMBER.size)))
    device.read_only = bool(value)
    return 0


def _require(privileged: bool) -> None:
    if not privileged:
        raise KernelError(errno.EACCES, "the caller may not administer the system")


def _whole(device: Disk | Partition) -> Disk:
    if isinstance(device, Partition):
        raise KernelError(errno.EINVAL, f"{device.name} is a partition")
    return device


def _change(disk: Disk, operation: int, number: int, start: int, length: int) -> None:
    """Do what BLKPG says (blkpg_do_ioctl); `start` and `length` are bytes."""
    if number <= 0:
        raise KernelError(errno.EINVAL, f"{number} is no partition's number")
    if operation == _DELETE:
        disk.delete_partition(number)
        return
    block = disk.limits.logical_block_size
    if start < 0 or length <= 0 or start % block or length % block:
        raise KernelError(errno.EINVAL, f"{length} bytes at {start} are no whole blocks")
    if operation == _ADD:
        disk.add_partition(number, start // SECTOR_SIZE, length // SECTOR_SIZE)
    elif operation == _RESIZE:
        disk.resize_partition(number, start // SECTOR_SIZE, length // SECTOR_SIZE)
    else:
        raise KernelError(errno.EINVAL, f"{operation} is nothing that BLKPG does")
