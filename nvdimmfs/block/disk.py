"""Disks: their directory in sysfs, their file in dev/ and their partitions."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Self

import attrs

from nvdimmfs.block.backing_device import BackingDeviceInfo, BackingDevices
from nvdimmfs.block.badblocks import SECTOR_SIZE, Badblocks
from nvdimmfs.block.disk_bytes import DirectBytes, DiskBytes
from nvdimmfs.block.integrity import INTEGRITY_GROUP
from nvdimmfs.block.partition import Partition, WholeDisk
from nvdimmfs.block.queue import QUEUE_GROUP
from nvdimmfs.block.queue_limits import QueueLimits, QueueSettings
from nvdimmfs.block.statistics import Statistics, diskstats_line, stat_text
from nvdimmfs.block.trace import TRACE_GROUP, Trace
from nvdimmfs.core.attribute import AttributeGroup, attribute, constant
from nvdimmfs.core.device import Class, Device
from nvdimmfs.core.device_number import BLOCK_EXT_MAJOR, DeviceNumber
from nvdimmfs.core.numbering import Numbering
from nvdimmfs.core.parse import scan_signed
from nvdimmfs.core.system import System
from nvdimmfs.core.uevent import Action
from nvdimmfs.errors import KernelError, refused_by_host
from nvdimmfs.formats.partition_table import MOST_PARTITIONS, PartitionEntry, Sectors, partitions_of
from nvdimmfs.kernfs import BinaryFile, Bytes, Directory
from nvdimmfs.mm.memory import Memory
from nvdimmfs.units import KIB

log = logging.getLogger(__name__)


class BlockLayer:
    """State shared by all disks: the class, the minor numbers, the backing device infos.

    Attributes:
        directory: /sys/block.
        disk_class: /sys/class/block.
        disk_sequence: DISKSEQ of the newest disk; never reused.
        bdis: their backing device infos.
        disks: by name, in the order in which they were added.
    """

    def __init__(self, system: System, memory: Memory) -> None:
        """`memory`: the machine's, which limits how many pages of disks can be dirty."""
        self.system = system
        self.directory = system.directory("block")
        self.disk_class = Class(system, "block")
        self.bdis = BackingDevices(system, memory)
        self.minors = Numbering()
        self.disk_sequence = 0
        self.disks: dict[str, Disk] = {}

    @property
    def devices(self) -> list[tuple[DeviceNumber, Disk | Partition]]:
        """All disks, each followed by its partitions, and their numbers."""
        devices: list[Disk | Partition] = []
        for disk in self.disks.values():
            devices += [disk, *disk.partitions]
        return [(device.number, device) for device in devices if device.number]

    def diskstats_text(self) -> str:
        """The content of /proc/diskstats (diskstats_show, block/genhd.c, Linux 6.1)."""
        return "".join(
            diskstats_line(number.major, number.minor, device.name, device.statistics)
            for number, device in self.devices
            if device.sectors or isinstance(device, Disk)
        )

    def partitions_text(self) -> str:
        """The content of /proc/partitions, sizes in KiB; empty without disks (show_partition, block/genhd.c, 6.1)."""
        lines = [
            f"{number.major:4}  {number.minor:7} {device.sectors * SECTOR_SIZE // KIB:10} {device.name}\n"
            for number, device in self.devices
            if device.sectors
        ]
        return f"major minor  #blocks  name\n\n{''.join(lines)}" if lines else ""


@attrs.frozen
class Geometry:
    """Cylinders, heads and sectors of a track, as partitioning programs once needed them."""

    heads: int
    sectors: int
    cylinders: int


#: Of most disks.
_NO_PARTITIONS: Mapping[int, Partition] = MappingProxyType({})


class Disk(WholeDisk):
    """A disk, child of the device whose driver registered it.

    Attributes:
        data: its bytes, as the driver reads and writes them.
        direct_bytes: its bytes as requests past the page cache (O_DIRECT) read and write them.
        limits: the queue limits that its driver declared.
        badblocks: its bad sectors; None when the driver keeps no list.
        read_only: whether writes are refused with EPERM.
        loop_backed: whether user space accesses it through a loop device of the host, whose page cache and read-only
            flag then replace those of the disk.
    """

    device_type = "disk"

    #: Bytes from its start to the next boundary of a physical block.
    alignment = 0

    #: Its first sector, as `Partition.first_sector`.
    first_sector = 0

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
        self._minor = layer.minors.allocate()
        self.number = DeviceNumber("block", BLOCK_EXT_MAJOR, self._minor)
        layer.disk_sequence += 1
        self.sequence = layer.disk_sequence
        self.data = data
        self.direct_bytes = DirectBytes(self)
        self.limits = limits
        self.badblocks = badblocks
        self.read_only = False
        self._settings: QueueSettings | None = None
        self.trace: Trace | None = None
        self._partitions: Mapping[int, Partition] = _NO_PARTITIONS
        self.loop_backed = False
        self._bdi: BackingDeviceInfo | None = None

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (
            DISK_GROUP,
            *(() if self.badblocks is None else (BADBLOCKS_GROUP,)),
            *((PARTSCAN_GROUP,) if self.system.kernel.disks.shows_partscan else ()),
            QUEUE_GROUP,
            INTEGRITY_GROUP,
            TRACE_GROUP,
            *STACKING_GROUPS,
        )

    def uevent_variables(self) -> list[tuple[str, str]]:
        return [*super().uevent_variables(), *self.sequence_variables()]

    def sequence_variables(self) -> list[tuple[str, str]]:
        """DISKSEQ, which distinguishes the disk from earlier disks with the same name or number."""
        return [("DISKSEQ", str(self.sequence))] if diskseq.exists_in(self.system.kernel) else []

    def add(self) -> None:
        bdi = self.layer.bdis.register(self._bdi_name, self._instantiate_bdi)
        if not self.system.count_unheard_uevent():
            self.bdi.send_uevent(Action.ADD)
        super().add()
        directory = self.directory
        directory.link("bdi", bdi)
        self.layer.directory.link(self.name, directory)
        block_size = self.limits.logical_block_size
        self.system.dev.add(BinaryFile(self.name, 0o600, self.bytes, block_size, self.direct_bytes))
        self.layer.disks[self.name] = self
        self._add_partitions(self._table())

    @property
    def bdi(self) -> BackingDeviceInfo:
        """Its backing device info."""
        self._bdi = self._bdi or BackingDeviceInfo(self.layer.bdis, self._bdi_name)
        return self._bdi

    @property
    def _bdi_name(self) -> str:
        return f"{BLOCK_EXT_MAJOR}:{self._minor}"

    def _instantiate_bdi(self) -> Directory:
        return self.bdi.instantiate()

    @property
    def bytes(self) -> DiskBytes:
        """Its bytes as user space reads and writes them through the node in dev/."""
        return DiskBytes(self)

    @property
    def settings(self) -> QueueSettings:
        """The writable settings of its queue."""
        self._settings = self._settings or QueueSettings.initial(self.limits, self.system.kernel.disks)
        return self._settings

    @property
    def statistics(self) -> Statistics:
        """What was counted of its requests."""
        return Statistics() if self._settings is None else self._settings.statistics

    @property
    def counted(self) -> Statistics | None:
        """Where its requests are counted at the moment; None while they are not."""
        settings = self._settings
        return settings.statistics if settings is not None and settings.counts_requests else None

    @property
    def minors(self) -> Numbering:
        """The minor numbers of disks and partitions."""
        return self.layer.minors

    @property
    def partitions(self) -> list[Partition]:
        """In the order of their numbers."""
        return [self._partitions[number] for number in sorted(self._partitions)]

    @property
    def whole(self) -> Disk:
        """The disk itself, as `Partition.whole`."""
        return self

    @property
    def sectors(self) -> int:
        """Its size in sectors of 512 bytes."""
        return self.data.size // SECTOR_SIZE

    @property
    def begins_blank(self) -> bool:
        """Whether it is known, without a read, that its first page is zero."""
        return False

    def rescan_partitions(self) -> None:
        """Remove all partitions and add those of the partition table (bdev_disk_changed, Linux 6.1).

        The numbers of the former ones are free a grace period of RCU later (bdev_free_inode, block/bdev.c), when the
        new ones have theirs.
        """
        former = self.partitions
        for partition in former:
            partition.opened()
        self._drop_partitions()
        entries = self._table()
        if entries:
            self.send_uevent(Action.CHANGE)
        self._add_partitions(entries)
        for partition in former:
            partition.closed()

    def add_partition(self, number: int, start: int, count: int) -> None:
        """Add a partition, listed in the table or not.  Its end is not checked against the size of the disk.

        EBUSY when it overlaps another partition or its number is in use; EINVAL for a number above the maximum.
        """
        self._require_room(start, count)
        if number >= MOST_PARTITIONS:
            raise KernelError(errno.EINVAL, f"a disk has no partition {number}")
        if number in self._partitions:
            raise KernelError(errno.EBUSY, f"partition {number} exists already")
        self._add_partitions([PartitionEntry(number, start, count)])

    def resize_partition(self, number: int, start: int, count: int) -> None:
        """Change the length of a partition.

        ENXIO when it does not exist, EINVAL when `start` is not its start, EBUSY when it would overlap another one.
        """
        partition = self.partition(number)
        if start != partition.entry.start:
            raise KernelError(errno.EINVAL, f"{partition.name} starts at {partition.entry.start}")
        self._require_room(start, count, but=number)
        partition.entry = attrs.evolve(partition.entry, count=count)

    def delete_partition(self, number: int) -> None:
        """Remove a partition, listed in the table or not.  ENXIO when it does not exist."""
        partition = self.partition(number)
        partition.unregister()
        self._partitions = {key: each for key, each in self._partitions.items() if each is not partition}

    def partition(self, number: int) -> Partition:
        """The partition with a number.  ENXIO when it does not exist."""
        if number not in self._partitions:
            raise KernelError(errno.ENXIO, f"there is no partition {number}")
        return self._partitions[number]

    def _require_room(self, start: int, count: int, but: int = 0) -> None:
        for entry in (partition.entry for partition in self.partitions if partition.entry.number != but):
            if start < entry.end and entry.start < start + count:
                raise KernelError(errno.EBUSY, f"the range overlaps partition {entry.number}")

    def _table(self) -> list[PartitionEntry]:
        """The entries of the partition table on the disk; empty when it cannot be read."""
        if self.begins_blank and self.counted is None:
            return []
        try:
            return partitions_of(Sectors(self.bytes.read, self.bytes.size, self.limits.logical_block_size))
        except KernelError:
            return []
        except OSError as failure:
            log.warning("%s has no partitions: %s", self.name, refused_by_host(failure))
            return []

    def _add_partitions(self, entries: Iterable[PartitionEntry]) -> None:
        for entry in entries:
            number = DeviceNumber("block", BLOCK_EXT_MAJOR, self.layer.minors.allocate())
            partition = Partition(self, self.bytes, self.direct_bytes, entry, number)
            self._partitions = {**self._partitions, entry.number: partition}
            partition.add()

    def _drop_partitions(self) -> None:
        for partition in self.partitions:
            partition.unregister()
        self._partitions = _NO_PARTITIONS

    def unregister(self) -> None:
        self._drop_partitions()
        del self.layer.disks[self.name]
        self.system.dev.remove(self.name)
        self.layer.directory.remove(self.name)
        self.directory.remove("bdi")
        self.bdi.unregister()
        super().unregister()

    def set_read_only(self, read_only: bool) -> None:
        """Refuse or accept writes; a change sends a uevent (set_disk_ro, block/genhd.c, Linux 6.1)."""
        if read_only == self.read_only:
            return
        self.read_only = read_only
        if not self.system.kernel.disks.partitions_follow_their_disk:
            for partition in self.partitions:
                partition.read_only = read_only
        self.send_uevent(Action.CHANGE, (("DISK_RO", str(int(read_only))),))

    def renumber(self, number: DeviceNumber) -> None:
        """Take on the device number of the loop device through which user space accesses the disk."""
        super().renumber(number)
        self.loop_backed = True

    @property
    def geometry(self) -> Geometry | None:
        """The imaginary geometry that its driver reports; None for a driver that reports none."""
        return None

    def clear_badblocks(self, sector: int, count: int) -> None:
        """Clear bad sectors before they are written.  A disk that cannot clear them raises EIO."""
        if self.badblocks is not None:
            self.badblocks.clear(sector, count)

    @contextmanager
    def finding_badblocks(self) -> Iterator[None]:
        """A context that may add bad sectors: what a page cache has of the disk then must be read again."""
        before = () if self.badblocks is None else self.badblocks.entries
        try:
            yield
        finally:  # a list that becomes full has some of them
            if self.badblocks is not None and self.badblocks.entries != before:
                self._revoke()

    def _revoke(self) -> None:
        for name in (self.name, *(partition.name for partition in self.partitions)):
            if (node := self.system.dev.get(name)) and node.parent:
                node.parent.tree.revoked(node)

    def release(self) -> None:
        self.layer.minors.free(self._minor)


@attribute("size")
def size(disk: Disk) -> str:
    """Sectors of 512 bytes."""
    return f"{disk.sectors}\n"


@attribute("ro")
def ro(disk: Disk) -> str:
    """Whether writes are refused."""
    return f"{int(disk.read_only)}\n"


@attribute("diskseq", since="5.15")
def diskseq(disk: Disk) -> str:
    """Sequence number of the disk, never reused."""
    return f"{disk.sequence}\n"


@attribute("capability")
def capability(disk: Disk) -> str:
    """Always `0`; before Linux 6.1 flags of the kernel, in hexadecimal."""
    return f"{disk.system.kernel.disks.disk_capability}\n"


@attribute("badblocks", since="4.5")
def badblocks(disk: Disk) -> str:
    """Ranges of bad sectors: first sector and number of sectors, one range per line."""
    return disk.badblocks.show() if disk.badblocks is not None else ""


@badblocks.on_store
def _store_badblocks(disk: Disk, data: bytes) -> None:
    """Mark a range as bad: first sector and number of sectors.  EINVAL for anything else, ENOSPC for a full list."""
    assert disk.badblocks is not None, "the file exists only for disks with a list"
    with disk.finding_badblocks():
        disk.badblocks.store(data)


@attribute("stat")
def stat(disk: Disk) -> str:
    """17 counters of requests, which are 0 until `queue/iostats` is on."""
    return stat_text(disk.statistics)


@attribute("events_poll_msecs")
def events_poll_msecs(_disk: Disk) -> str:
    """Always `-1`: the disk uses the system's default interval, and it has no events to poll for."""
    return "-1\n"


@events_poll_msecs.on_store
def _store_events_poll_msecs(_disk: Disk, data: bytes) -> None:
    """EINVAL for text that is not a number and for numbers below -1, else ENODEV: the disk has no events."""
    if scan_signed(data) < -1:
        raise KernelError(errno.EINVAL, "neither an interval nor -1")
    raise KernelError(errno.ENODEV, "the disk has no events")


DISK_GROUP: AttributeGroup[Disk] = AttributeGroup(
    (
        size,
        ro,
        diskseq,
        events_poll_msecs,
        constant("alignment_offset", "0\n"),
        capability,
        constant("discard_alignment", "0\n"),
        constant("events", ""),
        constant("events_async", ""),
        constant("ext_range", "256\n"),
        constant("hidden", "0\n", since="4.15"),
        constant("inflight", f"{0:8} {0:8}\n"),
        constant("range", "0\n"),
        constant("removable", "0\n"),
        stat,
    )
)
#: Whether the kernel looks for partitions.
PARTSCAN_GROUP: AttributeGroup[Disk] = AttributeGroup((constant("partscan", "1\n"),))
#: Of a disk whose driver keeps a list.
BADBLOCKS_GROUP: AttributeGroup[Disk] = AttributeGroup((badblocks,))
#: Directories for links to and from stacked devices; always empty here.
STACKING_GROUPS: tuple[AttributeGroup[Disk], ...] = tuple(AttributeGroup((), name) for name in ("holders", "slaves"))
