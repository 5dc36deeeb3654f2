"""Counters of requests in `stat` and /proc/diskstats; a 6.1 kernel was asked for each count."""

from __future__ import annotations

import os

import pytest
from partition_tables import entry, mbr
from poke import Hands

from nvdimmfs.block.ioctl import block_ioctl
from nvdimmfs.formats.block_requests import BLKRRPART
from nvdimmfs.machine.caller_memory import UserMemory
from nvdimmfs.machine.device_calls import device_named

PAGE = 4096


@pytest.fixture
def hands():
    hands = Hands.on("48M!4G")
    yield hands
    hands.machine.close()


def flush(hands: Hands, disk: str) -> None:
    """As fsync(2) on its file."""
    hands.machine.system.dev.find(disk).data.flush()


def counts(hands: Hands, disk: str) -> list[int]:
    """Reads, sectors that they read, writes, sectors that they wrote; all others must be 0."""
    counters = list(map(int, hands.read(f"class/block/{disk}/stat").split()))
    assert len(counters) == 17
    assert sum(counters) == counters[0] + counters[2] + counters[4] + counters[6]
    return counters[0:8:2]


def test_nothing_is_counted_until_iostats_is_on(hands):
    direct = hands.open("pmem0", os.O_DIRECT)
    direct.read(0, PAGE)
    assert counts(hands, "pmem0") == [0, 0, 0, 0]
    hands.write("block/pmem0/queue/iostats", "1")
    direct.read(0, PAGE)
    assert counts(hands, "pmem0") == [1, 8, 0, 0]
    hands.write("block/pmem0/queue/iostats", "0")
    direct.read(0, PAGE)
    assert counts(hands, "pmem0") == [1, 8, 0, 0]
    assert hands.read("block/pmem0/stat") == "       1        0        8" + "        0" * 14 + "\n"


def test_requests_and_flushes_are_counted(hands):
    hands.write("block/pmem0/queue/iostats", "1")
    direct = hands.open("pmem0", os.O_DIRECT)
    for place in range(4):
        direct.read(place * PAGE, PAGE)
    for place in range(2):
        direct.write(place * 2 * PAGE, bytes(2 * PAGE))
    assert counts(hands, "pmem0") == [4, 32, 2, 32]
    flush(hands, "pmem0")
    assert counts(hands, "pmem0") == [4, 32, 3, 32]
    hands.write("block/pmem0/queue/write_cache", "write through")
    flush(hands, "pmem0")
    assert counts(hands, "pmem0") == [4, 32, 3, 32]


def test_the_page_cache_writes_blocks_and_reads_pages_that_do_not_count(hands):
    hands.write("block/pmem0/queue/iostats", "1")
    plain = hands.open("pmem0")
    plain.write(0, bytes(16 * PAGE))
    plain.read(0, 64 * PAGE)
    assert counts(hands, "pmem0") == [0, 0, 16, 128]


def test_requests_to_a_partition_count_for_both(hands):
    _, disk = device_named(hands.machine.system, "pmem0")
    hands.open("pmem0").write(0, mbr(entry(0x83, 2048, 20480)))
    UserMemory(bytearray()).run(block_ioctl(disk, BLKRRPART, 0, privileged=True))
    hands.write("block/pmem0/queue/iostats", "1")
    hands.open("pmem0", os.O_DIRECT).read(0, PAGE)
    part = hands.open("pmem0p1", os.O_DIRECT)
    for place in range(4):
        part.read(place * PAGE, PAGE)
        part.write(place * PAGE, bytes(PAGE))
    flush(hands, "pmem0p1")
    assert counts(hands, "pmem0p1") == [4, 32, 5, 32]
    assert counts(hands, "pmem0") == [5, 40, 5, 32]
    lines = hands.machine.system.proc.find("diskstats").show().decode().splitlines()
    rest = " 0" * 10
    assert [line.partition("pmem")[2] for line in lines] == [f"0 5 0 40 0 5 0 32{rest}", f"0p1 4 0 32 0 5 0 32{rest}"]


@pytest.mark.parametrize(("kind", "disk"), [("", "pmem0"), ("btt", "pmem0s")])
def test_a_disk_and_its_partitions_are_one_record_of_diskstats(hands, kind, disk):
    if kind:
        hands.bring_up(0, kind, sector_size=512)
    _, device = device_named(hands.machine.system, disk)
    hands.open(disk).write(0, mbr(entry(0x83, 2048, 20480)))
    UserMemory(bytearray()).run(block_ioctl(device, BLKRRPART, 0, privileged=True))
    (record,) = hands.machine.system.proc.find("diskstats").source.records(privileged=True)
    assert record.count(b"\n") == 2


def test_a_btt_without_a_write_cache_gets_no_flush(hands):
    hands.bring_up(0, "btt", sector_size=4096)
    hands.write("block/pmem0s/queue/iostats", "1")
    direct = hands.open("pmem0s", os.O_DIRECT)
    direct.read(0, PAGE)
    direct.write(0, bytes(4 * PAGE))
    flush(hands, "pmem0s")
    assert counts(hands, "pmem0s") == [1, 8, 1, 32]
