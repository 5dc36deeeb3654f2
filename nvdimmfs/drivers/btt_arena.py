"""One arena of a block translation table: its log, its map and its data blocks (drivers/nvdimm/btt.c, Linux 6.1).

A write never touches the block that currently holds the sector.  It fills a free block, records the move in the log,
and then changes the four bytes of the map entry; the previous block of the sector becomes the free block.  At whatever
point this is interrupted, the map names either the old block or the new one, and the log identifies the free block.
"""

from __future__ import annotations

import errno
import itertools
import struct
from collections.abc import Iterator
from uuid import UUID

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.btt import (
    INFO_FLAG_ERROR,
    LOG_ENTRY_SIZE,
    LOG_GROUP_SIZE,
    MAP_ENTRY_SIZE,
    MAP_ERROR,
    MAP_LBA_MASK,
    MAP_NORMAL,
    ArenaLayout,
    LogEntry,
    MapEntry,
    initial_log,
    log_slots,
    newer_entry,
)
from nvdimmfs.formats.info_block import next_seq
from nvdimmfs.nd.namespace_io import NamespaceIO
from nvdimmfs.units import U32_MASK

#: The log group of all writes: the first.  The kernel uses the CPU number modulo the lanes; this machine has one CPU.
LANE = 0

#: Bytes that a power loss never tears: half a log entry (__btt_log_write), which also covers a map entry.
_LOG_HALF = LOG_ENTRY_SIZE // 2

_MAP_ENTRY = struct.Struct("<I")


@attrs.frozen
class FreeBlock:
    """The next write of a lane (struct free_entry).

    Attributes:
        block: the number of the data block that no sector uses.
        sub: the one of the lane's two log entries that is overwritten next.
        seq: the sequence number of that entry.
        has_error: the block could not be read and must be cleared before it is used.
    """

    block: int
    sub: int
    seq: int
    has_error: bool = False


class Arena:
    """An arena in use.  It raises KernelErrors with the errno of the kernel's inner function.

    Attributes:
        layout: the offsets of its parts.
        log_index: the two slots of a log group that are in use.
    """

    def __init__(self, layout: ArenaLayout, namespace: NamespaceIO, sector_size: int) -> None:
        self.layout = layout
        self._namespace = namespace
        self._sector_size = sector_size
        self.log_index = (0, 1)
        self._free: FreeBlock | None = None

    def write_layout(self, uuid: UUID, parent_uuid: UUID) -> None:
        """Write the arena to media: map, log, info block copy, info block, in this order (btt_arena_write_layout)."""
        layout = self.layout
        self._namespace.zero(layout.mapoff, layout.logoff - layout.mapoff)
        self._namespace.zero(layout.logoff, layout.info2off - layout.logoff)
        self._namespace.write(layout.logoff, initial_log(layout.external_nlba, layout.nfree))
        block = layout.to_info_block(uuid, parent_uuid).to_bytes()
        self._namespace.write(layout.info2off, block)
        self._namespace.write(layout.infooff, block)
        self._free = self._recover(self._read_log_group())

    def recover(self) -> None:
        """Recover an arena that was found on media: complete the writes that its log records as unfinished.

        ENXIO for an unknown log layout (log_set_indices), EIO for a corrupt log (btt_freelist_init), EFAULT.
        """
        layout = self.layout
        log = self._namespace.read(layout.logoff, layout.nfree * LOG_GROUP_SIZE)
        self.log_index = log_slots(log)
        self._free = self._recover(log[:LOG_GROUP_SIZE])
        fresh = initial_log(layout.external_nlba, layout.nfree)
        if log[LOG_GROUP_SIZE:] == fresh[LOG_GROUP_SIZE:]:
            return  # No other program has written to it.
        for start in range(LOG_GROUP_SIZE, len(log), LOG_GROUP_SIZE):
            group = log[start : start + LOG_GROUP_SIZE]
            if group != fresh[start : start + LOG_GROUP_SIZE]:
                self._recover(group)

    def forget_free_block(self) -> None:
        """The host refused a write: only the log and the map show which block is free."""
        self._free = None

    def read(self, premap: int, count: int) -> tuple[bytes, bool]:
        """The contents of `count` sectors from `premap` on, both counted within the arena (btt_read_pg).

        A sector with the zero flag is the last that is read; the second value is whether there was one.
        """
        pieces: list[bytes] = []
        for first, entry, length in _runs(self._read_map(premap, count), premap):
            if entry.error:
                raise KernelError(errno.EIO, f"sector {first} of the arena is marked as unreadable")
            if entry.zero:
                pieces.append(bytes(self._sector_size))
                return b"".join(pieces), True
            pieces.append(self._read_blocks(first, entry.postmap, length))
        return b"".join(pieces), False

    def write(self, premap: int, data: memoryview) -> None:
        """Replace whole sectors from `premap` on, one after the other (btt_write_pg)."""
        size = self._sector_size
        count = len(data) // size
        if self._free is None:
            self._free = self._recover(self._read_log_group())  # This may change the map.
        # Map entries are read in one go, unless one of them may be unreadable.
        step = 1 if self._namespace.badblocks else count
        for first in range(0, count, step):
            for index, raw in enumerate(self._read_map(premap + first, step), first):
                self._write_sector(premap + index, raw, data[index * size : (index + 1) * size])

    def _write_sector(self, premap: int, raw: int, data: memoryview) -> None:
        """Replace the sector `premap`, whose map entry is `raw`."""
        if self.layout.flags & INFO_FLAG_ERROR:
            raise KernelError(errno.EIO, "the arena's info block has the error flag")
        free = self._usable_free_block()
        self._require_block(free.block)
        self._namespace.write(self._block_offset(free.block), data, atomic=True)

        old = MapEntry.decode(raw, premap)
        self._require_block(old.postmap)
        old_map = old.postmap | MAP_ERROR if old.error else old.postmap
        self._write_log(free.sub, LogEntry(premap, old_map, free.block, free.seq))
        # Unlike `next_seq`, this turns 0 into 1 (btt_flog_write).
        self._free = FreeBlock(old.postmap, 1 - free.sub, free.seq % 3 + 1, old.error)
        self._write_map(premap, MapEntry(free.block), atomic=True)
        if old.error:
            self._clear_free_block(self._free)

    def _usable_free_block(self) -> FreeBlock:
        """The lane's free block, cleared first when it is bad.

        Linux retries as long as the block stays bad; here, one attempt is made, then EIO.
        """
        free = self._free
        assert free is not None, "write() recovers the lane first"
        if not self._is_bad(free):
            return free
        free = self._clear_free_block(free)
        if self._is_bad(free):
            raise KernelError(errno.EIO, f"block {free.block} stays bad")
        return free

    def _is_bad(self, free: FreeBlock) -> bool:
        return free.has_error or self._namespace.is_bad(self._block_offset(free.block), self.layout.internal_lbasize)

    def _clear_free_block(self, free: FreeBlock) -> FreeBlock:
        """Overwrite a bad free block with zeros, which clears the error (arena_clear_freelist_error)."""
        self._namespace.zero(self._block_offset(free.block), self._sector_size)
        self._free = attrs.evolve(free, has_error=False)
        return self._free

    def _recover(self, group: bytes) -> FreeBlock:
        """Complete a lane's last write and return its next one (btt_freelist_init)."""
        entries = [LogEntry.from_bytes(group[slot * LOG_ENTRY_SIZE :][:LOG_ENTRY_SIZE]) for slot in self.log_index]
        newer = newer_entry(entries[0].seq, entries[1].seq)
        entry = entries[newer]
        old, new = entry.old_map & MAP_LBA_MASK, entry.new_map & MAP_LBA_MASK
        free = FreeBlock(old, 1 - newer, next_seq(entry.seq), entry.old_map & MAP_NORMAL == MAP_ERROR)
        if free.has_error:
            free = self._try_to_clear(free)
        if old == new:
            return free  # The lane was never used.
        (raw,) = self._read_map(entry.lba, 1)
        if MapEntry.decode(raw, entry.lba).postmap == old:
            self._write_map(entry.lba, MapEntry(new))
        return free

    def _try_to_clear(self, free: FreeBlock) -> FreeBlock:
        try:
            self._namespace.zero(self._block_offset(free.block), self._sector_size)
        except KernelError:
            return free  # The next write that uses the block retries.
        return attrs.evolve(free, has_error=False)

    def _read_blocks(self, premap: int, postmap: int, count: int) -> bytes:
        """The data of consecutive blocks, `premap` being the first one's sector.

        EIO when a block cannot be read, which is first recorded in the map.
        """
        size, distance = self._sector_size, self.layout.internal_lbasize
        try:
            data = self._namespace.read(self._block_offset(postmap), (count - 1) * distance + size)
        except KernelError as error:
            if count == 1:
                self._write_map(premap, MapEntry(postmap, error=True), atomic=True)
                raise KernelError(errno.EIO, f"sector {premap} of the arena cannot be read") from error
            return b"".join(self._read_blocks(premap + i, postmap + i, 1) for i in range(count))
        if distance == size:
            return data
        # Blocks smaller than sectors overlap: the BTT on media was created with another sector size.
        return b"".join(data[start : start + size] for start in range(0, count * distance, distance))

    def _read_map(self, premap: int, count: int) -> tuple[int, ...]:
        """The raw map entries of `count` sectors."""
        return struct.unpack(f"<{count}I", self._namespace.read(self._map_offset(premap), count * MAP_ENTRY_SIZE))

    def _write_map(self, premap: int, entry: MapEntry, *, atomic: bool = False) -> None:
        self._namespace.write(self._map_offset(premap), _MAP_ENTRY.pack(entry.encode()), atomic=atomic)

    def _read_log_group(self) -> bytes:
        return self._namespace.read(self.layout.logoff + LANE * LOG_GROUP_SIZE, LOG_GROUP_SIZE)

    def _write_log(self, sub: int, entry: LogEntry) -> None:
        """Write an entry of the lane in two halves, the one with the sequence number last (__btt_log_write)."""
        offset = self.layout.logoff + LANE * LOG_GROUP_SIZE + self.log_index[sub] * LOG_ENTRY_SIZE
        data = entry.to_bytes()
        self._namespace.write(offset, data[:_LOG_HALF], atomic=True)
        self._namespace.write(offset + _LOG_HALF, data[_LOG_HALF:], atomic=True)

    def _require_block(self, block: int) -> None:
        if block >= self.layout.internal_nlba:
            raise KernelError(errno.EIO, f"the arena has no block {block}")

    def _map_offset(self, premap: int) -> int:
        # The kernel multiplies in 32 bits, which a corrupt log's sector number can overflow.
        return self.layout.mapoff + (premap * MAP_ENTRY_SIZE & U32_MASK)

    def _block_offset(self, block: int) -> int:
        return self.layout.dataoff + block * self.layout.internal_lbasize


def _runs(raws: tuple[int, ...], premap: int) -> Iterator[tuple[int, MapEntry, int]]:
    """Runs of sectors that can be read together: first sector, its map entry, number of sectors."""
    entries = (MapEntry.decode(raw, lba) for lba, raw in enumerate(raws, premap))
    numbered = enumerate(entries)
    for _, run in itertools.groupby(numbered, lambda item: (item[1].postmap - item[0], item[1].zero, item[1].error)):
        (index, entry), *rest = run
        yield premap + index, entry, 1 + len(rest)
