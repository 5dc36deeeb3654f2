"""The attributes of a disk that describe its request queue.

Disks of persistent memory are bio-based and have no request queue to schedule.  Therefore these files report the limits
that the driver declared, store the value of each switch without further effect, and refuse settings that only a
request-based queue has (block/blk-sysfs.c, Linux 6.1).  Newer kernels do not have those files for such a disk.
"""

from __future__ import annotations

import errno

from nvdimmfs.block.badblocks import SECTOR_SIZE
from nvdimmfs.block.queue_limits import (
    IOSTATS,
    MAX_SECTORS,
    ROTATIONAL,
    STABLE_WRITES,
    HasQueue,
    commit_limits,
    with_switch,
)
from nvdimmfs.core.attribute import AttributeGroup, HasSystem, KernelAttribute, attribute, constant
from nvdimmfs.core.parse import parse_signed, parse_unsigned_or_einval
from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.disk_rules import WriteBack
from nvdimmfs.units import KIB, PAGE_SIZE, U64_MASK

#: Target latency of writeback throttling in nanoseconds, for rotational and other disks (block/blk-wbt.c).
_ROTATIONAL_LATENCY = 75_000_000
_SOLID_STATE_LATENCY = 2_000_000

#: The first kernel in which only request-based disks have the files of a request queue (queue_attr_visible).
_REQUEST_BASED = "6.6"
#: Limits of writes that are never torn, bytes; 0: the disk promises none (block/blk-sysfs.c, Linux 6.12).
_ATOMIC_WRITE_LIMITS = ("boundary", "max", "unit_max", "unit_min")

#: Plain switches of a queue; a write stores the value and has no other effect.
_SWITCHES = ("add_random", IOSTATS, ROTATIONAL, STABLE_WRITES)


def _parse_setting(data: bytes) -> int:
    """Parse a decimal number of 32 bits.  EINVAL for anything else."""
    return parse_unsigned_or_einval(data, bits=32, base=10)


def _switch(name: str) -> KernelAttribute[HasQueue]:
    def show(disk: HasQueue) -> str:
        """0 or 1; has no effect on a bio-based disk."""
        return f"{int(name in disk.settings.switches)}\n"

    def store(disk: HasQueue, data: bytes) -> None:
        """Stored as 0 or 1; any number but 0 counts as 1.  EINVAL for anything but a decimal number of 32 bits."""
        settings = disk.settings
        settings.switches = with_switch(settings.switches, name, on=bool(_parse_setting(data)))
        commit_limits(disk)

    return KernelAttribute(name, 0o644, show, store)


@attribute("io_poll_delay")
def io_poll_delay(disk: HasQueue) -> str:
    """`0`, and since Linux 6.6 `-1`: the disk is not polled."""
    return "-1\n" if disk.system.kernel.disks.poll_delay_is_a_relic else "0\n"


@io_poll_delay.on_store
def _store_io_poll_delay(disk: HasQueue, _data: bytes) -> None:
    """EINVAL for any text; since Linux 6.6 any text is accepted and ignored."""
    if not disk.system.kernel.disks.poll_delay_is_a_relic:
        raise KernelError(errno.EINVAL, "only request-based queues have io_poll_delay")


def _request_based_only(name: str, text: str, *, until: str | None = None) -> KernelAttribute[HasSystem]:
    """A setting of request-based queues: a read always returns the same text, and every write is EINVAL."""
    setting = constant(name, text, until=until)

    @setting.on_store
    def store(_subject: HasSystem, _data: bytes) -> None:
        """Always EINVAL: the disk is bio-based and has no request queue."""
        raise KernelError(errno.EINVAL, f"only request-based queues have {name}")

    return setting


@attribute("read_ahead_kb")
def read_ahead_kb(disk: HasQueue) -> str:
    """KiB to read ahead: the same value as in the disk's backing device info.

    In Linux 6.12, writing a limit raises it to the default: `add_random`, `discard_max_bytes`, `iostats`,
    `max_sectors_kb`, `rotational`, `stable_writes`, `write_cache`, `integrity/read_verify`, `integrity/write_generate`.
    """
    return f"{disk.bdi.read_ahead_kb}\n"


@read_ahead_kb.on_store
def _store_read_ahead_kb(disk: HasQueue, data: bytes) -> None:
    """Rounded down to whole pages.  EINVAL for anything but a decimal number of 32 bits."""
    disk.bdi.read_ahead_kb = _parse_setting(data)


@attribute("nomerges")
def nomerges(disk: HasQueue) -> str:
    """Which merges of requests are disabled: 0 for none, 1 for all but the simple ones, 2 for all."""
    return f"{disk.settings.nomerges}\n"


@nomerges.on_store
def _store_nomerges(disk: HasQueue, data: bytes) -> None:
    """Any number but 0 and 2 counts as 1.  EINVAL for anything but a decimal number of 32 bits."""
    value = _parse_setting(data)
    disk.settings.nomerges = value if value in {0, 2} else 1


@attribute("rq_affinity", until=_REQUEST_BASED)
def rq_affinity(disk: HasQueue) -> str:
    """Where a request is completed: 0 on any CPU, 1 in the group of the submitting CPU, 2 on that CPU itself."""
    return f"{disk.settings.rq_affinity}\n"


@rq_affinity.on_store
def _store_rq_affinity(disk: HasQueue, data: bytes) -> None:
    """A number above 2 is accepted and ignored.  EINVAL for anything but a decimal number of 32 bits."""
    value = _parse_setting(data)
    if value in {0, 1, 2}:
        disk.settings.rq_affinity = value


@attribute("max_sectors_kb")
def max_sectors_kb(disk: HasQueue) -> str:
    """KiB of the largest request."""
    return f"{disk.settings.max_sectors_kb}\n"


@max_sectors_kb.on_store
def _store_max_sectors_kb(disk: HasQueue, data: bytes) -> None:
    """EINVAL for less than 4, for more than max_hw_sectors_kb, and for anything but a decimal number of 32 bits.

    Since Linux 6.12, 0 restores the default, and more than max_hw_sectors_kb is that much.
    """
    value = _parse_setting(data)
    if disk.system.kernel.disks.largest_request_is_capped:
        disk.settings.max_sectors_kb = disk.limits.capped_sectors_kb(value)
        commit_limits(disk)
        return
    if not PAGE_SIZE // KIB <= value <= _largest_request_kb(disk):
        raise KernelError(errno.EINVAL, "less than a page or more than max_hw_sectors_kb")
    disk.settings.max_sectors_kb = value


@attribute("max_hw_sectors_kb")
def max_hw_sectors_kb(disk: HasQueue) -> str:
    """KiB of the largest request that the driver accepts."""
    return f"{_largest_request_kb(disk)}\n"


def _largest_request_kb(disk: HasQueue) -> int:
    if disk.system.kernel.disks.largest_request_is_whole_blocks:
        return disk.limits.max_hw_sectors_kb
    return MAX_SECTORS * SECTOR_SIZE // KIB


@attribute("discard_max_bytes")
def discard_max_bytes(_disk: HasQueue) -> str:
    """Always 0 bytes: the disk does not support discards."""
    return "0\n"


@discard_max_bytes.on_store
def _store_discard_max_bytes(disk: HasQueue, data: bytes) -> None:
    """EINVAL for anything but 0: the disk has no discard granularity that a number could be a multiple of."""
    if _parse_setting(data):
        raise KernelError(errno.EINVAL, "the disk does not support discards")
    commit_limits(disk)


@attribute("scheduler", until=_REQUEST_BASED)
def scheduler(_disk: HasQueue) -> str:
    """The I/O scheduler: always `none`."""
    return "none\n"


@scheduler.on_store
def _store_scheduler(_disk: HasQueue, _data: bytes) -> None:
    """Any text is accepted and ignored (elv_iosched_store, block/elevator.c, Linux 6.1)."""


@attribute("dax")
def dax(disk: HasQueue) -> str:
    """Whether user space can map the media directly."""
    return f"{int(disk.limits.dax)}\n"


@attribute("hw_sector_size")
def hw_sector_size(disk: HasQueue) -> str:
    """The old name of logical_block_size."""
    return f"{disk.limits.logical_block_size}\n"


@attribute("logical_block_size")
def logical_block_size(disk: HasQueue) -> str:
    """Bytes of the smallest request."""
    return f"{disk.limits.logical_block_size}\n"


@attribute("physical_block_size")
def physical_block_size(disk: HasQueue) -> str:
    """Bytes of the smallest write that the device performs atomically."""
    return f"{disk.limits.physical_block_size}\n"


@attribute("minimum_io_size")
def minimum_io_size(disk: HasQueue) -> str:
    """Preferred size of the smallest request, in bytes: that of a physical block."""
    return f"{disk.limits.physical_block_size}\n"


@attribute("max_integrity_segments")
def max_integrity_segments(disk: HasQueue) -> str:
    """1 when the blocks have metadata, else 0; since Linux 6.12 always 1 for a BTT."""
    return f"{disk.limits.max_integrity_segments}\n"


@attribute("fua")
def fua(disk: HasQueue) -> str:
    """1 when the device makes a single write durable: memory whose DIMMs have flush hints.  Else 0."""
    return f"{int(disk.limits.fua)}\n"


@attribute("write_cache")
def write_cache(disk: HasQueue) -> str:
    """`write back` when written data needs a flush to be durable, else `write through`."""
    return "write back\n" if disk.settings.write_cache else "write through\n"


@write_cache.on_store
def _store_write_cache(disk: HasQueue, data: bytes) -> None:
    """`write back`, `write through` or `none`; text after that is ignored.

    EINVAL for anything else, and for `write back` if the driver declared no cache.  Before Linux 6.1, that is accepted;
    since 6.12 it is accepted and has no effect.
    """
    if data.startswith(b"write back"):
        undeclared = disk.system.kernel.disks.write_back_without_cache
        if not disk.limits.write_cache and undeclared is WriteBack.REFUSED:
            raise KernelError(errno.EINVAL, "the driver declared no write cache")
        disk.settings.write_cache = disk.limits.write_cache or undeclared is WriteBack.SET
    elif data.startswith((b"write through", b"none")):
        disk.settings.write_cache = False
    else:
        raise KernelError(errno.EINVAL, "neither write back nor write through")
    commit_limits(disk)


@attribute("wbt_lat_usec", until=_REQUEST_BASED)
def wbt_lat_usec(disk: HasQueue) -> str:
    """Target latency of writeback throttling in microseconds.  EINVAL until a write has enabled it."""
    if disk.settings.latency is None:
        raise KernelError(errno.EINVAL, "writeback throttling is not enabled")
    return f"{disk.settings.latency // 1000}\n"


@wbt_lat_usec.on_store
def _store_wbt_lat_usec(disk: HasQueue, data: bytes) -> None:
    """0 turns it off, -1 sets the default.  EINVAL for anything but a decimal number, ERANGE past 64 bits."""
    value = parse_signed(data, base=10)
    if value < -1:
        raise KernelError(errno.EINVAL, "neither a latency nor -1 for the default")
    if value == -1:
        disk.settings.latency = _ROTATIONAL_LATENCY if disk.settings.is_rotational else _SOLID_STATE_LATENCY
    else:
        # The kernel does not check the multiplication for overflow.
        disk.settings.latency = value * 1000 & U64_MASK


QUEUE_GROUP: AttributeGroup[HasQueue] = AttributeGroup(
    (
        *(_switch(name) for name in _SWITCHES),
        read_ahead_kb,
        nomerges,
        rq_affinity,
        max_sectors_kb,
        discard_max_bytes,
        scheduler,
        dax,
        hw_sector_size,
        logical_block_size,
        physical_block_size,
        minimum_io_size,
        write_cache,
        wbt_lat_usec,
        _request_based_only("io_poll", "0\n"),
        io_poll_delay,
        _request_based_only("nr_requests", "128\n", until=_REQUEST_BASED),
        *(constant(f"atomic_write_{name}_bytes", "0\n", since="6.12") for name in _ATOMIC_WRITE_LIMITS),
        constant("chunk_sectors", "0\n"),
        constant("discard_granularity", "0\n"),
        constant("discard_max_hw_bytes", "0\n"),
        constant("discard_zeroes_data", "0\n"),
        constant("dma_alignment", "511\n", since="6.1"),
        fua,
        constant("max_discard_segments", "1\n"),
        max_hw_sectors_kb,
        max_integrity_segments,
        constant("max_segment_size", "65536\n"),
        constant("max_segments", "128\n"),
        constant("nr_zones", "0\n"),
        constant("optimal_io_size", "0\n"),
        constant("virt_boundary_mask", "0\n", since="5.15"),
        constant("write_same_max_bytes", "0\n"),
        constant("write_zeroes_max_bytes", "0\n"),
        constant("zone_append_max_bytes", "0\n"),
        constant("zone_write_granularity", "0\n"),
        constant("zoned", "none\n"),
    ),
    name="queue",
)
