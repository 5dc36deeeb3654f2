"""A disk: its place in sysfs and the file in dev/ over its bytes."""

from __future__ import annotations

import errno
from typing import Self

from nvdimmfs.block.badblocks import SECTOR_SIZE, Badblocks
from nvdimmfs.block.queue import INTEGRITY_GROUP, QUEUE_GROUP, TRACE_GROUP, QueueLimits
from nvdimmfs.core.attribute import AttributeGroup, KernelAttribute, attribute, constant
from nvdimmfs.core.device import Class, Device, DeviceNumber
from nvdimmfs.core.numbering import Numbering
from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import BinaryFile, Bytes, Directory, Symlink
from nvdimmfs.mm.units import PAGE_SIZE, align_down, align_up

#: Major number of disks without one of their own (BLOCK_EXT_MAJOR, include/uapi/linux/major.h).
BLOCK_EXT_MAJOR = 259


class BlockLayer:
    """What all disks share: the class, the minor numbers, the backing device infos.

    Attributes:
        disk_class: /sys/class/block.
        disk_sequence: DISKSEQ of the newest disk; never used twice.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self.disk_class = Class(system, "block")
        self.bdi_class = Class(system, "bdi")
        self.minors = Numbering()
        self.disk_sequence = 0


class BackingDeviceInfo(Device):
    """What writeback knows of a disk: /sys/class/bdi."""

    def __init__(self, layer: BlockLayer, disk: Disk) -> None:
        super().__init__(layer.system, str(disk.number), None)
        self.device_class = layer.bdi_class
        self.disk = disk

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (BDI_GROUP,)


class Disk(Device):
    """A disk below the device that provides it.

    Attributes:
        data: its bytes.
        limits: what its driver declared.
        badblocks: sectors that cannot be read; None when the driver keeps no list.
        read_only: writes are refused with EPERM.
        settings: what was written to the queue's switches.
        write_cache: what was written to queue/write_cache.
    """

    device_type = "disk"

    def __init__(
        self,
        layer: BlockLayer,
        name: str,
        parent: Device,
        data: Bytes,
        limits: QueueLimits,
        badblocks: Badblocks | None,
    ) -> None:
        super().__init__(layer.system, name, parent)
        self.layer = layer
        self.device_class = layer.disk_class
        self.number = DeviceNumber("block", BLOCK_EXT_MAJOR, layer.minors.allocate())
        layer.disk_sequence += 1
        self.sequence = layer.disk_sequence
        self.data = data
        self.limits = limits
        self.badblocks = badblocks
        self.read_only = False
        self.settings: dict[str, int] = {}
        self.write_cache: str | None = None
        self.bdi = BackingDeviceInfo(layer, self)

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (DISK_GROUP, QUEUE_GROUP, INTEGRITY_GROUP, TRACE_GROUP)

    def uevent_variables(self) -> list[tuple[str, str]]:
        sequence = [("DISKSEQ", str(self.sequence))] if diskseq.exists_in(self.system.kernel) else []
        return [*super().uevent_variables(), *sequence]

    def add(self) -> None:
        self.bdi.add()
        super().add()
        for name in ("holders", "slaves"):
            self.directory.add(Directory(name))
        self.directory.add(Symlink("bdi", self.bdi.directory))
        self.system.directory("block").add(Symlink(self.name, self.directory))
        self.system.dev.add(BinaryFile(self.name, 0o600, DiskBytes(self)))

    def unregister(self) -> None:
        self.system.dev.remove(self.name)
        self.system.directory("block").remove(self.name)
        super().unregister()
        self.bdi.unregister()

    @property
    def block_size(self) -> int:
        """Bytes that the page cache writes at least: the largest power of two, up to a page, that divides the disk.

        From the logical block size upward (set_init_blocksize, block/bdev.c, Linux 6.1).
        """
        size = self.limits.logical_block_size
        while size < PAGE_SIZE and self.data.size % (2 * size) == 0:
            size *= 2
        return size

    def clear_badblocks(self, sector: int, count: int) -> None:
        """Sectors were written, and are good again."""
        if self.badblocks is not None:
            self.badblocks.clear(sector, count)

    def release(self) -> None:
        assert self.number is not None
        self.layer.minors.free(self.number.minor)


class DiskBytes:
    """The disk as a file: what open, read and write of /dev/<name> reach."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    @property
    def size(self) -> int:
        return self._disk.data.size

    def read(self, offset: int, length: int) -> bytes:
        """EIO when a bad sector is touched."""
        if self._bad(offset, length):
            raise KernelError(errno.EIO, f"{self._disk.name} has bad blocks there")
        return self._disk.data.read(offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """EPERM when the disk is read-only.  Bad sectors become good by being written.

        The page cache writes whole blocks, and reads the rest of a block that is not written as a whole: EIO when
        there are bad sectors in that.
        """
        if self._disk.read_only:
            raise KernelError(errno.EPERM, f"{self._disk.name} is read-only")
        end = offset + len(data)
        first_block, end_of_blocks = align_down(offset, self._disk.block_size), align_up(end, self._disk.block_size)
        before, after = offset - first_block, end_of_blocks - end
        if before or after:
            whole = bytearray(self.read(first_block, end_of_blocks - first_block))
            whole[before : before + len(data)] = data
            offset, data = first_block, bytes(whole)
        if self._disk.badblocks:
            first = -(-offset // SECTOR_SIZE)
            end = (offset + len(data)) // SECTOR_SIZE
            self._disk.clear_badblocks(first, max(0, end - first))
        self._disk.data.write(offset, data)

    def flush(self) -> None:
        self._disk.data.flush()

    def _bad(self, offset: int, length: int) -> bool:
        bad = self._disk.badblocks
        if not bad:
            return False
        first = offset // SECTOR_SIZE
        return bad.overlaps(first, -(-(offset + length) // SECTOR_SIZE) - first)


@attribute("size")
def size(disk: Disk) -> str:
    """Sectors of 512 bytes."""
    return f"{disk.data.size // SECTOR_SIZE}\n"


@attribute("ro")
def ro(disk: Disk) -> str:
    """Whether writes are refused."""
    return f"{int(disk.read_only)}\n"


@attribute("diskseq", since="5.15")
def diskseq(disk: Disk) -> str:
    """A number that no other disk has or had."""
    return f"{disk.sequence}\n"


@attribute("badblocks", since="4.5")
def badblocks(disk: Disk) -> str:
    """Ranges of sectors that cannot be read, a line each."""
    return disk.badblocks.show() if disk.badblocks is not None else ""


@badblocks.on_store
def _store_badblocks(disk: Disk, data: bytes) -> None:
    """Mark a range as bad.  EINVAL unless it is "sector count"."""
    assert disk.badblocks is not None, "the file exists only where there is a list"
    disk.badblocks.store(data)


def _disk_visible(disk: Disk, candidate: KernelAttribute[Disk]) -> int:
    if candidate is badblocks and disk.badblocks is None:
        return 0
    return candidate.permissions


#: Eleven, then seventeen counters since Linux 5.5: nothing counts requests here.
_STATISTICS = " ".join(f"{0:8}" for _ in range(17))

DISK_GROUP: AttributeGroup[Disk] = AttributeGroup(
    (
        size,
        ro,
        diskseq,
        badblocks,
        constant("alignment_offset", "0\n"),
        constant("capability", "0\n"),
        constant("discard_alignment", "0\n"),
        constant("events", ""),
        constant("events_async", ""),
        constant("events_poll_msecs", "-1\n", 0o644),
        constant("ext_range", "256\n"),
        constant("hidden", "0\n", since="4.15"),
        constant("inflight", f"{0:8} {0:8}\n"),
        constant("range", "0\n"),
        constant("removable", "0\n"),
        constant("stat", f"{_STATISTICS}\n"),
    ),
    visible=_disk_visible,
)


@attribute("read_ahead_kb")
def read_ahead_kb(bdi: BackingDeviceInfo) -> str:
    """KiB to read ahead: the same value as in the disk's queue."""
    return f"{bdi.disk.settings.get('read_ahead_kb', 128)}\n"


BDI_GROUP: AttributeGroup[BackingDeviceInfo] = AttributeGroup(
    (
        read_ahead_kb,
        constant("max_ratio", "100\n", 0o644),
        constant("min_ratio", "0\n", 0o644),
        constant("stable_pages_required", "0\n"),
    )
)
