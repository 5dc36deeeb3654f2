"""Partition tables to put on a disk."""

import struct
import zlib

#: Sectors of the disk that a table is for by default.
SECTORS = 4096
#: Where a boot sector has its magic number.
MAGIC_AT = 510


def entry(kind, start, count, boot=0):
    """An entry of an MBR."""
    return struct.pack("<B3xB3xII", boot, kind, start, count)


def mbr(*entries):
    """A boot sector with a table."""
    return (bytes(446) + b"".join(entries)).ljust(MAGIC_AT, b"\0") + b"\x55\xaa"


def gpt(*entries, sectors=SECTORS, count=128, size=128, **changes):
    """The pieces of a disk that make a GPT: first sectors and bytes.  `changes` are fields that a sound one has not."""
    table = b"".join(entries).ljust(count * size, b"\0")
    fields = {"own": 1, "first": 34, "last": sectors - 34, "lba": 2, "sum": zlib.crc32(table)} | changes
    header = bytearray(
        struct.pack(
            "<8sIIIIQQQQ16sQIII",
            b"EFI PART",
            0x10000,
            92,
            0,
            0,
            fields["own"],
            sectors - 1,
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
    return (0, mbr(entry(0xEE, 1, sectors - 1))), (1, bytes(header)), (2, table)


def guid_entry(start, last, name=""):
    """An entry of a GPT, of a type and an identity of no meaning."""
    return struct.pack("<16s16sQQ8x72s", b"\1" * 16, b"\2" * 16, start, last, name.encode("utf-16-le"))
