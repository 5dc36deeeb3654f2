"""The bytes of a disk: as requests past the page cache access them, and as they are accessed through it."""

from __future__ import annotations

import errno
from typing import Protocol

from nvdimmfs.block.badblocks import SECTOR_SIZE, Badblocks, read_error
from nvdimmfs.block.queue_limits import HasQueue
from nvdimmfs.block.statistics import Statistics
from nvdimmfs.errors import KernelError, PartialTransferError
from nvdimmfs.kernfs import Bytes
from nvdimmfs.units import PAGE_SIZE, align_down, align_up, div_round_up


class Requested(HasQueue, Protocol):
    """A disk, as requests for its bytes see it.

    Attributes:
        name: as in /dev.
        data: its bytes, as the driver reads and writes them.
        badblocks: its bad sectors; None when the driver keeps no list.
        read_only: whether writes are refused with EPERM.
        loop_backed: whether a loop device of the host makes the requests.
    """

    name: str
    data: Bytes
    badblocks: Badblocks | None
    read_only: bool
    loop_backed: bool

    @property
    def counted(self) -> Statistics | None:
        """Where requests are counted at the moment; None while they are not."""

    def clear_badblocks(self, sector: int, count: int) -> None:
        """Clear bad sectors before they are written.  A disk that cannot clear them raises EIO."""


class DirectBytes:
    """The bytes of a disk as requests that bypass the page cache read and write them: whole sectors."""

    __slots__ = ("_disk",)

    def __init__(self, disk: Requested) -> None:
        self._disk = disk

    @property
    def size(self) -> int:
        return self._disk.data.size

    def read(self, offset: int, length: int) -> bytes:
        """EIO when the range includes a bad sector."""
        return bytes(self.view(offset, length))

    def view(self, offset: int, length: int) -> bytes | memoryview:
        """As `read`, but perhaps not a copy: it is valid until the next write."""
        if (counted := self._disk.counted) is not None:
            counted.count_read(length)
        return self._view(offset, length)

    def _view(self, offset: int, length: int) -> bytes | memoryview:
        if self._bad(offset, length):
            raise read_error(self._disk.name, offset, length)
        return self._disk.data.view(offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """A write clears bad sectors.  EPERM when the disk is read-only."""
        if self._disk.read_only and not self._disk.loop_backed:
            raise KernelError(errno.EPERM, f"{self._disk.name} is read-only")
        if (counted := self._disk.counted) is not None:
            counted.count_write(len(data))
        self._write(offset, data)

    def _write(self, offset: int, data: bytes, origin: int = 0) -> None:
        """Write, with pages that begin at `origin`."""
        if not self._disk.badblocks:
            self._disk.data.write(offset, data)
            return
        # The driver clears and writes page by page (pmem_submit_bio, drivers/nvdimm/pmem.c, Linux 6.1).
        left = memoryview(data)
        while left:
            piece = bytes(left[: PAGE_SIZE - (offset - origin) % PAGE_SIZE])
            if self._bad(offset, len(piece)):
                self._disk.clear_badblocks(offset // SECTOR_SIZE, len(piece) // SECTOR_SIZE)
            self._disk.data.write(offset, piece)
            offset, left = offset + len(piece), left[len(piece) :]

    def view_part(self, origin: int, _size: int, offset: int, length: int, /) -> bytes | memoryview:
        """Read a part of the disk, which begins at `origin`."""
        return self.view(origin + offset, length)

    def write_part(self, origin: int, _size: int, offset: int, data: bytes, /) -> None:
        """Write to a part of the disk."""
        self.write(origin + offset, data)

    def flush(self) -> None:
        if (counted := self._disk.counted) is not None and self._disk.settings.write_cache:
            counted.count_write(0)
        self._disk.data.flush()

    def _bad(self, offset: int, length: int) -> bool:
        bad = self._disk.badblocks
        if not bad:
            return False
        first = offset // SECTOR_SIZE
        return bad.overlaps(first, div_round_up(offset + length, SECTOR_SIZE) - first)


class DiskBytes(DirectBytes):
    """The bytes of a disk as user space reads and writes them through /dev/<name>: the page cache makes the requests.

    A disk behind a loop device of the host has that one's page cache, and gets its requests.
    """

    __slots__ = ()

    def view(self, offset: int, length: int) -> bytes | memoryview:
        """EIO when a page of the range includes a bad sector: the page cache reads whole pages.

        It is a PartialTransferError: read(2) returns the bytes of the pages before.
        """
        return self.view_part(0, self.size, offset, length)

    def view_part(self, origin: int, size: int, offset: int, length: int, /) -> bytes | memoryview:
        """Read through the page cache of a part of the disk, whose first page begins where it does.

        Args:
            origin: the offset of the part.
            size: its bytes.
            offset: the first byte to read, counted from the beginning of the part.
            length: how many.
        """
        if self._disk.loop_backed:
            return super().view(origin + offset, length)
        end = offset + length
        start, stop = align_down(offset, PAGE_SIZE), min(align_up(end, PAGE_SIZE), max(end, size))
        stop = min(stop, max(end, self.size - origin))  # BLKPG makes parts that are not all on the disk
        bad = self._first_bad_page(origin, start, stop)
        if bad is not None:
            raise _partial(read_error(self._disk.name, origin + bad, PAGE_SIZE), max(bad - offset, 0))
        self._count_blocks(stop - start, self._disk.limits.block_size_of(size))
        data = self._disk.data.view(origin + start, stop - start)
        return data if stop - start == length else data[offset - start : end - start]

    def write(self, offset: int, data: bytes) -> None:
        """A write clears bad sectors.  EPERM when the disk is read-only.

        The page cache writes whole blocks, page by page.  It first reads a block that is written only in part: EIO when
        that block has bad sectors, a PartialTransferError once the pages before are written.
        """
        self.write_part(0, self.size, offset, data)

    def write_part(self, origin: int, size: int, offset: int, data: bytes, /) -> None:
        """Write through the page cache of a part of the disk, whose size decides how large its blocks are.

        The arguments are those of `view_part`.
        """
        if self._disk.loop_backed:
            super().write(origin + offset, data)
            return
        if self._disk.read_only:
            raise KernelError(errno.EPERM, f"{self._disk.name} is read-only")
        block_size = self._disk.limits.block_size_of(size)
        first, end = align_down(offset, block_size), offset + len(data)
        block = self._view_blocks(origin + first, block_size, block_size) if offset > first else b""
        head = block[: offset - first]
        failure: PartialTransferError | None = None
        try:
            ends_in_it = block and end - first <= block_size  # a block is read once
            tail = block[end - first :] if ends_in_it else self._rest_of_block(origin, block_size, end)
        except KernelError as error:
            last_page = align_down(end, PAGE_SIZE)
            if last_page <= offset:
                raise
            data, tail = data[: last_page - offset], b""
            failure = _partial(error, len(data))
        blocks = b"".join((head, data, tail)) if head or tail else data
        self._write_blocks(origin, first, blocks, block_size)
        if failure:
            raise failure

    def _rest_of_block(self, origin: int, block_size: int, end: int) -> bytes | memoryview:
        """The rest of the block in which a write ends.  EIO."""
        within = end % block_size
        return self._view_blocks(origin + end - within, block_size, block_size)[within:] if within else b""

    def _write_blocks(self, origin: int, offset: int, data: bytes, block_size: int) -> None:
        """Write whole blocks, which are requests of their own."""
        if (counted := self._disk.counted) is not None:
            for _ in range(len(data) // block_size):
                counted.count_write(block_size)
        self._write(origin + offset, data, origin)

    def _first_bad_page(self, origin: int, start: int, stop: int) -> int | None:
        """The first page with a bad sector, if there is one.

        The driver looks up each page by itself (pmem_do_read).  In a list that is out of order, a search for a longer
        range can find what none for a page finds, and the other way round.
        """
        if not self._disk.badblocks:
            return None
        pages = range(start, stop, PAGE_SIZE)
        return next((page for page in pages if self._bad(origin + page, min(PAGE_SIZE, stop - page))), None)

    def _view_blocks(self, offset: int, length: int, block_size: int) -> bytes | memoryview:
        """Read blocks.  EIO."""
        self._count_blocks(length, block_size)
        return self._view(offset, length)

    def _count_blocks(self, length: int, block_size: int) -> None:
        """Count a read; whole pages do not count: the page cache asks the driver for each (bdev_read_page, 6.1)."""
        if block_size < PAGE_SIZE and (counted := self._disk.counted) is not None:
            counted.count_read(length)


def _partial(error: KernelError, done: int) -> PartialTransferError:
    return PartialTransferError(error.errno, error.reason, done)
