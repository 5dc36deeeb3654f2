"""Files over the memory of a device, such as /dev/daxX.Y."""

from __future__ import annotations

import errno
from typing import Protocol

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs.binary_file import BinaryFile, Bytes


class MemoryBytes(Bytes, Protocol):
    """The memory of a device that is there only while a driver is bound."""

    def require_driver(self) -> None:
        """ENXIO while no driver is bound that offers the memory."""


class DeviceMemory(BinaryFile):
    """The memory of a device, which processes map.

    Once the device or its driver is gone, a fault in a mapping is SIGBUS; so a read is an error, unlike one of a disk
    that is gone.  What a mapping has changed before is still written.
    """

    __slots__ = ("_memory",)

    def __init__(self, name: str, permissions: int, memory: MemoryBytes) -> None:
        super().__init__(name, permissions, memory)
        self._memory = memory

    def require_available(self) -> None:
        """ENXIO when the device is gone, or has no driver."""
        if self.parent is None:
            raise KernelError(errno.ENXIO, f"{self.name} was removed")
        self._memory.require_driver()

    def revoke(self) -> None:
        """The driver is gone, or the size has changed: what the host has cached of it must not be used any more."""
        if self.parent is not None:
            self.parent.tree.revoked(self)
