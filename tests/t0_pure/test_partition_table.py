"""Partition tables; what a real kernel makes of some is in the recordings of e820/partitions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from partition_tables import MAGIC_AT, SECTORS, entry, gpt, guid_entry, mbr

from nvdimmfs.formats.partition_table import SECTOR_SIZE, PartitionEntry, Sectors, partitions_of


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


def test_a_partition_beyond_the_end_is_cut_or_left_out():
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


# Sectors near the tables and near the end of the disk, and what no disk has.
sectors = st.one_of(st.integers(0, 40), st.integers(SECTORS - 40, SECTORS + 5), st.integers(0, (1 << 32) - 1))
tables = st.lists(
    st.builds(entry, st.sampled_from([0x83, 0x05, 0x85, 0]), sectors, sectors, st.sampled_from([0, 0x80])), max_size=4
).map(lambda entries: mbr(*entries))


def is_within_the_disk(found):
    return 0 <= found.start < SECTORS and found.end <= SECTORS


@given(tables, st.dictionaries(st.integers(1, 40), tables))
def test_whatever_an_mbr_says_partitions_are_within_the_disk(first, others):
    found = partitions_of(disk((0, first), *others.items()))
    assert all(map(is_within_the_disk, found)), found


@given(st.lists(st.builds(guid_entry, sectors, sectors), max_size=8))
def test_whatever_a_gpt_says_partitions_are_within_the_disk(entries):
    found = partitions_of(disk(*gpt(*entries)))
    assert all(map(is_within_the_disk, found)), found


def test_a_gpt_can_have_a_partition_end_before_it_begins_but_not_be_empty():
    found = partitions_of(disk(*gpt(guid_entry(100, 50), guid_entry(100, 99), guid_entry(0, 0))))
    assert found == [PartitionEntry(1, 100, 2**64 - 49), PartitionEntry(3, 0, 1)]
    assert [each.end for each in found] == [51, 1]


@given(st.binary(min_size=MAGIC_AT, max_size=MAGIC_AT))
def test_a_boot_sector_of_random_bytes_has_partitions_within_the_disk_or_none(code):
    assert all(map(is_within_the_disk, partitions_of(disk((0, code + b"\x55\xaa")))))
