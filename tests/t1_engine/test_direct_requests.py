"""Requests to a disk past the page cache (O_DIRECT) and through it; a 6.1 kernel was asked for each answer."""

from __future__ import annotations

import errno
import os
import struct

import pytest
from poke import Hands

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs.open_file import OpenFile

PAGE, SECTOR = 4096, 512
#: Bytes of a block of the page cache: the largest power of two below a page that divides the size of this BTT.
BLOCK = 1024


@pytest.fixture
def hands():
    hands = Hands.on("48M!4G")
    yield hands
    hands.machine.close()


def refusal(file: OpenFile, offset: int, length: int = SECTOR) -> int:
    with pytest.raises(KernelError) as caught:
        file.read(offset, length)
    return caught.value.errno


def test_a_good_sector_beside_a_bad_one_can_only_be_read_past_the_page_cache(hands):
    hands.write("block/pmem0/badblocks", "8 1\n")
    plain, direct = hands.open("pmem0"), hands.open("pmem0", os.O_DIRECT)
    assert direct.read(PAGE + SECTOR, SECTOR) == bytes(SECTOR)
    assert refusal(plain, PAGE + SECTOR) == refusal(plain, PAGE) == refusal(direct, PAGE) == errno.EIO
    assert plain.read(0, SECTOR) == plain.read(2 * PAGE, SECTOR) == bytes(SECTOR)


def test_a_direct_write_beside_a_bad_sector_leaves_it_bad(hands):
    hands.write("block/pmem0/badblocks", "8 1\n")
    direct = hands.open("pmem0", os.O_DIRECT)
    assert direct.write(PAGE + SECTOR, b"x" * SECTOR) == SECTOR
    assert hands.read("block/pmem0/badblocks") == "8 1\n"
    assert direct.write(PAGE, b"x" * SECTOR) == SECTOR
    assert hands.read("block/pmem0/badblocks") == ""
    assert hands.open("pmem0").read(PAGE, PAGE) == b"x" * 1024 + bytes(PAGE - 1024)


def test_a_direct_write_of_a_sector_to_a_btt_writes_one_sector(hands):
    btt = hands.configure(0, "btt", sector_size=520)
    hands.bind(btt)
    mapoff = int(hands.read(f"kernel/debug/btt/{btt}/arena0/mapoff"), 16)
    assert hands.open("pmem0s").write(0, b"x" * SECTOR) == SECTOR  # the page cache writes its whole block
    assert hands.open("pmem0s", os.O_DIRECT).write(24 * SECTOR, b"x" * SECTOR) == SECTOR
    hands.unbind(btt)
    hands.write(f"{hands.device(btt)}/namespace", "\n")
    hands.write(hands.device("namespace0.0/force_raw"), "1")
    hands.bind("namespace0.0")
    entries = struct.unpack("<64I", hands.open("pmem0").read(PAGE + mapoff, 256))
    assert [sector for sector, entry in enumerate(entries) if entry] == [*range(BLOCK // SECTOR), 24]
