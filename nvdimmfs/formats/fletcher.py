"""The checksum of every libnvdimm structure on media."""

from __future__ import annotations

import struct
from itertools import accumulate

from nvdimmfs.units import U32_MASK, div_round_up

_WORD = 4


def fletcher64(data: bytes) -> int:
    """Fletcher's checksum over little-endian 32-bit words (nd_fletcher64, drivers/nvdimm/core.c, Linux 6.1).

    The low half is the sum of the words, the high half the sum of those partial sums, both modulo 2**32.

    Args:
        data: a multiple of 4 bytes, in which the field that will hold the checksum counts as zero.
    """
    count, rest = divmod(len(data), _WORD)
    if rest:
        raise ValueError(f"fletcher64 takes whole 32-bit words, not {len(data)} bytes")
    # A zero word leaves the low sum as it is, so the zeros that end most blocks need not be looked at one by one.
    used = div_round_up(len(data.rstrip(b"\0")), _WORD)
    words: tuple[int, ...] = struct.unpack_from(f"<{used}I", data)
    low = sum(words)
    high = sum(accumulate(words)) + low * (count - used)
    return (high & U32_MASK) << 32 | (low & U32_MASK)
