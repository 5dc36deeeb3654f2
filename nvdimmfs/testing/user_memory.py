"""The memory of a process that calls ioctl(2): a buffer at a known address, and nothing around it."""

from __future__ import annotations

import errno
from typing import Final

import attrs

from nvdimmfs.core.user_memory import CopyIn, CopyOut, IoctlSteps
from nvdimmfs.errors import KernelError

#: Where the buffer passed to `Engine.ioctl` is in the memory of the imagined process, for arguments that contain
#: addresses themselves, such as that of BLKPG.
ARGUMENT_ADDRESS: Final = 0x1000_0000


@attrs.frozen
class UserMemory:
    """The memory that an ioctl can reach.

    Attributes:
        data: the bytes from where the argument points; every access beyond them is EFAULT.
        constant: whether writes are EFAULT.
    """

    data: bytearray
    constant: bool = False

    def run(self, steps: IoctlSteps) -> int:
        """Carry out the accesses of an ioctl to its end, and return its result.  KernelError."""
        try:
            step = next(steps)
            while True:
                step = self._access(steps, step)
        except StopIteration as end:
            return int(end.value)

    def _access(self, steps: IoctlSteps, step: CopyIn | CopyOut) -> CopyIn | CopyOut:
        length = step.length if isinstance(step, CopyIn) else len(step.data)
        end = step.offset + length
        if step.offset < 0 or end > len(self.data) or (self.constant and isinstance(step, CopyOut)):
            return steps.throw(KernelError(errno.EFAULT, f"{length} bytes at offset {step.offset} of the argument"))
        if isinstance(step, CopyIn):
            return steps.send(bytes(self.data[step.offset : end]))
        self.data[step.offset : end] = step.data
        return steps.send(b"")
