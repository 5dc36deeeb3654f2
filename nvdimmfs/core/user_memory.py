"""Accesses of an ioctl to its caller's memory, one at a time: the process that has this memory carries them out."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeAlias

import attrs


@attrs.frozen
class CopyIn:
    """Read `length` bytes of user memory, `offset` bytes from where the ioctl's argument points.

    Send the bytes, or throw KernelError(EFAULT).
    """

    offset: int
    length: int


@attrs.frozen
class CopyOut:
    """Write `data` to user memory, `offset` bytes from where the ioctl's argument points.

    Send anything, or throw KernelError(EFAULT).

    Attributes:
        offset: where the bytes go.
        data: the bytes.
        result: when nothing is left to do but to return a result, that result; else None.  The ioctl need not be
            continued then, unless the access fails.
    """

    offset: int
    data: bytes
    result: int | None = None


#: A running ioctl: it yields accesses to the caller's memory and returns the result of the system call.
IoctlSteps: TypeAlias = Generator[CopyIn | CopyOut, bytes, int]
