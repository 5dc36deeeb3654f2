"""ioctls that return one value of a block device, such as its size (blkdev_ioctl, block/ioctl.c, Linux 6.1)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

import attrs

from nvdimmfs.block.badblocks import SECTOR_SIZE
from nvdimmfs.block.disk import Disk
from nvdimmfs.block.partition import Partition
from nvdimmfs.formats.block_requests import BlockRequest
from nvdimmfs.kernels.kernel import Kernel
from nvdimmfs.units import KIB, PAGE_SIZE, U64_MASK

_USHORT = struct.Struct("<H")
_INT = struct.Struct("<i")
_UINT = struct.Struct("<I")
_ULONG = struct.Struct("<Q")

#: The largest value of BLKSECTGET, which returns an unsigned short.
_MOST_SECTORS = (1 << 16) - 1


@attrs.frozen
class Value:
    """A value that a request returns.

    Attributes:
        layout: how it is written to the caller's memory.
        get: what it is.
        null_is_invalid: whether a null pointer is EINVAL instead of EFAULT.
        since: the first kernel that has the request; None for all.
    """

    layout: struct.Struct
    get: Callable[[Disk | Partition], int]
    null_is_invalid: bool = False
    since: str | None = None

    def exists_in(self, kernel: Kernel) -> bool:
        """Whether a kernel has the request."""
        return self.since is None or kernel.has(self.since)

    def bytes_of(self, device: Disk | Partition) -> bytes:
        """The value of a device, as it is written to the caller's memory."""
        return self.layout.pack(self.get(device))


def disk_of(device: Disk | Partition) -> Disk:
    """The disk that a partition is on; the disk itself."""
    assert isinstance(device.whole, Disk), "there is one class of whole disks"
    return device.whole


def is_read_only(device: Disk | Partition) -> bool:
    """Whether writes are refused, by a partition itself or by its disk."""
    return device.read_only if isinstance(device, Disk) else device.is_read_only


def _most_sectors(device: Disk | Partition) -> int:
    return min(disk_of(device).settings.max_sectors_kb * KIB // SECTOR_SIZE, _MOST_SECTORS)


def _read_ahead(device: Disk | Partition) -> int:
    return disk_of(device).bdi.read_ahead_pages * PAGE_SIZE // SECTOR_SIZE & U64_MASK


def _block_size(device: Disk | Partition) -> int:
    return disk_of(device).limits.block_size_of(device.sectors * SECTOR_SIZE)


def _physical_block_size(device: Disk | Partition) -> int:
    return disk_of(device).limits.physical_block_size


#: By number.  The sizes of a BLKGETSIZE are those of a 64-bit program.
VALUES: Mapping[int, Value] = {
    BlockRequest.BLKROGET: Value(_INT, is_read_only),
    BlockRequest.BLKGETSIZE: Value(_ULONG, lambda device: device.sectors),
    BlockRequest.BLKGETSIZE64: Value(_ULONG, lambda device: device.sectors * SECTOR_SIZE & U64_MASK),
    BlockRequest.BLKRAGET: Value(_ULONG, _read_ahead, null_is_invalid=True),
    BlockRequest.BLKFRAGET: Value(_ULONG, _read_ahead, null_is_invalid=True),
    BlockRequest.BLKSECTGET: Value(_USHORT, _most_sectors),
    BlockRequest.BLKSSZGET: Value(_INT, lambda device: disk_of(device).limits.logical_block_size),
    BlockRequest.BLKBSZGET: Value(_INT, _block_size),
    BlockRequest.BLKPBSZGET: Value(_UINT, _physical_block_size),
    BlockRequest.BLKIOMIN: Value(_UINT, _physical_block_size),
    BlockRequest.BLKIOOPT: Value(_UINT, lambda _: 0),
    BlockRequest.BLKALIGNOFF: Value(_INT, lambda device: device.alignment),
    BlockRequest.BLKDISCARDZEROES: Value(_UINT, lambda _: 0),
    BlockRequest.BLKROTATIONAL: Value(_USHORT, lambda device: disk_of(device).settings.is_rotational),
    BlockRequest.BLKGETDISKSEQ: Value(_ULONG, lambda device: disk_of(device).sequence, since="5.15"),
    BlockRequest.BLKGETZONESZ: Value(_UINT, lambda _: 0, since="4.20"),
    BlockRequest.BLKGETNRZONES: Value(_UINT, lambda _: 0, since="4.20"),
}
