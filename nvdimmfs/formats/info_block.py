"""Common parts of info blocks and labels: the frame of an info block, sequence numbers (drivers/nvdimm/nd.h, 6.1)."""

from __future__ import annotations

import struct
from uuid import UUID

from nvdimmfs.formats.fletcher import fletcher64

#: Bytes of every info block.
INFO_BLOCK_SIZE = 4096

#: Where the checksum lies, in bytes: the last eight.
CHECKSUM_OFFSET = INFO_BLOCK_SIZE - 8

#: The parent UUID of a block that belongs to a namespace without a label, which has no UUID.
NULL_UUID = UUID(int=0)

_CHECKSUM = struct.Struct("<Q")


def seal(fields: bytes) -> bytes:
    """A whole info block: `fields`, then zeros, then the checksum.

    At most 4096 bytes; what stands where the checksum goes is replaced.
    """
    if len(fields) > INFO_BLOCK_SIZE:
        raise ValueError(f"an info block has {INFO_BLOCK_SIZE} bytes, not {len(fields)}")
    body = fields[:CHECKSUM_OFFSET].ljust(CHECKSUM_OFFSET, b"\0")
    return body + _CHECKSUM.pack(_checksum(body))


def checksum_ok(block: bytes) -> bool:
    """Whether the checksum that the block holds is its own."""
    require_block(block)
    (stored,) = _CHECKSUM.unpack_from(block, CHECKSUM_OFFSET)
    return bool(stored == _checksum(block[:CHECKSUM_OFFSET]))


def require_block(block: bytes) -> None:
    """ValueError unless these are the bytes of one info block."""
    if len(block) != INFO_BLOCK_SIZE:
        raise ValueError(f"an info block has {INFO_BLOCK_SIZE} bytes, not {len(block)}")


def next_seq(seq: int) -> int:
    """The sequence number after `seq`: 1, 2, 3, 1, ...; 0 stays 0 (nd_inc_seq, drivers/nvdimm/nd.h)."""
    return (0, 2, 3, 1)[seq & 3]


def _checksum(body: bytes) -> int:
    """Over the whole block, in which the checksum's own bytes count as zero."""
    return fletcher64(body + bytes(_CHECKSUM.size))
