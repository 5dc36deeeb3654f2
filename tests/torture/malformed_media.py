"""Malformed bytes on media: label areas, info blocks, BTT metadata, partition tables."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator

import books
import partition_tables
from mutating import Subject
from poke import ND, Hands

from nvdimmfs.block.disk import Disk
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.fletcher import fletcher64
from nvdimmfs.formats.info_block import seal
from nvdimmfs.formats.label import LABEL_SIZES_BY_VERSION, LabelAreaLayout
from nvdimmfs.media.base import Media
from nvdimmfs.nd.namespace import NamespaceDevice
from nvdimmfs.nd.region import RegionDevice
from nvdimmfs.units import MIB

UUIDS = [f"{number:08}-1111-2222-3333-444444444444" for number in range(1, 9)]
INFO = 4096

LABELLED = """
[[bus]]
commands = ["ars_cap", "ars_start", "ars_status", "clear_error"]
[[bus.dimm]]
size = "256M"
label = {{ initialised = "{version}" }}
[[bus.range]]
dimms = ["0x1"]
"""


class OnMedia(Subject):
    """Inputs that a machine finds on its media when a region is bound."""

    may_resize = False
    places = (0,)

    def __init__(self, hands: Hands) -> None:
        super().__init__()
        self.hands = hands

    def feed(self, data: bytes) -> None:
        with self.stopped():
            self.write(data)
        self.use()
        wrong = next(books.problems(self.hands.machine), "")
        if wrong:
            raise AssertionError(wrong)

    def write(self, data: bytes) -> None:
        """Put the input on its medium."""
        raise NotImplementedError

    def use(self) -> None:
        """Use what the machine has made of it."""

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Unbind the region, and bind it again at the end."""
        self.try_write(f"{ND}/drivers/nd_region/unbind", "region0")
        yield
        self.try_write(f"{ND}/drivers/nd_region/bind", "region0")

    def try_write(self, path: str, text: str) -> bool:
        """Whether a write is not refused."""
        try:
            self.hands.write(path, text)
        except KernelError:
            return False
        return True

    @property
    def region(self) -> RegionDevice:
        bus = self.hands.machine.nd_bus
        assert bus is not None
        region = bus.members["region0"]
        assert isinstance(region, RegionDevice)
        return region

    def namespaces(self) -> list[NamespaceDevice]:
        return [child for child in self.region.children if isinstance(child, NamespaceDevice)]

    def touch_disks(self) -> None:
        """Read and write the beginning and the end of each disk."""
        for node in list(self.hands.machine.system.dev):
            data = getattr(node, "data", None)
            size = data.size if data is not None else 0
            for offset in {0, 512, max(0, size - 4096)}:
                with contextlib.suppress(KernelError):
                    if 0 <= offset <= size - 4096:
                        data.write(offset, b"x" * 4096)
                        data.read(offset, 4096)


class Labels(OnMedia):
    """The label area of a DIMM."""

    def __init__(self, version: str = "1.2") -> None:
        super().__init__(Hands.described(LABELLED.format(version=version)))
        self._label_size = LABEL_SIZES_BY_VERSION[version]
        self._area: Media = next(iter(self.hands.machine.storage._label_areas.values()))
        self._layout = LabelAreaLayout.of(self._area.size, self._label_size)
        self._length = self._layout.slot_offset(6)
        self.samples.append(self._area.read(0, self._length))
        for number in range(3):
            seed = f"{ND}/devices/{self.region.seeds['namespace'].name}"
            self.hands.write(f"{seed}/uuid", UUIDS[number])
            self.hands.write(f"{seed}/size", str(16 * MIB))
            self.hands.write(f"{ND}/drivers/nd_pmem/bind", seed.rpartition("/")[2])
            self.samples.append(self._area.read(0, self._length))
        self.places = (0, self._layout.index_size, *map(self._layout.slot_offset, range(4)))

    def repaired(self, data: bytes) -> bytes:
        for start in self._layout.index_offsets:
            data = _summed(data, start, self._layout.index_size, 64)
        if self._label_size == LABEL_SIZES_BY_VERSION["1.2"]:
            for slot in range(6):
                data = _summed(data, self._layout.slot_offset(slot), self._label_size, 248)
        return data

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        with super().stopped():
            self.try_write(f"{ND}/drivers/nvdimm/unbind", "nmem0")
            yield
            self.try_write(f"{ND}/drivers/nvdimm/bind", "nmem0")

    def write(self, data: bytes) -> None:
        self._area.write(0, data[: self._length])

    def use(self) -> None:
        """Change and delete a namespace."""
        namespaces = self.namespaces()
        for namespace in namespaces[:2]:
            self.try_write(f"{ND}/drivers/nd_pmem/unbind", namespace.name)
            path = f"{ND}/devices/{namespace.name}"
            self.try_write(f"{path}/alt_name", "other")
            self.try_write(f"{path}/uuid", UUIDS[7])
            self.try_write(f"{path}/size", str(32 * MIB if namespace is namespaces[0] else 0))
            self.try_write(f"{ND}/drivers/nd_pmem/bind", namespace.name)


class Labels11(Labels):
    """As `Labels`, of version 1.1."""

    def __init__(self) -> None:
        super().__init__("1.1")


class InfoBlocks(OnMedia):
    """The first 16 KiB of a namespace, where info blocks are."""

    places = (0, INFO, 2 * INFO)

    def __init__(self) -> None:
        super().__init__(Hands.on("64M!4G"))
        for kind, settings in (
            ("btt", {"sector_size": 512}),
            ("btt", {"sector_size": 4160}),
            ("pfn", {"mode": "pmem", "align": 2 * MIB}),
            ("pfn", {"mode": "ram", "align": 4096}),
            ("dax", {"mode": "pmem", "align": 4096}),
        ):
            self.hands.bring_up(0, kind, **settings)
            self.samples.append(self.region.media.read(0, 4 * INFO))
            with self.stopped():
                self.region.media.zero(0, self.region.size)

    def repaired(self, data: bytes) -> bytes:
        blocks = (data[start : start + INFO] for start in range(0, len(data), INFO))
        return b"".join(block if not block.strip(b"\0") or len(block) < INFO else seal(block[:-8]) for block in blocks)

    def write(self, data: bytes) -> None:
        self.region.media.write(0, data)

    def use(self) -> None:
        self.touch_disks()


class BttMetadata(OnMedia):
    """The map and the log of a BTT, between two info blocks that are valid."""

    def __init__(self) -> None:
        super().__init__(Hands.on("32M!4G"))
        self.hands.bring_up(0, "btt", sector_size=4096)
        info = self.region.media.read(INFO, INFO)
        self._mapoff, self._logoff = (INFO + offset for offset in struct.unpack_from("<QQ", info, 96))
        for _ in range(3):
            self.samples.append(self._read())
            self.touch_disks()
        self.places = (0, 4096, 4096 + 16 * 1024)

    def _read(self) -> bytes:
        return self.region.media.read(self._mapoff, 4096) + self.region.media.read(self._logoff, 16 * 1024)

    def write(self, data: bytes) -> None:
        self.region.media.write(self._mapoff, data[:4096])
        self.region.media.write(self._logoff, data[4096 : 4096 + 16 * 1024])

    def use(self) -> None:
        self.touch_disks()


class PartitionTables(OnMedia):
    """The sectors of a disk that hold an MBR, or a GPT and its entries.  The alternate GPT at its end is never read."""

    _HEAD = 40 * 512
    places = (446, 462, 512, 1024, 1152)

    def __init__(self) -> None:
        super().__init__(Hands.on("16M!4G"))
        disk = next(iter(self._disks()))
        sectors = disk.sectors
        first = partition_tables.guid_entry(34, 99, "one"), partition_tables.guid_entry(100, 199, "two")
        for pieces in (
            partition_tables.gpt(*first, sectors=sectors),
            ((0, partition_tables.mbr(partition_tables.entry(0x83, 1, 99), partition_tables.entry(5, 2, 1000))),),
            ((0, partition_tables.mbr(*[partition_tables.entry(0x0F, 1, 50)] * 4)),),
        ):
            data = bytearray(self._HEAD)
            for sector, content in pieces:
                data[sector * 512 : sector * 512 + len(content)] = content
            self.samples.append(bytes(data))

    def _disks(self) -> list[Disk]:
        return [device for device in self.hands.machine.system.numbered.values() if isinstance(device, Disk)]

    def repaired(self, data: bytes) -> bytes:
        changed = bytearray(data)
        lba, count, size = struct.unpack_from("<QII", data, 512 + 72)
        if count * size <= 1 << 16:
            table = bytes(changed[lba * 512 : lba * 512 + count * size])
            changed[512 + 88 : 512 + 92] = struct.pack("<I", zlib.crc32(table))
        (length,) = struct.unpack_from("<I", data, 512 + 12)
        changed[512 + 16 : 512 + 20] = bytes(4)
        checksum = zlib.crc32(changed[512 : 512 + min(length, 512)])
        changed[512 + 16 : 512 + 20] = struct.pack("<I", checksum)
        return bytes(changed)

    def feed(self, data: bytes) -> None:
        for disk in self._disks():
            self.region.media.write(0, data[: self._HEAD])
            with contextlib.suppress(KernelError):
                disk.rescan_partitions()
            for partition in disk.partitions:
                if partition.entry.end > disk.sectors:  # in 64 bits, as the kernel checks it
                    raise AssertionError(f"{partition.name} is not on its disk")
        wrong = next(books.problems(self.hands.machine), "")
        if wrong:
            raise AssertionError(wrong)


def _summed(data: bytes, start: int, length: int, offset: int) -> bytes:
    """The same bytes, in which the checksum of the structure at `start` fits, if there is one."""
    block = bytearray(data[start : start + length])
    if len(block) < length or not block.strip(b"\0"):
        return data
    block[offset : offset + 8] = bytes(8)
    block[offset : offset + 8] = struct.pack("<Q", fletcher64(bytes(block)))
    return data[:start] + bytes(block) + data[start + length :]
