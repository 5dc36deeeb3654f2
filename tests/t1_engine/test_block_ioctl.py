"""Partitions that come and go by ioctl; the answers are those of a real 6.1 kernel to the same calls in order."""

import errno
import struct

import pytest
from machines import boot
from partition_tables import gpt, guid_entry

from nvdimmfs.block.badblocks import SECTOR_SIZE
from nvdimmfs.block.ioctl import block_ioctl
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.block_requests import BLKPG, BLKROSET, BLKRRPART

MIB = 1 << 20
ADD, DELETE, RESIZE = 1, 2, 3
#: Where the argument of BLKPG lies, and where the partition that it names.
ARGUMENT, PARTITION = 0x1000, 0x800

#: (operation, start, length, number) and the answer: 0 or an errno's name.
ANSWERS = [
    ((ADD, 0, MIB, 1), "EBUSY"),
    ((ADD, MIB, MIB, 3), "EBUSY"),
    ((ADD, 2 * MIB, MIB, 3), 0),
    ((ADD, 4 * MIB, MIB, 3), "EBUSY"),
    ((ADD, 3 * MIB, MIB, 3), "EBUSY"),
    ((ADD, 16 * MIB, MIB + 1, 4), "EINVAL"),
    ((ADD, 16 * MIB + 1, MIB, 4), "EINVAL"),
    ((ADD, 16 * MIB, 0, 4), "EINVAL"),
    ((ADD, 16 * MIB, -MIB, 4), "EINVAL"),
    ((ADD, -MIB, MIB, 4), "EINVAL"),
    ((ADD, 16 * MIB, MIB, 0), "EINVAL"),
    ((ADD, 16 * MIB, MIB, -1), "EINVAL"),
    ((ADD, 600 * MIB, MIB, 4), 0),
    ((ADD, 511 * MIB, 2 * MIB, 4), "EBUSY"),
    ((ADD, 20 * MIB, MIB, 255), 0),
    ((ADD, 22 * MIB, MIB, 256), "EINVAL"),
    ((ADD, 24 * MIB, MIB, 300), "EINVAL"),
    ((0, 24 * MIB, MIB, 9), "EINVAL"),
    ((9, 24 * MIB, MIB, 9), "EINVAL"),
    ((RESIZE, 3 * MIB, 2 * MIB, 3), "EINVAL"),
    ((RESIZE, 3 * MIB, 200 * MIB, 3), "EINVAL"),
    ((RESIZE, 5 * MIB, MIB, 3), "EINVAL"),
    ((RESIZE, 3 * MIB, MIB, 8), "ENXIO"),
    ((RESIZE, 3 * MIB, MIB, 3), "EINVAL"),
    ((DELETE, 0, 0, 3), 0),
    ((DELETE, 0, 0, 3), "ENXIO"),
    ((DELETE, 0, 0, 0), "EINVAL"),
    ((DELETE, 0, 0, 255), 0),
    ((DELETE, 0, 0, 300), "ENXIO"),
]

#: The same on a disk whose GPT has two partitions end before they begin, and a sound one; its first and last sectors.
BACKWARDS = [(2, 0), (100, 50), (40960, 49151)]
BACKWARDS_ANSWERS = [
    ((ADD, 200000 * SECTOR_SIZE, 8 * SECTOR_SIZE, 20), 0),
    ((ADD, 0, SECTOR_SIZE, 21), 0),
    ((ADD, SECTOR_SIZE, SECTOR_SIZE, 22), 0),
    ((ADD, 0, 3 * SECTOR_SIZE, 23), "EBUSY"),
    ((ADD, 3000 * SECTOR_SIZE, 8 * SECTOR_SIZE, 24), 0),
    ((ADD, 2 * SECTOR_SIZE, SECTOR_SIZE, 25), 0),
    ((ADD, 45000 * SECTOR_SIZE, SECTOR_SIZE, 26), "EBUSY"),
    ((RESIZE, 2 * SECTOR_SIZE, 8 * SECTOR_SIZE, 1), "EBUSY"),
]


@pytest.fixture
def machine():
    return boot({"memmap": "512M!4G"})


@pytest.fixture
def disk(machine):
    """With a table of two partitions that has not been read yet."""
    table = bytes(446) + struct.pack("<4xB3xII", 0x83, 2048, 2048) + struct.pack("<4xB3xII", 0x83, 8192, 100)
    machine.system.dev.find("pmem0").data.write(0, table.ljust(510, b"\0") + b"\x55\xaa")
    return device(machine, "pmem0")


def device(machine, name):
    (found,) = (each for each in machine.system.numbered.values() if each.name == name)
    return found


def call(target, request, *wanted, privileged=True):
    """What an ioctl returns, errnos by name; `wanted` is what each read of the caller's memory gives."""
    steps = block_ioctl(target, request, ARGUMENT, privileged=privileged)
    try:
        next(steps)
        for memory in wanted:
            steps.send(memory)
    except StopIteration as end:
        return end.value
    except KernelError as refusal:
        return refusal.code
    raise AssertionError("it wants more memory")


def partition(target, operation, start, length, number, **options):
    argument = struct.pack("=i8x4xQ", operation, PARTITION)
    return call(target, BLKPG, argument, struct.pack("=qqi132x", start, length, number), **options)


def sizes(machine):
    lines = machine.system.proc.find("partitions").show().decode().splitlines()[2:]
    return [tuple(line.split()[2:]) for line in lines]


def test_partitions_appear_when_the_table_is_read_again(machine, disk):
    assert sizes(machine) == [("524288", "pmem0")]
    assert call(disk, BLKRRPART) == 0
    assert sizes(machine) == [("524288", "pmem0"), ("1024", "pmem0p1"), ("50", "pmem0p2")]


def test_partitions_are_added_resized_and_deleted_as_on_a_real_kernel(machine, disk):
    call(disk, BLKRRPART)
    assert [(asked, partition(disk, *asked)) for asked, _ in ANSWERS] == ANSWERS
    assert sizes(machine)[-1] == ("1024", "pmem0p4")


def test_a_partition_that_ends_before_it_begins_is_in_nobodys_way(machine, disk):
    bytes_of_disk = machine.system.dev.find("pmem0").data
    for sector, piece in gpt(*(guid_entry(*each) for each in BACKWARDS), sectors=512 * MIB // SECTOR_SIZE):
        bytes_of_disk.write(sector * SECTOR_SIZE, piece)
    call(disk, BLKRRPART)
    assert [(asked, partition(disk, *asked)) for asked, _ in BACKWARDS_ANSWERS] == BACKWARDS_ANSWERS


def test_the_partition_is_read_from_where_the_argument_says(disk):
    steps = block_ioctl(disk, BLKPG, ARGUMENT, privileged=True)
    assert next(steps).offset == 0
    assert steps.send(struct.pack("=i8x4xQ", ADD, PARTITION)).offset == PARTITION - ARGUMENT


def test_a_partition_has_none(machine, disk):
    call(disk, BLKRRPART)
    first = device(machine, "pmem0p1")
    assert partition(first, ADD, 0, 4096, 1) == "EINVAL"
    assert call(first, BLKRRPART) == "EINVAL"


def test_without_cap_sys_admin_nothing_changes(disk):
    assert call(disk, BLKRRPART, privileged=False) == "EACCES"
    assert call(disk, BLKROSET, struct.pack("=i", 1), privileged=False) == "EACCES"
    assert partition(disk, ADD, MIB, MIB, 1, privileged=False) == "EACCES"


def test_a_disk_is_made_read_only_with_its_partitions(machine, disk):
    call(disk, BLKRRPART)
    assert call(disk, BLKROSET, struct.pack("=i", 1)) == 0
    file = machine.system.dev.find("pmem0p1").data
    with pytest.raises(KernelError) as refusal:
        file.write(0, bytes(512))
    assert refusal.value.errno == errno.EPERM
    assert call(disk, BLKROSET, struct.pack("=i", 0)) == 0
    file.write(0, b"x" * 512)
    assert machine.system.dev.find("pmem0").data.read(MIB, 512) == b"x" * 512


def test_a_partition_is_made_read_only_alone(machine, disk):
    call(disk, BLKRRPART)
    assert call(device(machine, "pmem0p1"), BLKROSET, struct.pack("=i", 1)) == 0
    with pytest.raises(KernelError):
        machine.system.dev.find("pmem0p1").data.write(0, bytes(512))
    machine.system.dev.find("pmem0p2").data.write(0, bytes(512))
    machine.system.dev.find("pmem0").data.write(MIB, bytes(512))


def test_a_request_that_is_not_known_is_enotty(disk):
    assert call(disk, 0x126F) == "ENOTTY"


def test_a_partition_beyond_the_end_of_its_disk_is_eio_there(machine, disk):
    assert partition(disk, ADD, 511 * MIB, 2 * MIB, 7) == 0
    data = machine.system.dev.find("pmem0p7").data
    assert data.size == 2 * MIB
    data.write(MIB - SECTOR_SIZE, b"x" * SECTOR_SIZE)
    assert data.read(MIB - SECTOR_SIZE, SECTOR_SIZE) == b"x" * SECTOR_SIZE
    for beyond in (MIB, MIB - SECTOR_SIZE):
        with pytest.raises(KernelError) as refusal:
            data.read(beyond, 2 * SECTOR_SIZE)
        assert refusal.value.errno == errno.EIO
        with pytest.raises(KernelError) as refusal:
            data.write(beyond, bytes(2 * SECTOR_SIZE))
        assert refusal.value.errno == errno.EIO


def test_partitions_that_are_read_again_have_other_numbers():
    """The former ones are free afterwards; tests/recordings/nfit_test/fuzz/rescan.recording has such a disk."""
    machine = boot({"memmap": "512M!4G", "memory": "8G"})
    disk = machine.persistent_memory.blocks.disks["pmem0"]
    entry = struct.pack("<8B2I", 0, 0, 0, 0, 0x83, 0, 0, 0, 1, 16)
    disk.bytes.write(446, entry + bytes(48) + b"\x55\xaa")
    minors = []
    for _ in range(3):
        disk.rescan_partitions()
        minors += [partition.number.minor for partition in disk.partitions]
    assert minors == [1, 2, 1]
    machine.close()
