"""The memory of a process that calls ioctl(2): a buffer at a known address, and nothing around it."""

from __future__ import annotations

import errno
from typing import Final

import attrs

from nvdimmfs.core.user_memory import CopyIn, CopyOut, IoctlSteps
from nvdimmfs.errors import KernelError

#: Where the buffer is in the memory of an imagined process, for arguments that contain addresses themselves, such as
#: that of BLKPG.
ARGUMENT_ADDRESS: Final = 0x1000_0000


@attrs.frozen
class UserMemory:
    """The memory that an ioctl can reach.

    Attributes:
        data: the bytes that are mapped; every access beyond them is EFAULT.
        constant: whether writes are EFAULT.
        in_front: how many of them are in front of where the argument points.
    """

    data: bytearray
    constant: bool = False
    in_front: int = 0

    def run(self, steps: IoctlSteps) -> int:
        """Carry out the accesses of an ioctl to its end, and return its result.  KernelError."""
        try:
            step = next(steps)
            while True:
                step = self._access(steps, step)
        except StopIteration as end:
            return int(end.value)

    def read(self, offset: int, length: int) -> tuple[bytes, bytes]:
        """Bytes that the kernel copies in, and the rest of the memory.  OSError (EFAULT) beyond it."""
        start = self._place(offset, length)
        return bytes(self.data[start : start + length]), bytes(self.data[start + length :])

    def write(self, offset: int, data: bytes) -> None:
        """Bytes that the kernel copies out.  OSError (EFAULT) beyond the memory."""
        start = self._place(offset, len(data))
        if self.constant:
            raise OSError(errno.EFAULT, f"{len(data)} bytes at offset {offset} of the argument, which is constant")
        self.data[start : start + len(data)] = data

    def _place(self, offset: int, length: int) -> int:
        """Where bytes at an offset of the argument begin in `data`.  OSError (EFAULT) beyond it."""
        start = self.in_front + offset
        if start < 0 or start + length > len(self.data):
            raise OSError(errno.EFAULT, f"{length} bytes at offset {offset} of the argument")
        return start

    def _access(self, steps: IoctlSteps, step: CopyIn | CopyOut) -> CopyIn | CopyOut:
        copied = b""
        try:
            if isinstance(step, CopyIn):
                copied, _ = self.read(step.offset, step.length)
            else:
                self.write(step.offset, step.data)
        except OSError as fault:
            return steps.throw(KernelError(errno.EFAULT, str(fault.strerror)))
        return steps.send(copied)
