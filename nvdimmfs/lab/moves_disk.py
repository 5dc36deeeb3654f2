"""Moves of a walk on disks: reads and writes of every length, partition tables, foreign info blocks, attributes."""

from __future__ import annotations

from nvdimmfs.lab.walker import ANY_VALUE, SECTOR_SIZE, Walker
from nvdimmfs.units import PAGE_SIZE

#: Values of the attributes of a disk and its queue.
_VALUES = {
    "write_cache": ["write back", "write through", "x"],
    "scheduler": ["none", "mq-deadline", "x"],
    "read_ahead_kb": ["0", "4", "128", "131072", "7", "x"],
    "nomerges": ["0", "1", "2", "3"],
    "rq_affinity": ["0", "1", "2"],
    "max_sectors_kb": ["4", "64", "1280", "0"],
    "nr_requests": ["64", "128"],
    "io_timeout": ["1000", "30000"],
    "badblocks": ["8 1", "0 100", "1", "x"],
}

#: The folders of a disk that have attributes.
_FOLDERS = ("", "/queue", "/integrity", "/bdi")

#: Attributes of disks that are no matter of the disk: they trace it, or count its requests, or accept what depends on
#: how much of the kernel's memory may be dirty.
_NOT_WRITTEN = frozenset({"trace", "stat", "uevent", "min_bytes", "max_bytes"})

#: Behind these first bytes, a namespace can have struct pages, whose bytes are pointers: no walk reads those.
_BEGINNING = 2 * PAGE_SIZE

#: The lengths of requests.
_LENGTHS = (1, 7, 64, 512, 512, 513, 1024, 4096, 4096, 4097, 8192)

#: Bytes of an MBR before its partition entries, and the mark at its end.
_BEFORE_ENTRIES, _MARK = 446, "55aa"


def transfer(walker: Walker) -> None:
    """Read bytes of a disk, or write some, at its beginning, its end, or anywhere."""
    disks = walker.disks()
    if not disks:
        return
    disk = walker.choose(disks)
    for _ in range(walker.number(1, 3)):
        length = walker.choose(_LENGTHS)
        offset = _offset(walker, disk)
        if walker.happens(0.5):
            walker.ask(
                {"op": "pread", "dev": disk, "offset": offset, "length": min(length, _readable(walker, disk, offset))}
            )
        else:
            walker.ask({"op": "pwrite", "dev": disk, "offset": offset, "hex": f"{walker.number(0, 255):02x}" * length})


def _has_own_sectors(walker: Walker, disk: str) -> bool:
    """Whether all bytes of a disk are those of its user: that of a btt, or of a pfn device, with its partitions."""
    return walker.is_on(disk, "btt", "pfn")


def _offset(walker: Walker, disk: str) -> int:
    size = walker.size_of(disk)
    places = [
        0,
        0,
        SECTOR_SIZE,
        PAGE_SIZE,
        PAGE_SIZE + SECTOR_SIZE,
        size - PAGE_SIZE,
        size - SECTOR_SIZE,
        size - 1,
        size,
    ]
    if size:
        places += [size // 2, walker.number(size // 2, size), walker.number(size // 2, size) // PAGE_SIZE * PAGE_SIZE]
    return max(walker.choose(places), 0)


def _readable(walker: Walker, disk: str, offset: int) -> int:
    """How many bytes of a disk from an offset on have been written."""
    if _has_own_sectors(walker, disk) or offset >= walker.size_of(disk) // 2:
        return max(_LENGTHS)
    return max(_BEGINNING - offset, 0)


def partition(walker: Walker) -> None:
    """Write a partition table to a disk, or wipe it; the kernel reads it when the disk appears the next time."""
    disks = [disk for disk in walker.disks() if "p" not in disk.removeprefix("pmem")]
    if not disks:
        return
    disk = walker.choose(disks)
    table = "00" * SECTOR_SIZE if walker.happens(0.3) else _mbr(walker, walker.size_of(disk) // SECTOR_SIZE)
    walker.ask({"op": "pwrite", "dev": disk, "offset": 0, "hex": table})
    bind_again(walker, disk)


def _mbr(walker: Walker, sectors: int) -> str:
    """A partition table of one to four partitions, some of which do not fit."""
    entries = ""
    for _ in range(walker.number(1, 4)):
        start = walker.choose((1, 8, 63, 2048, sectors // 2, walker.number(1, max(sectors, 1))))
        size = walker.choose((0, 1, 8, 2048, sectors // 4, max(sectors - start, 0), sectors))
        kind = walker.choose(("83", "83", "05", "82", "ee", "00"))
        numbers = b"".join((number & 0xFFFFFFFF).to_bytes(4, "little") for number in (start, size))
        entries += f"00000000{kind}000000{numbers.hex()}"
    return "00" * _BEFORE_ENTRIES + entries.ljust(128, "0") + _MARK


def bind_again(walker: Walker, disk: str) -> None:
    """Have a disk disappear and appear again."""
    device = next(
        (part for part in reversed(walker.real_path(f"class/block/{disk}").split("/")) if part in walker.devices()), ""
    )
    if device:
        walker.drive("nd_pmem", "unbind", device)
        walker.drive("nd_pmem", "bind", device)


def info_block(walker: Walker) -> None:
    """Copy the info block of one raw disk to another, or change some of its bytes; its driver looks at it again."""
    disks = [disk for disk in walker.disks() if not _has_own_sectors(walker, disk)]
    if not disks:
        return
    source, target = walker.choose(disks), walker.choose(disks)
    block = walker.bytes_of(source, PAGE_SIZE, PAGE_SIZE)
    if walker.happens(0.4) and block:
        place = 2 * walker.number(0, 127)
        block = block[:place] + f"{walker.number(0, 255):02x}" + block[place + 2 :]
    walker.ask({"op": "pwrite", "dev": target, "offset": PAGE_SIZE, "hex": block})
    bind_again(walker, target)


def attribute(walker: Walker) -> None:
    """Write a value to an attribute of a disk or its queue."""
    disks = walker.disks()
    if not disks:
        return
    folder = f"class/block/{walker.choose(disks)}{walker.choose(_FOLDERS)}"
    if written := [name for name in walker.written_files(folder) if name not in _NOT_WRITTEN]:
        name = walker.choose(written)
        walker.write(f"{folder}/{name}", walker.pick_value(f"{folder}/{name}", _VALUES.get(name, ANY_VALUE)))
