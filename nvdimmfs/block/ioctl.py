"""ioctls on block devices (block/ioctl.c).

Those that act on the page cache do here what they do on a disk without one.  In a sandbox the loop device in front of
the disk has a page cache, and carries them out itself (`sandbox.ioctl_syscall`).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping

import attrs

from nvdimmfs.block.badblocks import SECTOR_SIZE
from nvdimmfs.block.disk import Disk
from nvdimmfs.block.ioctl_values import VALUES, disk_of, is_read_only
from nvdimmfs.block.openers import require_closed, require_rescan, require_unclaimed
from nvdimmfs.block.partition import Partition
from nvdimmfs.block.trace import remove_trace, set_up_trace, start_trace, stop_trace
from nvdimmfs.core.device_uses import NO_USES, DeviceUses
from nvdimmfs.core.user_memory import CopyIn, CopyOut, IoctlSteps
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.block_requests import (
    BLKPG_ADD,
    BLKPG_DELETE,
    BLKPG_RESIZE,
    BYTE_RANGE,
    GEOMETRY,
    INTEGER,
    BlockRequest,
    PartitionRange,
    PartitionRequest,
    TraceSetup,
)
from nvdimmfs.units import MIB, PAGE_SIZE, U64_MASK

#: How many zeros BLKZEROOUT writes at once.
_ZEROS = MIB


@attrs.frozen
class _Call:
    """A call of ioctl(2), see `block_ioctl`."""

    device: Disk | Partition
    request: int
    argument: int
    privileged: bool
    writable: bool
    uses: DeviceUses


def block_ioctl(
    device: Disk | Partition,
    request: int,
    argument: int,
    *,
    privileged: bool,
    writable: bool = True,
    uses: DeviceUses = NO_USES,
) -> IoctlSteps:
    """Carry out an ioctl on a block device (blkdev_ioctl, Linux 6.1).

    ENOTTY for a request that is not known; EACCES when the caller lacks CAP_SYS_ADMIN; EBADF where the device must be
    open for writing; EOPNOTSUPP for discards and reservations; EFAULT for memory that the caller has not mapped; EINVAL
    for a partition of a partition and for invalid values; ENXIO when the partition to change does not exist; EBUSY when
    the partition to add exists or overlaps another, when the one to delete or one of those to read again is open, when
    another process has the device to itself, and for a second trace; EPERM for zeros on a read-only disk.

    Args:
        device: the disk or partition behind the node.
        request: the ioctl's number.
        argument: the address passed to ioctl(2), or the value itself; the structure there holds the address of another
            one for BLKPG.
        privileged: whether the caller has CAP_SYS_ADMIN.
        writable: whether the device is open for writing.
        uses: nodes that processes use without the machine's knowledge.

    Returns:
        0.
    """
    call = _Call(device, request, argument, privileged, writable, uses)
    if (value := VALUES.get(request)) is not None and value.exists_in(device.system.kernel):
        if value.null_is_invalid:
            _require_argument(call)
        yield CopyOut(0, value.bytes_of(device), result=0)
    elif (change := _CHANGES.get(request)) is not None:
        yield from change(call)
    else:
        _refuse(call)
    return 0


def _change_partition(call: _Call) -> IoctlSteps:
    """BLKPG (blkpg_ioctl)."""
    change = PartitionRequest.from_bytes((yield CopyIn(0, PartitionRequest.size())))
    _require(call)
    partition = PartitionRange.from_bytes((yield CopyIn(change.data - call.argument, PartitionRange.size())))
    _change(_whole(call.device), change.operation, partition, call.uses)
    return 0


def _read_table(call: _Call) -> IoctlSteps:
    """BLKRRPART."""
    if not call.device.system.kernel.disks.rereading_checks_rights_first:
        _whole(call.device)
    _require(call)
    disk = _whole(call.device)
    require_rescan(disk, call.uses)
    disk.rescan_partitions()
    yield from ()
    return 0


def _set_read_only(call: _Call) -> IoctlSteps:
    """BLKROSET."""
    _require(call)
    (value,) = INTEGER.unpack((yield CopyIn(0, INTEGER.size)))
    call.device.read_only = bool(value)
    return 0


def _set_read_ahead(call: _Call) -> IoctlSteps:
    """BLKRASET and BLKFRASET: sectors to read ahead, in the argument itself."""
    _require(call)
    disk_of(call.device).bdi.read_ahead_pages = (call.argument * SECTOR_SIZE & U64_MASK) // PAGE_SIZE
    yield from ()
    return 0


def _flush_buffers(call: _Call) -> IoctlSteps:
    """BLKFLSBUF: there is nothing to write back."""
    _require(call)
    yield from ()
    return 0


def _set_block_size(call: _Call) -> IoctlSteps:
    """BLKBSZSET: check the size of a block of the page cache (set_blocksize, block/bdev.c)."""
    _require(call)
    _require_argument(call)
    (size,) = INTEGER.unpack((yield CopyIn(0, INTEGER.size)))
    require_unclaimed(call.device, call.uses)
    least = disk_of(call.device).limits.logical_block_size
    if not least <= size <= PAGE_SIZE or size & size - 1:
        raise KernelError(errno.EINVAL, f"{size} is not a power of two from {least} to {PAGE_SIZE}")
    return 0


def _discard(call: _Call) -> IoctlSteps:
    """BLKDISCARD and BLKSECDISCARD, which no driver of these disks supports."""
    if call.request == BlockRequest.BLKDISCARD and call.device.system.kernel.disks.discard_reads_its_range_first:
        yield CopyIn(0, BYTE_RANGE.size)
    else:
        _require_writable(call)
    raise KernelError(errno.EOPNOTSUPP, f"{call.device.name} supports no discard")


def _write_zeros(call: _Call) -> IoctlSteps:
    """BLKZEROOUT (blk_ioctl_zeroout)."""
    _require_writable(call)
    start, length = BYTE_RANGE.unpack((yield CopyIn(0, BYTE_RANGE.size)))
    device = call.device
    whole = start % SECTOR_SIZE == length % SECTOR_SIZE == 0
    if not whole or not length or start + length > device.sectors * SECTOR_SIZE:
        raise KernelError(errno.EINVAL, f"{length} bytes at {start} are not whole sectors of {device.name}")
    if is_read_only(device):
        raise KernelError(errno.EPERM, f"{device.name} is read-only")
    if (start | length) % disk_of(device).limits.logical_block_size:
        raise KernelError(errno.EINVAL, f"{length} bytes at {start} are not whole logical blocks")
    data = device.direct_bytes if isinstance(device, Disk) else device.direct_data
    for place in range(start, start + length, _ZEROS):
        data.write(place, bytes(min(_ZEROS, start + length - place)))
    return 0


def _set_up_trace(call: _Call) -> IoctlSteps:
    """BLKTRACESETUP (blk_trace_setup): the name of the device goes back."""
    setup = TraceSetup.from_bytes((yield CopyIn(0, TraceSetup.size())))
    set_up_trace(call.device, setup)
    try:
        yield CopyOut(0, attrs.evolve(setup, name=call.device.name.encode()).to_bytes())
    except KernelError:
        remove_trace(call.device)
        raise
    return 0


def _change_trace(call: _Call) -> IoctlSteps:
    """BLKTRACESTART, BLKTRACESTOP and BLKTRACETEARDOWN, for which no rights are needed."""
    change = {
        BlockRequest.BLKTRACESTART: start_trace,
        BlockRequest.BLKTRACESTOP: stop_trace,
        BlockRequest.BLKTRACETEARDOWN: remove_trace,
    }[BlockRequest(call.request)]
    change(call.device)
    yield from ()
    return 0


def _get_geometry(call: _Call) -> IoctlSteps:
    """HDIO_GETGEO (blkdev_getgeo)."""
    _require_argument(call)
    geometry = disk_of(call.device).geometry
    if geometry is None:
        raise KernelError(errno.ENOTTY, f"the driver of {call.device.name} reports no geometry")
    start = call.device.entry.start if isinstance(call.device, Partition) else 0
    cylinders = geometry.cylinders & 0xFFFF
    yield CopyOut(0, GEOMETRY.pack(geometry.heads, geometry.sectors, cylinders, start))
    return 0


_CHANGES: Mapping[int, Callable[[_Call], IoctlSteps]] = {
    BlockRequest.BLKPG: _change_partition,
    BlockRequest.BLKRRPART: _read_table,
    BlockRequest.BLKROSET: _set_read_only,
    BlockRequest.BLKRASET: _set_read_ahead,
    BlockRequest.BLKFRASET: _set_read_ahead,
    BlockRequest.BLKFLSBUF: _flush_buffers,
    BlockRequest.BLKBSZSET: _set_block_size,
    BlockRequest.BLKDISCARD: _discard,
    BlockRequest.BLKSECDISCARD: _discard,
    BlockRequest.BLKZEROOUT: _write_zeros,
    BlockRequest.HDIO_GETGEO: _get_geometry,
    BlockRequest.BLKTRACESETUP: _set_up_trace,
    BlockRequest.BLKTRACESTART: _change_trace,
    BlockRequest.BLKTRACESTOP: _change_trace,
    BlockRequest.BLKTRACETEARDOWN: _change_trace,
}
#: Commands to the zones of a disk, and the first kernel that has each.
_ZONE_COMMANDS: Mapping[int, str] = {
    BlockRequest.BLKREPORTZONE: "4.10",
    BlockRequest.BLKRESETZONE: "4.10",
    BlockRequest.BLKOPENZONE: "5.5",
    BlockRequest.BLKCLOSEZONE: "5.5",
    BlockRequest.BLKFINISHZONE: "5.5",
}
#: Persistent reservations, and the first kernel that has them.
_RESERVATIONS = frozenset(request for request in BlockRequest if request.name.startswith("IOC_PR_"))
_RESERVATIONS_SINCE = "4.4"


def _refuse(call: _Call) -> None:
    """Refuse a request that the disk has no support for, as the kernel does."""
    kernel, request, name = call.device.system.kernel, call.request, call.device.name
    if request in _RESERVATIONS and kernel.has(_RESERVATIONS_SINCE):
        _require_right_to_reserve(call)
        raise KernelError(errno.EOPNOTSUPP, f"{name} has no persistent reservations")
    since = _ZONE_COMMANDS.get(request)
    if since is not None and kernel.has(since):
        _require_argument(call)
    raise KernelError(errno.ENOTTY, f"ioctl {request:#x} is not supported")


def _require_right_to_reserve(call: _Call) -> None:
    """EPERM unless the caller may make persistent reservations (blkdev_pr_allowed, block/ioctl.c, Linux 6.12)."""
    if not call.device.system.kernel.disks.writers_may_reserve:
        if not call.privileged:
            raise KernelError(errno.EPERM, "the caller lacks CAP_SYS_ADMIN")
        return
    if isinstance(call.device, Partition):
        raise KernelError(errno.EPERM, f"{call.device.name} is a partition")
    if not (call.privileged or call.writable):
        raise KernelError(errno.EPERM, "the caller lacks CAP_SYS_ADMIN, and the disk is not open for writing")


def _require(call: _Call) -> None:
    if not call.privileged:
        raise KernelError(errno.EACCES, "the caller lacks CAP_SYS_ADMIN")


def _require_writable(call: _Call) -> None:
    if not call.writable:
        raise KernelError(errno.EBADF, f"{call.device.name} is not open for writing")


def _require_argument(call: _Call) -> None:
    if not call.argument:
        raise KernelError(errno.EINVAL, "the argument is a null pointer")


def _whole(device: Disk | Partition) -> Disk:
    if isinstance(device, Partition):
        raise KernelError(errno.EINVAL, f"{device.name} is a partition")
    return device


def _change(disk: Disk, operation: int, partition: PartitionRange, uses: DeviceUses) -> None:
    """Carry out an operation of BLKPG (blkpg_do_ioctl)."""
    number, start, length = partition.number, partition.start, partition.length
    if number <= 0:
        raise KernelError(errno.EINVAL, f"{number} is not a valid partition number")
    if operation == BLKPG_DELETE:
        require_closed(disk.partition(number), uses)
        disk.delete_partition(number)
        return
    block = disk.limits.logical_block_size
    if start < 0 or length <= 0 or start % block or length % block:
        raise KernelError(errno.EINVAL, f"{length} bytes at {start} are not whole logical blocks")
    if disk.system.kernel.disks.partitions_end_with_their_disk and start + length > disk.sectors * SECTOR_SIZE:
        raise KernelError(errno.EINVAL, f"{length} bytes at {start} end beyond {disk.name}")
    if operation == BLKPG_ADD:
        if not disk.registered:  # removed while the caller's memory was read (disk_live in bdev_add_partition)
            raise KernelError(errno.ENXIO, f"{disk.name} is gone")
        disk.add_partition(number, start // SECTOR_SIZE, length // SECTOR_SIZE)
    elif operation == BLKPG_RESIZE:
        disk.resize_partition(number, start // SECTOR_SIZE, length // SECTOR_SIZE)
    else:
        raise KernelError(errno.EINVAL, f"BLKPG has no operation {operation}")
