"""Partition tables; what a real kernel makes of some is in the recordings of e820/partitions."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvdimmfs.formats.partition_table import SECTOR_SIZE, PartitionEntry, Sectors, partitions_of

SECTORS = 4096
MAGIC_AT = 510


def entry(kind, start, count, boot=0):
    return struct.pack("<B3xB3xII", boot, kind, start, count)


def mbr(*entries):
    return (bytes(446) + b"".join(entries)).ljust(MAGIC_AT, b"\0") + b"\x55\xaa"


def disk(*pieces, block_size=SECTOR_SIZE, sectors=SECTORS):
    data = bytearray(sectors * SECTOR_SIZE)
    for sector, piece in pieces:
        data[sector * SECTOR_SIZE : sector * SECTOR_SIZE + len(piece)] = piece
    return Sectors(lambda offset, length: bytes(data[offset : offset + length]), len(data), block_size)


def test_a_disk_without_a_table_has_no_partitions():
    assert partitions_of(disk()) == []
    assert partitions_of(Sectors(lambda _offset, length: bytes(length), 0, SECTOR_SIZE)) == []


def test_primary_partitions():
    found = partitions_of(disk((0, mbr(entry(0x83, 8, 16, boot=0x80), entry(0, 100, 5), entry(0x83, 50, 0)))))
    assert found == [PartitionEntry(1, 8, 16), PartitionEntry(2, 100, 5)]


@pytest.mark.parametrize("boot", [1, 0x7F, 0x81, 0xFF])
def test_a_boot_indicator_that_is_none_makes_it_no_table(boot):
    assert partitions_of(disk((0, mbr(entry(0x83, 8, 16), entry(0x83, 100, 5, boot=boot))))) == []


def test_what_reaches_beyond_the_end_is_cut_and_what_starts_there_left_out():
    table = mbr(entry(0x83, SECTORS - 10, 100), entry(0x83, SECTORS, 1))
    assert partitions_of(disk((0, table))) == [PartitionEntry(1, SECTORS - 10, 10)]


def test_a_table_counts_in_logical_blocks():
    found = partitions_of(disk((0, mbr(entry(0x83, 2, 3))), block_size=4096))
    assert found == [PartitionEntry(1, 16, 24)]


@pytest.mark.parametrize("kind", [0x05, 0x0F, 0x85])
def test_logical_partitions_are_numbered_from_five(kind):
    found = partitions_of(
        disk(
            (0, mbr(entry(kind, 100, 1000), entry(0x83, 2000, 10))),
            (100, mbr(entry(0x83, 1, 20), entry(kind, 500, 100))),
            (600, mbr(entry(0x83, 2, 30))),
        )
    )
    assert [(each.number, each.start, each.count) for each in found] == [
        (1, 100, 2),
        (2, 2000, 10),
        (5, 101, 20),
        (6, 602, 30),
    ]


def test_a_chain_of_tables_that_ends_where_it_began_ends():
    looped = mbr(entry(0x05, 1, 1), entry(0x05, 0, 1000))
    assert len(partitions_of(disk((0, mbr(entry(0x05, 100, 1000))), (100, looped)))) == 1


def test_a_chain_with_a_partition_in_it_ends_at_the_most_that_a_disk_has():
    looped = mbr(entry(0x83, 1, 1), entry(0x05, 0, 1000))
    assert len(partitions_of(disk((0, mbr(entry(0x05, 100, 1000))), (100, looped)))) == 252


def gpt(*entries, count=128, size=128, **changes):
    table = b"".join(entries).ljust(count * size, b"\0")
    fields = {"own": 1, "first": 34, "last": SECTORS - 34, "lba": 2, "sum": zlib.crc32(table)} | changes
    header = bytearray(
        struct.pack(
            "<8sIIIIQQQQ16sQIII",
            b"EFI PART",
            0x10000,
            92,
            0,
            0,
            fields["own"],
            SECTORS - 1,
            fields["first"],
            fields["last"],
            bytes(16),
            fields["lba"],
            count,
            size,
            fields["sum"],
        )
    )
    header[16:20] = struct.pack("<I", zlib.crc32(header) ^ changes.get("damage", 0))
    return (0, mbr(entry(0xEE, 1, SECTORS - 1))), (1, bytes(header)), (2, table)


def guid_entry(start, last, name=""):
    return struct.pack("<16s16sQQ8x72s", b"\1" * 16, b"\2" * 16, start, last, name.encode("utf-16-le"))


def test_a_gpt_names_its_partitions():
    found = partitions_of(disk(*gpt(guid_entry(100, 199, "first"), bytes(128), guid_entry(200, 200, "zwölf\u2028"))))
    assert found == [PartitionEntry(1, 100, 100, "first"), PartitionEntry(3, 200, 1, "zw!lf(")]


@pytest.mark.parametrize(
    "changes",
    [{"damage": 1}, {"own": 2}, {"first": SECTORS}, {"last": SECTORS}, {"sum": 0}, {"lba": SECTORS}, {"size": 256}],
    ids=str,
)
def test_a_gpt_that_is_not_sound_has_no_partitions(changes):
    assert partitions_of(disk(*gpt(guid_entry(100, 199), **changes))) == []


@given(st.binary(max_size=SECTOR_SIZE), st.binary(max_size=SECTOR_SIZE))
def test_garbage_makes_partitions_within_the_disk_or_none(first, second):
    table = first.ljust(MAGIC_AT, b"\0")[:MAGIC_AT] + b"\x55\xaa"
    for found in partitions_of(disk((0, table), (1, second))):
        assert 0 <= found.start < found.start + found.count <= SECTORS
