"""Netlink messages that report uevents to user space: the kernel's, and udev's for listeners that use libudev.

Both carry the properties of an event, NUL-terminated strings KEY=VALUE.  Numbers are in the host's byte order unless
noted otherwise: a message never leaves the host.

The kernel's (kobject_uevent_env, lib/kobject_uevent.c, Linux 6.1):

    action@devpath NUL
    ACTION=...  DEVPATH=...  SUBSYSTEM=...  more  SEQNUM=...        at most 2048 bytes

udev's (struct monitor_netlink_header, src/libsystemd/sd-device/device-monitor.c, systemd 252):

     0  8  "libudev" NUL
     8  4  0xfeedcafe, big-endian
    12  4  bytes of this header
    16  4  where the properties are, from the message's start
    20  4  bytes of properties
    24  4  hash of SUBSYSTEM, big-endian
    28  4  hash of DEVTYPE, big-endian; 0 without one
    32  8  which tags there may be, a Bloom filter, big-endian; 0 without tags

A listener's socket filter compares the hashes, so that events of other subsystems do not wake the listener.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Collection, Mapping, Sequence

from nvdimmfs.units import U32_MASK

#: The first 8 bytes of a message from udev.
PREFIX = b"libudev\0"

#: Identifies the version of the layout (UDEV_MONITOR_MAGIC).
MAGIC = 0xFEEDCAFE

#: Size of the kernel's buffer for properties, in bytes (UEVENT_BUFFER_SIZE, include/linux/kobject.h, Linux 6.1).
PROPERTIES_SIZE = 2048

_HOST_FIELDS = struct.Struct("=3I")
_FILTER_FIELDS = struct.Struct(">IIQ")
_MAGIC = struct.Struct(">I")
_HEADER_SIZE = len(PREFIX) + _MAGIC.size + _HOST_FIELDS.size + _FILTER_FIELDS.size

#: The multiplier and the shift of MurmurHash2.
_MULTIPLIER = 0x5BD1E995
_SHIFT = 24

#: A Bloom filter's bits, and how many bits of the hash choose one of them.
_BLOOM_BITS = 64
_BLOOM_SHIFTS = (0, 6, 12, 18)


def kernel_message(properties: Sequence[tuple[str, str]]) -> bytes:
    """Return the message that the kernel sends.

    Args:
        properties: the KEY, VALUE pairs, ACTION and DEVPATH among them, in the order in which they are sent.

    Raises:
        ValueError: an invalid property, or more bytes than the kernel's buffer holds.
    """
    words = _words(properties)
    if len(words) > PROPERTIES_SIZE:
        raise ValueError(f"{len(words)} bytes of properties are more than {PROPERTIES_SIZE}")
    named = dict(properties)
    return f"{named['ACTION']}@{named['DEVPATH']}\0".encode("latin-1") + words


def udev_message(properties: Mapping[str, str]) -> bytes:
    """Return the message that udev sends.

    Args:
        properties: ACTION, DEVPATH, SUBSYSTEM, SEQNUM (libudev drops an event that lacks one of them) and the others.
            TAGS, when there are any, are between colons, as in `:seat:systemd:`.

    Raises:
        ValueError: an invalid property.
    """
    words = _words(properties.items())
    devtype, tags = properties.get("DEVTYPE"), properties.get("TAGS", "")
    filters = _FILTER_FIELDS.pack(
        string_hash(properties["SUBSYSTEM"]), string_hash(devtype) if devtype else 0, tag_bloom(tags.split(":"))
    )
    return b"".join(
        (PREFIX, _MAGIC.pack(MAGIC), _HOST_FIELDS.pack(_HEADER_SIZE, _HEADER_SIZE, len(words)), filters, words)
    )


def string_hash(text: str) -> int:
    """The 32-bit hash that a listener's socket filter compares instead of the string."""
    return murmur_hash2(text.encode("latin-1"))


def tag_bloom(tags: list[str]) -> int:
    """A Bloom filter of 64 bits: every tag sets up to four, chosen by its hash; empty tags count for nothing."""
    bloom = 0
    for tag in filter(None, tags):
        number = string_hash(tag)
        for shift in _BLOOM_SHIFTS:
            bloom |= 1 << (number >> shift) % _BLOOM_BITS
    return bloom


def murmur_hash2(data: bytes) -> int:
    """MurmurHash2 of 32 bits with the seed 0, words in the host's byte order (Austin Appleby, public domain)."""
    result = len(data) & U32_MASK
    whole = len(data) & ~3
    for position in range(0, whole, 4):
        word = int.from_bytes(data[position : position + 4], sys.byteorder) * _MULTIPLIER & U32_MASK
        word = (word ^ word >> _SHIFT) * _MULTIPLIER & U32_MASK
        result = result * _MULTIPLIER & U32_MASK ^ word
    if rest := data[whole:]:
        result = (result ^ int.from_bytes(rest, "little")) * _MULTIPLIER & U32_MASK
    result = (result ^ result >> 13) * _MULTIPLIER & U32_MASK
    return result ^ result >> 15


def _words(properties: Collection[tuple[str, str]]) -> bytes:
    """Encode the properties.  ValueError for one that a listener would decode to something else."""
    for key, value in properties:
        if not key or "=" in key or "\0" in key + value:
            raise ValueError(f"{key!r}={value!r} is not a valid property")
    return "".join(f"{key}={value}\0" for key, value in properties).encode("latin-1")
