"""Requests on block devices that the machine takes part in (include/uapi/linux/fs.h, include/uapi/linux/blkpg.h)."""

from __future__ import annotations

import struct
from typing import ClassVar

import attrs

from nvdimmfs.formats.structure import Structure

#: Set the device read-only (an int), read the partition table again, change one partition.
BLKROSET = 0x125D
BLKRRPART = 0x125F

#: Write back the page cache and drop it, without a request to flush the device (blkdev_flushbuf, block/ioctl.c, Linux
#: 6.1), for which a stopped machine would have to answer.
BLKFLSBUF = 0x1261

BLKPG = 0x1269

#: Their names in <linux/fs.h>.
REQUEST_NAMES = {BLKROSET: "BLKROSET", BLKRRPART: "BLKRRPART", BLKFLSBUF: "BLKFLSBUF", BLKPG: "BLKPG"}

#: What BLKPG does (BLKPG_..._PARTITION).
BLKPG_ADD = 1
BLKPG_DELETE = 2
BLKPG_RESIZE = 3


@attrs.frozen
class PartitionRequest(Structure):
    """The argument of BLKPG (struct blkpg_ioctl_arg).

    Attributes:
        operation: see `BLKPG_ADD`.
        data: the address of a `PartitionRange`.
    """

    layout: ClassVar = struct.Struct("<i8x4xQ")

    operation: int
    data: int


@attrs.frozen
class PartitionRange(Structure):
    """What BLKPG changes (struct blkpg_partition); its two names are not used.

    Attributes:
        start, length: in bytes.
        number: of the partition, from 1.
    """

    layout: ClassVar = struct.Struct("<qqi132x")

    start: int
    length: int
    number: int


#: The argument of BLKROSET.
READ_ONLY = struct.Struct("<i")
