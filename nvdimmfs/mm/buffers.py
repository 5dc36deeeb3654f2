"""Addresses of the kernel's test platform, behind which its module has buffers of its own instead of memory.

The drivers that are built for the test platform call functions of the module nfit_test_iomap in place of the kernel's
(tools/testing/nvdimm/test/iomap.c, Linux 6.1).  These keep a list of what drivers reserve in a buffer, and make no
struct pages.  So /proc/iomem and /proc/zoneinfo show nothing of it.
"""

from __future__ import annotations

import errno
from typing import TypeAlias

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.mm.memory import Memory


@attrs.define(eq=False)
class Buffer:
    """The buffer behind a range of addresses.

    Attributes:
        start, size: bytes.
    """

    start: int
    size: int
    _reserved: set[int] = attrs.field(factory=set, init=False)

    def request_region(self, start: int, size: int, name: str) -> None:
        """Reserve a part for one user; errors as `check_region`."""
        self.check_region(start, size, name)
        self._reserved.add(start)

    def check_region(self, start: int, size: int, name: str) -> None:
        """EBUSY for a part that goes beyond the buffer, or begins where a reserved one does."""
        if start + size > self.start + self.size or start in self._reserved:
            raise KernelError(errno.EBUSY, f"{name} cannot reserve {size:#x} bytes from {start:#x} on")

    def release_region(self, start: int, _size: int) -> None:
        """Release a part that `request_region` reserved."""
        self._reserved.remove(start)


#: What drivers reserve and map: physical memory, or a buffer.
DriverMemory: TypeAlias = Memory | Buffer
