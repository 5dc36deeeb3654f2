"""Reads and writes of a namespace's bytes by its drivers, with bad sectors (rw_bytes, drivers/nvdimm/claim.c, 6.1)."""

from __future__ import annotations

import errno
from typing import Protocol

import attrs

from nvdimmfs.block.badblocks import SECTOR_SIZE, new_badblocks, read_error
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.info_block import INFO_BLOCK_SIZE
from nvdimmfs.media.base import Media
from nvdimmfs.nd.clear_error import clear_poison
from nvdimmfs.nd.namespace import NamespaceDevice
from nvdimmfs.units import div_round_up


class BadRanges(Protocol):
    """The ranges of a namespace that cannot be read, in bytes from the namespace's start."""

    def __bool__(self) -> bool:
        """Whether there are any."""

    def overlaps(self, offset: int, length: int) -> bool:
        """Whether a 512-byte sector in the range is bad."""

    def clear(self, offset: int, length: int) -> bool:
        """Try to clear a range, in multiples of 512; returns whether the kernel considers it good."""


class NamespaceBadblocks:
    """The known bad sectors of a namespace since a driver enabled it (bb of struct nd_namespace_io)."""

    def __init__(self, namespace: NamespaceDevice) -> None:
        self._bus = namespace.region.parent
        self._start, self._end = namespace.start, namespace.end
        self._sectors = new_badblocks(namespace.system.kernel)
        self.populate()

    def __bool__(self) -> bool:
        return bool(self._sectors)

    def populate(self) -> None:
        """Add the bad ranges that the bus knows."""
        self._bus.badrange.populate(self._sectors, self._start, self._end)

    def overlaps(self, offset: int, length: int) -> bool:
        first = offset // SECTOR_SIZE
        return self._sectors.overlaps(first, div_round_up(offset + length, SECTOR_SIZE) - first)

    def clear(self, offset: int, length: int) -> bool:
        """Have the platform clear the range.

        If the platform refuses, the range stays bad, but the kernel does not notice: it compares a negative number of
        bytes as an unsigned one (nsio_rw_bytes).
        """
        try:
            cleared = clear_poison(self._bus, self._start + offset, length)
        except KernelError:
            return True
        self._sectors.clear(offset // SECTOR_SIZE, cleared // SECTOR_SIZE)
        return cleared >= length


@attrs.frozen
class NamespaceIO:
    """The bytes of a namespace, as its drivers see them.

    Attributes:
        media: the namespace.
        initial_offset: added to the offsets of the driver, bytes.
        badblocks: the bad ranges; None to check none.
    """

    media: Media
    initial_offset: int = 0
    badblocks: BadRanges | None = None

    def is_bad(self, offset: int, length: int) -> bool:
        """Whether a known bad sector lies in the range."""
        return bool(self.badblocks) and self._badblocks.overlaps(self.initial_offset + offset, length)

    def read(self, offset: int, length: int) -> bytes:
        """EFAULT outside the namespace, EIO when a bad sector is touched."""
        self._require_range(offset, length)
        if self.is_bad(offset, length):
            raise read_error("the namespace", offset, length)
        return self.media.read(self.initial_offset + offset, length)

    def write(self, offset: int, data: bytes | memoryview, *, atomic: bool = False) -> None:
        """Errors as `read`; a bad range is cleared first, unless `atomic`.  The bytes are written in any case."""
        self._require_range(offset, len(data))
        good = self._make_good(offset, len(data), atomic=atomic)
        self.media.write(self.initial_offset + offset, data)
        if not good:
            raise KernelError(errno.EIO, f"{len(data)} bytes at {offset} stay bad")

    def zero(self, offset: int, length: int) -> None:
        """Write zeros, as `write`."""
        self._require_range(offset, length)
        good = self._make_good(offset, length, atomic=False)
        self.media.zero(self.initial_offset + offset, length)
        if not good:
            raise KernelError(errno.EIO, f"{length} bytes at {offset} stay bad")

    @property
    def _badblocks(self) -> BadRanges:
        assert self.badblocks is not None, "only asked for when there are any"
        return self.badblocks

    def _require_range(self, offset: int, length: int) -> None:
        if self.initial_offset + offset + length > self.media.size:
            raise KernelError(errno.EFAULT, f"{length} bytes at {offset} are outside the namespace")

    def _make_good(self, offset: int, length: int, *, atomic: bool) -> bool:
        if not self.is_bad(offset, length):
            return True
        start = self.initial_offset + offset
        if atomic or start % SECTOR_SIZE or length % SECTOR_SIZE:
            return False
        return self._badblocks.clear(start, length)


def open_namespace_io(namespace: NamespaceDevice) -> NamespaceIO:
    """The bytes of a namespace, for a driver that enables it (devm_nsio_enable)."""
    return NamespaceIO(namespace.media, badblocks=NamespaceBadblocks(namespace))


def read_info_block(namespace: NamespaceDevice, offset: int) -> bytes:
    """The bytes at the place of an info block.  ENXIO when one of their sectors is bad."""
    try:
        return open_namespace_io(namespace).read(offset, INFO_BLOCK_SIZE)
    except KernelError as refusal:
        raise KernelError(errno.ENXIO, f"{namespace.name}: no info block can be read: {refusal}") from refusal
