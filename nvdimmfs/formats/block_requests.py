"""ioctl(2) requests on block devices (include/uapi/linux: fs.h, blkpg.h, blkzoned.h, blktrace_api.h, hdreg.h, pr.h)."""

from __future__ import annotations

import enum
import struct
from typing import ClassVar

import attrs

from nvdimmfs.formats.structure import Structure


class BlockRequest(enum.IntEnum):
    """The requests that block devices know, with their names; those with an argument of 64 bits for 64-bit programs."""

    HDIO_GETGEO = 0x0301
    BLKROSET = 0x125D
    BLKROGET = 0x125E
    BLKRRPART = 0x125F
    BLKGETSIZE = 0x1260
    BLKFLSBUF = 0x1261
    BLKRASET = 0x1262
    BLKRAGET = 0x1263
    BLKFRASET = 0x1264
    BLKFRAGET = 0x1265
    BLKSECTGET = 0x1267
    BLKSSZGET = 0x1268
    BLKPG = 0x1269
    BLKTRACESTART = 0x1274
    BLKTRACESTOP = 0x1275
    BLKTRACETEARDOWN = 0x1276
    BLKDISCARD = 0x1277
    BLKIOMIN = 0x1278
    BLKIOOPT = 0x1279
    BLKALIGNOFF = 0x127A
    BLKPBSZGET = 0x127B
    BLKDISCARDZEROES = 0x127C
    BLKSECDISCARD = 0x127D
    BLKROTATIONAL = 0x127E
    BLKZEROOUT = 0x127F
    BLKBSZGET = 0x80081270
    BLKBSZSET = 0x40081271
    BLKGETSIZE64 = 0x80081272
    BLKTRACESETUP = 0xC0481273
    BLKGETDISKSEQ = 0x80081280
    BLKREPORTZONE = 0xC0101282
    BLKRESETZONE = 0x40101283
    BLKGETZONESZ = 0x80041284
    BLKGETNRZONES = 0x80041285
    BLKOPENZONE = 0x40101286
    BLKCLOSEZONE = 0x40101287
    BLKFINISHZONE = 0x40101288
    IOC_PR_REGISTER = 0x401870C8
    IOC_PR_RESERVE = 0x401070C9
    IOC_PR_RELEASE = 0x401070CA
    IOC_PR_PREEMPT = 0x401870CB
    IOC_PR_PREEMPT_ABORT = 0x401870CC
    IOC_PR_CLEAR = 0x401070CD


#: Set the device read-only (an int), read the partition table again.
BLKROSET = BlockRequest.BLKROSET.value
BLKRRPART = BlockRequest.BLKRRPART.value

#: Write back the page cache and drop it, without a request to flush the device (blkdev_flushbuf, block/ioctl.c, Linux
#: 6.1), for which a stopped machine would have to answer.
BLKFLSBUF = BlockRequest.BLKFLSBUF.value

#: Change one partition.
BLKPG = BlockRequest.BLKPG.value

#: Their names in the headers.
REQUEST_NAMES = {request.value: request.name for request in BlockRequest}

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
class PartitionRequest32(Structure):
    """The same of a 32-bit program (struct compat_blkpg_ioctl_arg)."""

    layout: ClassVar = struct.Struct("<i8xI")

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


@attrs.frozen
class TraceSetup(Structure):
    """The argument of BLKTRACESETUP (struct blk_user_trace_setup).

    Attributes:
        name: of the device, an output.
        act_mask: the actions to trace, a bit each; 0 for all.
        hole, other_hole: left alone.
        buffer_size, buffer_count: the buffers of each processor, in bytes.
        start_lba, end_lba: the sectors to trace; 0 for the first and the last of the device.
        pid: the process to trace; 0 for all.
        tail: left alone.
    """

    layout: ClassVar = struct.Struct("<32sH2sII4sQQI4s")

    name: bytes
    act_mask: int
    hole: bytes
    buffer_size: int
    buffer_count: int
    other_hole: bytes
    start_lba: int
    end_lba: int
    pid: int
    tail: bytes


#: The argument of BLKROSET and BLKBSZSET: an int, although the latter has the number of a size_t.
INTEGER = struct.Struct("<i")

#: The argument of BLKDISCARD, BLKSECDISCARD and BLKZEROOUT: first byte and length.
BYTE_RANGE = struct.Struct("<QQ")

#: The result of HDIO_GETGEO (struct hd_geometry): heads, sectors of a track, cylinders, first sector.
GEOMETRY = struct.Struct("<BBH4xQ")
