"""The block translation table, a disk whose sectors are written whole or not at all (drivers/nvdimm/btt.c, 6.1)."""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Iterator
from uuid import UUID

import attrs

from nvdimmfs.drivers.btt_arena import Arena
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.btt import (
    ARENA_MAX_SIZE,
    ARENA_MIN_SIZE,
    BTT_1_1,
    DEFAULT_NFREE,
    ArenaLayout,
    BttInfoBlock,
    BttVersion,
    arena_is_valid,
    arena_layouts,
    sector_size_of,
)
from nvdimmfs.formats.info_block import INFO_BLOCK_SIZE, NULL_UUID
from nvdimmfs.media.base import Media
from nvdimmfs.nd.namespace_io import BadRanges, NamespaceIO
from nvdimmfs.units import PAGE_SIZE, div_round_up


@attrs.frozen(kw_only=True)
class BttConfig:
    """The configuration of a BTT.

    Attributes:
        uuid: the BTT's own; it is written to media, and not compared with a uuid found there.
        lbasize: bytes of a sector with its metadata (the attribute sector_size).
        parent_uuid: the namespace's; null for one without a label.
        version: by the namespace's claim class.
        read_only: the region's attribute.
        lanes: of the region (num_lanes), each of which needs a free block; 0 for a kernel that does not count them.
        arena_size: bytes of all arenas but the last.
    """

    uuid: UUID
    lbasize: int
    parent_uuid: UUID = NULL_UUID
    version: BttVersion = BTT_1_1
    read_only: bool = False
    lanes: int = DEFAULT_NFREE
    arena_size: int = ARENA_MAX_SIZE


class Btt:
    """A BTT's disk.

    If the process ends between two writes to the medium, or during one, each sector has either its old or its new
    contents, and the new contents if its write had returned.

    Reads and writes return EIO where the kernel's disk does.

    Attributes:
        sector_size: bytes of a sector, 512 or 4096.
        nlba: sectors.
        arenas: its arenas, in order.
        initial_offset: bytes of the namespace before the first arena.
        is_new: its metadata was written now, instead of being found.
    """

    def __init__(
        self, media: Media, arenas: list[Arena], sector_size: int, initial_offset: int, *, is_new: bool
    ) -> None:
        self.is_new = is_new
        self._media = media
        self.arenas = arenas
        self.initial_offset = initial_offset
        self._starts = [arena.layout.external_lba_start for arena in arenas]
        self.sector_size = sector_size
        self.nlba = sum(arena.layout.external_nlba for arena in arenas)

    @classmethod
    def attach(cls, media: Media, config: BttConfig, badblocks: BadRanges | None = None) -> Btt:
        """The disk of a namespace, with the errnos of a bind of nd_pmem (nvdimm_namespace_attach_btt).

        ENXIO when less than 16 MiB follow the initial offset, ENOMEM for any other failure.
        """
        if media.size - config.version.initial_offset < ARENA_MIN_SIZE:
            raise KernelError(errno.ENXIO, f"{media.size} bytes are too few for a BTT")
        try:
            return cls.open(media, config, badblocks)
        except KernelError as error:
            raise KernelError(errno.ENOMEM, f"no BTT: {error}") from error

    @classmethod
    def open(cls, media: Media, config: BttConfig, badblocks: BadRanges | None = None) -> Btt:
        """Use the layout on media, or create one if the first info block is not valid (btt_init).

        A failure has the errno of the kernel's inner function: ENODEV, ENXIO, EIO, EFAULT; ENOMEM when a layout is
        missing in a read-only region.
        """
        namespace = NamespaceIO(media, config.version.initial_offset, badblocks)
        arenas = _discover(namespace, config)
        is_new = arenas is None
        if is_new and config.read_only:
            raise KernelError(errno.ENOMEM, "the region is read-only and holds no BTT")
        if arenas is None:
            arenas = _create(namespace, config)
        return cls(media, arenas, sector_size_of(config.lbasize), config.version.initial_offset, is_new=is_new)

    @property
    def size(self) -> int:
        """Capacity in bytes."""
        return self.nlba * self.sector_size

    @property
    def layouts(self) -> list[ArenaLayout]:
        """The layouts of the arenas."""
        return [arena.layout for arena in self.arenas]

    def read_sectors(self, lba: int, count: int) -> bytes:
        """The contents of `count` sectors, of which each page is one segment of a request.

        The kernel leaves a segment at the first sector whose map entry has the zero flag, and reads no more of it
        (btt_read_pg): what follows in the page is what the page had before, which is zeros.
        """
        try:
            return b"".join(self._segments(lba, count))
        except KernelError as error:
            raise KernelError(errno.EIO, f"reading {count} sectors at {lba}: {error}") from error

    def write_sectors(self, lba: int, data: bytes | memoryview) -> None:
        """Replace whole sectors, in order; an error leaves those before it written.  ValueError for part of one.

        What this writes to a medium that outlives the process survives its end together or not at all.  A failure of
        the host (OSError) writes nothing there.
        """
        count, rest = divmod(len(data), self.sector_size)
        if rest:
            raise ValueError(f"{len(data)} bytes are no multiple of {self.sector_size}")
        view = memoryview(data)
        try:
            with self._media.transaction():
                for arena, premap, part in self._parts(lba, count):
                    arena.write(premap, view[: part * self.sector_size])
                    view = view[part * self.sector_size :]
        except OSError:
            for arena in self.arenas:
                arena.forget_free_block()
            raise
        except KernelError as error:
            raise KernelError(errno.EIO, f"writing {count} sectors at {lba}: {error}") from error

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes; ValueError outside the disk."""
        self._require_range(offset, length)
        first, skip = divmod(offset, self.sector_size)
        data = self.read_sectors(first, self._sectors(skip + length))
        return data if len(data) == length else data[skip : skip + length]

    def view(self, offset: int, length: int) -> bytes:
        """As `read`."""
        return self.read(offset, length)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Replace bytes; partly covered sectors are read first.  ValueError outside the disk."""
        self._require_range(offset, len(data))
        if not data:
            return
        first, skip = divmod(offset, self.sector_size)
        count = self._sectors(skip + len(data))
        after = count * self.sector_size - skip - len(data)
        head = self.read_sectors(first, 1)[:skip] if skip else b""
        tail = self.read_sectors(first + count - 1, 1)[-after:] if after else b""
        self.write_sectors(first, b"".join((head, data, tail)) if skip or after else data)

    def flush(self) -> None:
        """Return when all written data would survive a power loss."""
        self._media.flush()

    def _parts(self, lba: int, count: int) -> Iterator[tuple[Arena, int, int]]:
        """The arenas under a range of sectors: arena, first sector within it, how many.  EIO past the last."""
        while count:
            if not 0 <= lba < self.nlba:
                raise KernelError(errno.EIO, f"the disk has no sector {lba}")
            arena = self.arenas[bisect_right(self._starts, lba) - 1]
            premap = lba - arena.layout.external_lba_start
            part = min(count, arena.layout.external_nlba - premap)
            yield arena, premap, part
            lba += part
            count -= part

    def _segments(self, lba: int, count: int) -> Iterator[bytes]:
        """The contents of sectors, in pieces."""
        first, end = lba, lba + count
        while lba < end:
            for arena, premap, part in self._parts(lba, end - lba):
                data, is_cut = arena.read(premap, part)
                yield data
                lba += len(data) // self.sector_size
                if is_cut:
                    break
            left_of_page = min(-(lba - first) % (PAGE_SIZE // self.sector_size), end - lba)
            yield bytes(left_of_page * self.sector_size)
            lba += left_of_page

    def _sectors(self, length: int) -> int:
        """The number of sectors that `length` bytes from the start of a sector touch."""
        return div_round_up(length, self.sector_size)

    def _require_range(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{length} bytes at {offset} do not lie on a disk of {self.size} bytes")


def _discover(namespace: NamespaceIO, config: BttConfig) -> list[Arena] | None:
    """The arenas on media, with recovered logs; None without a BTT (discover_arenas).

    ENODEV when an arena after the first is invalid, or holds fewer free blocks than the region has lanes.
    """
    sector_size = sector_size_of(config.lbasize)
    arenas: list[Arena] = []
    infooff = external_lba_start = 0
    remaining = namespace.media.size - config.version.initial_offset
    # An arena that is larger than the remaining space makes the rest negative; the next read returns EFAULT.
    while remaining:
        block = namespace.read(infooff, INFO_BLOCK_SIZE)
        if not arena_is_valid(block, config.parent_uuid):
            if not arenas:
                return None
            raise KernelError(errno.ENODEV, f"corrupt metadata in arena {len(arenas)}")
        layout = ArenaLayout.from_info_block(BttInfoBlock.from_bytes(block), infooff, external_lba_start)
        if layout.nfree < config.lanes:
            raise KernelError(errno.ENODEV, f"{layout.nfree} free blocks are too few for {config.lanes} lanes")
        arena = Arena(layout, namespace, sector_size)
        arena.recover()
        arenas.append(arena)
        if not layout.nextoff:
            break
        remaining -= layout.size
        infooff += layout.size
        external_lba_start += layout.external_nlba
    return arenas


def _create(namespace: NamespaceIO, config: BttConfig) -> list[Arena]:
    """Write the metadata of new arenas in their order, as Linux does (create_arenas, btt_meta_init).

    If this is interrupted after the first arena, the namespace holds neither a BTT nor is it new: the next attempt
    returns ENODEV, as on Linux.
    """
    rawsize = namespace.media.size - config.version.initial_offset
    sector_size = sector_size_of(config.lbasize)
    layouts = arena_layouts(rawsize, config.lbasize, config.arena_size, config.version)
    arenas = [Arena(layout, namespace, sector_size) for layout in layouts]
    for arena in arenas:
        arena.write_layout(config.uuid, config.parent_uuid)
    return arenas
