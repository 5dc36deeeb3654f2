"""Memory whose page never comes: what a process gives the kernel to keep it waiting.

A process may serve its own page faults (userfaultfd(2), or a file of a FUSE mount of its own) and answer them as late
as it likes; the kernel waits in the middle of the system call that touches the page, with the locks that it holds.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct

SIZE = 1 << 16

#: System calls of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl), and requests (include/uapi/linux/userfaultfd.h).
GETDENTS64 = 217
_USERFAULTFD = 323
_API = 0xC018AA3F
_REGISTER = 0xC020AA00
_ZEROPAGE = 0xC020AA04
_VERSION = 0xAA
_MESSAGE = 32
_MISSING = 1

libc = ctypes.CDLL(None, use_errno=True)


class StuckMemory:
    """Memory of which no page is present until `release`.

    The kernel's own accesses wait only if root made it (vm.unprivileged_userfaultfd), so make it first and then become
    another user; a forked child does not inherit it.
    """

    def __init__(self) -> None:
        self._faults = libc.syscall(_USERFAULTFD, os.O_CLOEXEC)
        if self._faults < 0:
            raise OSError(ctypes.get_errno(), "userfaultfd")
        fcntl.ioctl(self._faults, _API, struct.pack("QQQ", _VERSION, 0, 0))
        self._memory = mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        fcntl.ioctl(self._faults, _REGISTER, bytearray(struct.pack("QQQQ", self.address, SIZE, _MISSING, 0)))

    def wait_until_touched(self) -> None:
        """Return once the kernel waits for a page."""
        os.read(self._faults, _MESSAGE)

    def release(self) -> None:
        """Deliver the pages."""
        fcntl.ioctl(self._faults, _ZEROPAGE, bytearray(struct.pack("QQQQ", self.address, SIZE, 0, 0)))


def why_not() -> str | None:
    """The reason why there can be no such memory here; None when there can."""
    try:
        StuckMemory()
    except OSError as failure:
        return f"no userfaultfd(2) that the kernel's accesses wait for: {failure.strerror}"
    return None


def list_into(directory: int, memory: StuckMemory) -> int:
    """Call getdents64(2).  Returns the number of bytes."""
    return libc.syscall(GETDENTS64, directory, ctypes.c_void_p(memory.address), SIZE)
