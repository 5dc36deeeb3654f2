"""The attributes of a disk that describe the integrity of its data (block/blk-integrity.c, Linux 6.1 and 6.12).

The disk of a BTT with metadata registers a profile, which neither generates nor verifies anything.
"""

from __future__ import annotations

import re

from nvdimmfs.block.queue_limits import READ_VERIFY, WRITE_GENERATE, HasQueue, commit_limits, with_switch
from nvdimmfs.core.attribute import AttributeGroup, KernelAttribute, attribute, constant
from nvdimmfs.core.parse import c_string, parse_unsigned
from nvdimmfs.units import U64_MASK

_DIGITS = re.compile(rb"[0-9]*")


def _leading_number(data: bytes) -> int:
    """The number that a text begins with, 0 without one; it wraps around at 64 bits (simple_strtoul)."""
    digits = _DIGITS.match(c_string(data))
    assert digits, "the pattern also matches an empty string"
    return int(digits[0] or b"0") & U64_MASK


def _integrity_switch(name: str) -> KernelAttribute[HasQueue]:
    def show(disk: HasQueue) -> str:
        """0 or 1, initially 1 when the blocks have metadata, since 6.12 always; nothing checks any metadata."""
        return f"{int(name in disk.settings.integrity)}\n"

    def store(disk: HasQueue, data: bytes) -> None:
        """Stored as 1 if the text begins with a number other than 0, else as 0.  No text is refused.

        Since Linux 6.12: EINVAL for anything but a decimal number, ERANGE past 64 bits.
        """
        checks = disk.system.kernel.disks.integrity_switches_are_checked
        on = bool(parse_unsigned(data, base=10) if checks else _leading_number(data))
        disk.settings.integrity = with_switch(disk.settings.integrity, name, on=on)
        commit_limits(disk)

    return KernelAttribute(name, 0o644, show, store)


@attribute("format")
def integrity_format(disk: HasQueue) -> str:
    """`nop` when the blocks have metadata, which nothing fills in or checks, else `none`."""
    return "nop\n" if disk.limits.tag_size else "none\n"


@attribute("tag_size")
def tag_size(disk: HasQueue) -> str:
    """Bytes of metadata of each block."""
    return f"{disk.limits.tag_size}\n"


@attribute("protection_interval_bytes")
def protection_interval_bytes(disk: HasQueue) -> str:
    """Bytes that the metadata of a block belongs to; 0 without metadata."""
    return f"{disk.limits.logical_block_size if disk.limits.tag_size else 0}\n"


INTEGRITY_GROUP: AttributeGroup[HasQueue] = AttributeGroup(
    (
        constant("device_is_integrity_capable", "0\n"),
        integrity_format,
        protection_interval_bytes,
        _integrity_switch(READ_VERIFY),
        tag_size,
        _integrity_switch(WRITE_GENERATE),
    ),
    name="integrity",
)
