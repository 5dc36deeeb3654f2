"""What open nodes of disks and partitions prevent (block/bdev.c, block/genhd.c, Linux 6.1 and 6.12)."""

from __future__ import annotations

import errno

from nvdimmfs.block.disk import Disk
from nvdimmfs.block.partition import Partition, WholeDisk
from nvdimmfs.core.device_uses import NO_USES, DeviceUses
from nvdimmfs.errors import KernelError


def open_block_device(device: Disk | Partition, *, exclusive: bool) -> None:
    """A process opens the node of a block device, perhaps with O_EXCL.  A mount does the latter.

    EBUSY for O_EXCL while the device, its disk or a partition of it is open so.
    """
    if exclusive:
        require_unclaimed(device)
        device.claims += 1
    device.opened()
    if isinstance(device, Partition):
        device.whole.opened()


def close_block_device(device: Disk | Partition, *, exclusive: bool) -> None:
    """The process closes the node, or ends."""
    device.claims -= exclusive
    device.closed()
    if isinstance(device, Partition):
        device.whole.closed()


def require_unclaimed(device: Disk | Partition, uses: DeviceUses = NO_USES) -> None:
    """EBUSY while another process has the device, its disk or a partition of it to itself (bd_may_claim)."""
    others = device.partitions if isinstance(device, Disk) else (device.whole,)
    related: list[WholeDisk | Partition] = [device, *others]
    for each in related:
        if each.claims or each.name in uses.claimed:
            raise KernelError(errno.EBUSY, f"{each.name} is open with O_EXCL")


def require_closed(partition: Partition, uses: DeviceUses) -> None:
    """EBUSY while a process has a partition open, which is to go (bdev_del_partition)."""
    if partition.opens or partition.name in uses.open:
        raise KernelError(errno.EBUSY, f"{partition.name} is open")


def require_rescan(disk: Disk, uses: DeviceUses) -> None:
    """EBUSY while the partition table of a disk cannot be read again (disk_scan_partitions)."""
    for partition in disk.partitions:
        require_closed(partition, uses)
    require_unclaimed(disk, uses)
