"""What an ioctl asks of its caller's memory, step by step, so that whoever has that memory can answer."""

from __future__ import annotations

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
    """

    offset: int
    data: bytes
