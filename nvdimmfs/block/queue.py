"""The attributes of a disk that describe its request queue and what the block layer adds to every disk.

Nothing here schedules anything: the disks of persistent memory take requests directly, so these files report what
the driver declared, and remember what is written to the plain switches among them.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import attrs

from nvdimmfs.core.attribute import AttributeGroup, KernelAttribute, attribute, constant
from nvdimmfs.core.parse import parse_unsigned
from nvdimmfs.errors import KernelError

if TYPE_CHECKING:
    from nvdimmfs.block.disk import Disk


@attrs.frozen
class QueueLimits:
    """What a driver declares about its disk.

    Attributes:
        logical_block_size: bytes of the smallest request.
        physical_block_size: bytes that are written at once.
        dax: user space can map the media directly.
        write_cache: written data needs a flush to be durable.
        max_sectors_kb: KiB of the largest request; 2147483647 for "any".
    """

    logical_block_size: int = 512
    physical_block_size: int = 512
    dax: bool = False
    write_cache: bool = False


#: Switches of a queue with their value at the start; a write of a number is remembered and nothing else.
_SWITCHES = {
    "add_random": 0,
    "iostats": 0,
    "nomerges": 0,
    "read_ahead_kb": 128,
    "rotational": 0,
    "rq_affinity": 0,
    "stable_writes": 0,
}


def _switch(name: str, default: int) -> KernelAttribute[Disk]:
    def show(disk: Disk) -> str:
        return f"{disk.settings.get(name, default)}\n"

    def store(disk: Disk, data: bytes) -> None:
        disk.settings[name] = parse_unsigned(data, bits=32)

    show.__doc__ = "Remembered, without effect on a disk that takes requests directly."
    return KernelAttribute(name, 0o644, show, store)


@attribute("dax")
def dax(disk: Disk) -> str:
    """Whether user space can map the media directly."""
    return f"{int(disk.limits.dax)}\n"


@attribute("hw_sector_size")
def hw_sector_size(disk: Disk) -> str:
    """The old name of logical_block_size."""
    return f"{disk.limits.logical_block_size}\n"


@attribute("logical_block_size")
def logical_block_size(disk: Disk) -> str:
    """Bytes of the smallest request."""
    return f"{disk.limits.logical_block_size}\n"


@attribute("physical_block_size")
def physical_block_size(disk: Disk) -> str:
    """Bytes that are written at once."""
    return f"{disk.limits.physical_block_size}\n"


@attribute("minimum_io_size")
def minimum_io_size(disk: Disk) -> str:
    """Bytes of the smallest request that costs no more than it moves."""
    return f"{disk.limits.physical_block_size}\n"


@attribute("write_cache")
def write_cache(disk: Disk) -> str:
    """Whether written data needs a flush to be durable."""
    default = "write back" if disk.limits.write_cache else "write through"
    return f"{disk.write_cache or default}\n"


@write_cache.on_store
def _store_write_cache(disk: Disk, data: bytes) -> None:
    """EINVAL for anything but the three words that the kernel knows."""
    for word, meaning in (
        (b"write back", "write back"),
        (b"write through", "write through"),
        (b"none", "write through"),
    ):
        if data.startswith(word):
            disk.write_cache = meaning
            return
    raise KernelError(errno.EINVAL, "neither write back nor write through")


@attribute("wbt_lat_usec", 0o644)
def wbt_lat_usec(_disk: Disk) -> str:
    """EINVAL: a disk that takes requests directly has no writeback throttling."""
    raise KernelError(errno.EINVAL, "no writeback throttling")


QUEUE_GROUP: AttributeGroup[Disk] = AttributeGroup(
    (
        *(_switch(name, default) for name, default in _SWITCHES.items()),
        dax,
        hw_sector_size,
        logical_block_size,
        physical_block_size,
        minimum_io_size,
        write_cache,
        wbt_lat_usec,
        constant("chunk_sectors", "0\n"),
        constant("discard_granularity", "0\n"),
        constant("discard_max_bytes", "0\n", 0o644),
        constant("discard_max_hw_bytes", "0\n"),
        constant("discard_zeroes_data", "0\n"),
        constant("dma_alignment", "511\n"),
        constant("fua", "0\n"),
        constant("io_poll", "0\n", 0o644),
        constant("io_poll_delay", "0\n", 0o644),
        constant("max_discard_segments", "1\n"),
        constant("max_hw_sectors_kb", "2147483647\n"),
        constant("max_integrity_segments", "0\n"),
        constant("max_sectors_kb", "1280\n", 0o644),
        constant("max_segment_size", "65536\n"),
        constant("max_segments", "128\n"),
        constant("nr_requests", "128\n", 0o644),
        constant("nr_zones", "0\n"),
        constant("optimal_io_size", "0\n"),
        constant("scheduler", "none\n", 0o644),
        constant("virt_boundary_mask", "0\n"),
        constant("write_same_max_bytes", "0\n"),
        constant("write_zeroes_max_bytes", "0\n"),
        constant("zone_append_max_bytes", "0\n"),
        constant("zone_write_granularity", "0\n"),
        constant("zoned", "none\n"),
    ),
    name="queue",
)

INTEGRITY_GROUP: AttributeGroup[Disk] = AttributeGroup(
    (
        constant("device_is_integrity_capable", "0\n"),
        constant("format", "none\n"),
        constant("protection_interval_bytes", "0\n"),
        constant("read_verify", "0\n", 0o644),
        constant("tag_size", "0\n"),
        constant("write_generate", "0\n", 0o644),
    ),
    name="integrity",
)

TRACE_GROUP: AttributeGroup[Disk] = AttributeGroup(
    (
        constant("act_mask", "disabled\n", 0o644),
        constant("enable", "0\n", 0o644),
        constant("end_lba", "disabled\n", 0o644),
        constant("pid", "disabled\n", 0o644),
        constant("start_lba", "disabled\n", 0o644),
    ),
    name="trace",
)
