#!/usr/bin/env python3
"""Ask a live kernel how it lists directories, in a guest or wherever they are; needs nothing but Python.

    ask_listings.py /sys /dev > LISTINGS.jsonl

Each directory below the given ones, links not followed, is a JSON object on a line: `path`; `links` and `blocks`
(st_nlink, st_blocks); and `entries` as getdents64(2) returns them, `.` and `..` among them: the name, the letter of
d_type, d_off.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
from collections.abc import Iterator

#: The number of getdents64(2) on x86-64.
_GETDENTS64 = 217
#: struct linux_dirent64 up to d_name: d_ino, d_off, d_reclen, d_type.
_ENTRY = struct.Struct("=QqHB")
_BUFFER = 32768
#: The letters of DT_DIR, DT_REG and the others, as ls(1) prints them.
_TYPES = {1: "p", 2: "c", 4: "d", 6: "b", 8: "-", 10: "l", 12: "s"}

Entry = tuple[str, str, int]

_libc = ctypes.CDLL(None, use_errno=True)


def entries(descriptor: int, size: int = _BUFFER) -> Iterator[Entry]:
    """The entries from the descriptor's position on, asked for with a buffer of so many bytes."""
    buffer = ctypes.create_string_buffer(size)
    while length := _libc.syscall(_GETDENTS64, descriptor, buffer, size):
        if length < 0:
            raise OSError(ctypes.get_errno(), "getdents64")
        position = 0
        while position < length:
            _, offset, entry_length, kind = _ENTRY.unpack_from(buffer, position)
            name = buffer.raw[position + _ENTRY.size : position + entry_length].partition(b"\0")[0]
            yield name.decode("latin-1"), _TYPES[kind], offset
            position += entry_length


def below(path: str) -> Iterator[dict[str, object]]:
    """A directory and all below it, in the kernel's order."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = os.fstat(descriptor)
        listed = list(entries(descriptor))
    finally:
        os.close(descriptor)
    yield {"path": path, "links": status.st_nlink, "blocks": status.st_blocks, "entries": listed}
    for name, kind, _ in listed:
        if kind == "d" and name not in (".", ".."):
            yield from below(f"{path}/{name}")


def main() -> None:
    for path in sys.argv[1:]:
        for directory in below(path):
            print(json.dumps(directory))


if __name__ == "__main__":
    main()
