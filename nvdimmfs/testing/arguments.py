"""What the methods of a machine under test accept."""

from __future__ import annotations

import errno
import operator
import os
from typing import Final, TypeAlias

from nvdimmfs.errors import KernelError
from nvdimmfs.units import S64_MAX

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


def path_of(path: object, name: str = "path") -> str:
    """The text of a path.  TypeError for what is none, bytes included; ValueError for a NUL, which ends a path.

    Args:
        path: an argument that is annotated as `AnyPath`.
        name: its name.
    """
    text = path if isinstance(path, str) else os.fspath(path) if isinstance(path, os.PathLike) else None
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a text or an os.PathLike of one, not {path!r}")
    if "\0" in text:
        raise ValueError(f"{name} {text!r}: a path has no NUL")
    return text


def integer(name: str, value: int) -> int:
    """A whole number, also one of another library.  TypeError for anything else."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {value!r}") from None


def offset_of(value: int) -> int:
    """An offset in a file.  TypeError; EINVAL for one that no system call takes."""
    offset = integer("offset", value)
    if not 0 <= offset <= S64_MAX:
        raise KernelError(errno.EINVAL, f"the offset {offset} is not from 0 to {S64_MAX}")
    return offset


def size_of(value: int | None) -> int | None:
    """How much to read.  TypeError; ValueError for a negative size."""
    size = None if value is None else integer("size", value)
    if size is not None and size < 0:
        raise ValueError(f"size must be 0 or more, not {size}")
    return size


def data_of(value: Value) -> bytes:
    """The bytes of a value to write.  TypeError for a value of another type."""
    if isinstance(value, str):
        return value.encode(errors="surrogateescape")
    if isinstance(value, int):
        return str(int(value)).encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"a {type(value).__name__} cannot be written; write a text, bytes or a number")
