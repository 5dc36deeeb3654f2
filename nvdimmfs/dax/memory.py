"""The memory of a dax device, and which parts of it can be mapped."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Protocol

from nvdimmfs.dax.region import DaxRange, DaxRegion
from nvdimmfs.errors import KernelError


class HasMemory(Protocol):
    """A dax device.

    Attributes:
        name: its name.
        region: the region that it is part of.
        ranges: the ranges that it consists of, in order.
        align: the alignment of its mappings, bytes.
        alive: whether device_dax is bound.
    """

    name: str
    region: DaxRegion
    ranges: list[DaxRange]
    align: int
    alive: bool

    @property
    def size(self) -> int:
        """Bytes."""


class DevDaxBytes:
    """The memory as bytes.  In the kernel it can only be mapped; in a mount it can also be read and written.

    A write is accepted without a driver, too: what a process changed in a mapping arrives after the driver is gone.
    """

    def __init__(self, device: HasMemory) -> None:
        self._device = device

    @property
    def size(self) -> int:
        return self._device.size

    def require_driver(self) -> None:
        """ENXIO while device_dax is not bound."""
        require_device_dax(self._device)

    def read(self, offset: int, length: int) -> bytes:
        return b"".join(self._device.region.media.read(where, size) for where, size in self._pieces(offset, length))

    def view(self, offset: int, length: int) -> bytes:
        """As `read`."""
        return self.read(offset, length)

    def write(self, offset: int, data: bytes) -> None:
        for where, size in self._pieces(offset, len(data)):
            self._device.region.media.write(where, data[:size])
            data = data[size:]

    def flush(self) -> None:
        self._device.region.media.flush()

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Offset in the region and length of each piece of a section of the device."""
        for each in self._device.ranges:
            size = max(0, min(each.size - offset, length))
            if size:
                yield each.start - self._device.region.start + offset, size
            offset, length = max(0, offset - each.size), length - size


def require_device_dax(device: HasMemory) -> None:
    """ENXIO while device_dax is not bound (dax_alive, drivers/dax/super.c, Linux 6.1)."""
    if not device.alive:
        raise KernelError(errno.ENXIO, f"{device.name} is not bound to device_dax")


def check_mapping(device: HasMemory, start: int, length: int, *, shared: bool) -> None:
    """Refuse a mapping that the device does not support (check_vma, drivers/dax/device.c, Linux 6.1).

    ENXIO while device_dax is not bound, EINVAL for a private mapping, and unless its start and length are multiples of
    the device's alignment.  A mapping may begin and end beyond the end of the device: a fault there is SIGBUS.

    Args:
        device: the device.
        start: the address at which it would begin.
        length: bytes, a multiple of the page size.
        shared: whether it is one of MAP_SHARED.
    """
    require_device_dax(device)
    if not shared:
        raise KernelError(errno.EINVAL, f"{device.name}: attempted private mapping")
    if start % device.align or length % device.align:
        raise KernelError(
            errno.EINVAL,
            f"{device.name}: unaligned mapping ({start:#x} - {start + length:#x}, alignment {device.align:#x})",
        )
