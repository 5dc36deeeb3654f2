"""Partition tables: GPT (UEFI 2.10, section 5) and MBR with logical partitions, as Linux 6.1 reads them.

Facts from block/partitions/efi.c, msdos.c and core.c.  Tables nested in an MBR partition (BSD, Solaris, Minix, ...)
and those of other platforms are ignored.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Callable, Iterator

from attrs import evolve, frozen

from nvdimmfs.units import U64_MASK

#: Bytes of the sectors in which MBR tables and the kernel count.
SECTOR_SIZE = 512

#: A disk has no more partitions, itself included (DISK_MAX_PARTS, include/linux/blkdev.h).
MOST_PARTITIONS = 256

# The master boot record: its magic number and where its four entries are.
_MAGIC = b"\x55\xaa"
_MAGIC_AT = 510
_ENTRIES_AT = 446
#: Boot indicator, start and end as cylinder, head and sector, the type between them, first sector, sectors.
_ENTRY = struct.Struct("<B3xB3xII")
_BOOT_INDICATORS = (0, 0x80)
_EXTENDED_TYPES = (0x05, 0x0F, 0x85)
_PROTECTIVE_TYPE = 0xEE
#: The first logical partition.
_FIRST_LOGICAL = 5
#: How many consecutive tables of logical partitions may be empty, so that a loop of tables ends.
_MOST_EMPTY_TABLES = 100

# The GPT header and its entries.
_HEADER = struct.Struct("<8s4xII4xQQQQ16sQIII")
_HEADER_CHECKSUM_AT = 16
_SIGNATURE = b"EFI PART"
_HEADER_LBA = 1
_GUID_ENTRY = struct.Struct("<16s16sQQ8x72s")
_LARGEST_ENTRY_ARRAY = 4 << 20


#: Reads bytes, given an offset and a length within the disk.
Read = Callable[[int, int], bytes]


@frozen
class PartitionEntry:
    """A partition, in sectors of 512 bytes.

    Attributes:
        number: counts from 1; logical ones of an MBR from 5.
        start: first sector.
        count: sectors, as 64 bits without a sign: nearly 2**64 where a GPT has one end before it begins.
        name: as a GPT gives it, in 7-bit characters; empty in an MBR.
    """

    number: int
    start: int
    count: int
    name: str = ""

    @property
    def end(self) -> int:
        """The sector after it, computed in 64 bits as the kernel does: an end before the start stays one."""
        # sector_t, include/linux/types.h
        return (self.start + self.count) & U64_MASK


@frozen
class Sectors:
    """The contents of a disk that is scanned for partitions.

    Attributes:
        read: reads its bytes.
        size: bytes.
        block_size: bytes of a logical block.
    """

    read: Read
    size: int
    block_size: int

    def sector(self, number: int) -> bytes | None:
        """The 512 bytes of a sector; None past the end of the disk."""
        offset = number * SECTOR_SIZE
        return self.read(offset, SECTOR_SIZE) if offset + SECTOR_SIZE <= self.size else None

    @property
    def last_block(self) -> int:
        return self.size // self.block_size - 1


def partitions_of(disk: Sectors) -> list[PartitionEntry]:
    """Return the partitions that the kernel finds on a disk, by number.

    A partition that starts past the end of the disk is dropped, one that crosses the end is truncated.
    """
    first = disk.sector(0)
    if first is None or first[_MAGIC_AT:] != _MAGIC:
        return []
    found = _gpt(disk, first)
    if found is None:
        found = list(_mbr(disk, first))
    end = disk.size // SECTOR_SIZE
    return [
        evolve(entry, count=end - entry.start) if entry.end > end else entry
        for entry in sorted(found, key=lambda entry: entry.number)
        if entry.count and entry.start < end and entry.number < MOST_PARTITIONS
    ]


@frozen
class _MbrEntry:
    boot: int
    kind: int
    start: int
    count: int

    @property
    def is_extended(self) -> bool:
        return self.kind in _EXTENDED_TYPES


def _mbr_entries(sector: bytes) -> list[_MbrEntry]:
    return [_MbrEntry(*_ENTRY.unpack_from(sector, _ENTRIES_AT + slot * _ENTRY.size)) for slot in range(4)]


def _mbr(disk: Sectors, first: bytes) -> Iterator[PartitionEntry]:
    """The primary partitions, and after each extended one the logical ones in it."""
    entries = _mbr_entries(first)
    if any(entry.boot not in _BOOT_INDICATORS or entry.kind == _PROTECTIVE_TYPE for entry in entries):
        return
    unit = disk.block_size // SECTOR_SIZE
    logical = _FIRST_LOGICAL
    for slot, entry in enumerate(entries, 1):
        start, count = entry.start * unit, entry.count * unit
        if not count:
            continue
        if not entry.is_extended:
            yield PartitionEntry(slot, start, count)
            continue
        # The kernel exposes only as much of it as a boot loader needs.
        yield PartitionEntry(slot, start, min(count, max(unit, 2)))
        for inner, inner_count in _logical(disk, start, count):
            if logical >= MOST_PARTITIONS:
                break
            yield PartitionEntry(logical, inner, inner_count)
            logical += 1


def _logical(disk: Sectors, first: int, count: int) -> Iterator[tuple[int, int]]:
    """First sectors and sizes of the logical partitions of an extended one: a chain of tables."""
    unit = disk.block_size // SECTOR_SIZE
    here, room = first, count
    empty = 0
    while (empty := empty + 1) <= _MOST_EMPTY_TABLES:
        sector = disk.sector(here)
        if sector is None or sector[_MAGIC_AT:] != _MAGIC:
            return
        entries = _mbr_entries(sector)
        for slot, entry in enumerate(entries):
            offset, size = entry.start * unit, entry.count * unit
            start = here + offset
            inside = offset + size <= room and first <= start and start + size <= first + count
            if size and not entry.is_extended and (slot < 2 or inside):
                yield start, size
                empty = 0
        onward = next((entry for entry in entries if entry.count and entry.is_extended), None)
        if onward is None:
            return
        here, room = first + onward.start * unit, onward.count * unit


def _gpt(disk: Sectors, first: bytes) -> list[PartitionEntry] | None:
    """Return the partitions of a GPT; None without a valid one.

    It is valid when the MBR is a protective one and the primary header is intact: the kernel reads the alternate
    header only with the option `gpt` on its command line.
    """
    if not any(entry.kind == _PROTECTIVE_TYPE and entry.start == _HEADER_LBA for entry in _mbr_entries(first)):
        return None
    entries = _gpt_entries(disk)
    if entries is None:
        return None
    unit = disk.block_size // SECTOR_SIZE
    found = []
    for number, entry in enumerate(_GUID_ENTRY.iter_unpack(entries), 1):
        kind, _, start, last, name = entry
        if uuid.UUID(bytes_le=kind).int and start <= disk.last_block and last <= disk.last_block:
            count = (last - start + 1) * unit & U64_MASK
            found.append(PartitionEntry(number, start * unit, count, _name(name)))
    return found


def _gpt_entries(disk: Sectors) -> bytes | None:
    """The array of entries of an intact primary header."""
    block = disk.read(_HEADER_LBA * disk.block_size, disk.block_size) if disk.last_block > _HEADER_LBA else b""
    if not block.startswith(_SIGNATURE):
        return None
    _, size, checksum, own, _, first_usable, last_usable, _, entries_lba, count, entry_size, entries_checksum = (
        _HEADER.unpack_from(block)
    )
    if not _HEADER.size <= size <= disk.block_size:
        return None
    header = bytearray(block[:size])
    header[_HEADER_CHECKSUM_AT : _HEADER_CHECKSUM_AT + 4] = bytes(4)
    sound = zlib.crc32(header) == checksum and own == _HEADER_LBA and entry_size == _GUID_ENTRY.size
    if not sound or not first_usable <= last_usable <= disk.last_block:
        return None
    start, length = entries_lba * disk.block_size, count * entry_size
    if not 0 < length <= _LARGEST_ENTRY_ARRAY or start + length > disk.size:
        return None
    entries = disk.read(start, length)
    return entries if zlib.crc32(entries) == entries_checksum else None


def _name(data: bytes) -> str:
    """A name in the kernel's 7 bits: other characters lose their upper byte, and what cannot be printed is a `!`."""
    low = bytes(data[::2]).partition(b"\0")[0]
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "!" for byte in low)
