"""What the methods of a machine under test accept."""

from __future__ import annotations

import os
from typing import Final, TypeAlias

#: A path below the machine's root: `sys/bus/nd` as below a mount, or `/sys/bus/nd` as in a sandbox.
AnyPath: TypeAlias = str | os.PathLike[str]

#: What can be written.
Value: TypeAlias = str | bytes | bytearray | memoryview | int

#: How much one read(2) requests, bytes.
READ_SIZE: Final = 1 << 20

#: The number of an ioctl has 32 bits; Python programs also write it as a negative number.
REQUEST_MASK: Final = 0xFFFF_FFFF

#: Where the debug folder is.
DEBUG: Final = "sys/kernel/debug/nvdimmfs"


def data_of(value: Value) -> bytes:
    """The bytes of a value to write.  TypeError for a value of another type."""
    if isinstance(value, str):
        return value.encode(errors="surrogateescape")
    if isinstance(value, int):
        return str(int(value)).encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"a {type(value).__name__} cannot be written; write a text, bytes or a number")
