"""The layout of a block translation table on media (drivers/nvdimm/btt.h, Linux 6.1).

A namespace is cut into arenas of at most 512 GiB.  Each holds an info block, the data blocks, a map from sector to
block, a log of the writes in progress, and a copy of the info block, in this order.
"""

from __future__ import annotations

import errno
import functools
import operator
import struct
from collections.abc import Iterator
from uuid import UUID

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.info_block import INFO_BLOCK_SIZE, NULL_UUID, checksum_ok, require_block, seal
from nvdimmfs.units import U32_MASK, align_up

#: Signature of the info block, 16 bytes (BTT_SIG).
BTT_SIGNATURE = b"BTT_ARENA_INFO\0\0"

#: An arena's size in bytes, least and most (ARENA_MIN_SIZE, ARENA_MAX_SIZE).
ARENA_MIN_SIZE = 1 << 24
ARENA_MAX_SIZE = 1 << 39

#: The parts of an arena start at multiples of this many bytes (BTT_PG_SIZE).
BTT_PAGE_SIZE = 4096

#: Data blocks are a multiple of this many bytes apart (INT_LBASIZE_ALIGNMENT, drivers/nvdimm/nd.h).
INTERNAL_LBASIZE_ALIGNMENT = 64

#: Bytes of a sector with its metadata, which are the bytes beyond 512 or 4096 (btt_lbasize_supported,
#: drivers/nvdimm/btt_devs.c).
LBASIZES = (512, 520, 528, 4096, 4104, 4160, 4224)

#: Blocks reserved for writes in progress, one for each lane (BTT_DEFAULT_NFREE; ND_MAX_LANES in drivers/nvdimm/nd.h).
DEFAULT_NFREE = 256

#: Bytes of a map entry (MAP_ENT_SIZE), of a log entry and of a lane's log group (struct log_entry, struct log_group).
MAP_ENTRY_SIZE = 4
LOG_ENTRY_SIZE = 16
LOG_GROUP_SIZE = 64

#: Bits of a map entry (MAP_TRIM_MASK, MAP_ERR_MASK); both together mean a normal entry (MAP_ENT_NORMAL).
MAP_ZERO = 1 << 31
MAP_ERROR = 1 << 30
MAP_NORMAL = MAP_ZERO | MAP_ERROR

#: The block number in a map entry or in a log entry's maps (MAP_LBA_MASK).
MAP_LBA_MASK = MAP_ERROR - 1

#: Bit of the info block's flags: the arena takes no more writes (IB_FLAG_ERROR).
INFO_FLAG_ERROR = 1

#: The first sequence number of a log entry (LOG_SEQ_INIT).
LOG_SEQ_INIT = 1

_INFO = struct.Struct("<16s16s16sIHHIIIIIIQQQQQ")
_LOG_ENTRY = struct.Struct("<4I")


@attrs.frozen
class BttVersion:
    """A version of the format, and where in a namespace it starts (nd_btt_version, drivers/nvdimm/btt_devs.c).

    Attributes:
        major, minor: as in the info block.
        initial_offset: bytes from the start of the namespace to the first arena.
    """

    major: int
    minor: int
    initial_offset: int


#: Every namespace whose claim class is not BTT2.
BTT_1_1 = BttVersion(1, 1, 4096)

#: Claim class BTT2.
BTT_2_0 = BttVersion(2, 0, 0)


@attrs.frozen(kw_only=True)
class BttInfoBlock:
    """The fields of an arena's info block as they are on media; offsets and sizes in bytes, from the arena's start.

    Attributes:
        signature: BTT_SIGNATURE.
        uuid: the BTT's own.
        parent_uuid: the namespace's; null fits any namespace.
        flags: 0, or INFO_FLAG_ERROR.
        version_major, version_minor: as in `BttVersion`.
        external_lbasize: bytes of a sector and the metadata that goes with it.
        external_nlba: sectors that the arena offers.
        internal_lbasize: bytes from one data block to the next.
        internal_nlba: data blocks, the free ones included.
        nfree: data blocks reserved for writes, and groups in the log.
        infosize: 4096.
        nextoff: the next arena, or 0 in the last one.
        dataoff, mapoff, logoff, info2off: the other parts of the arena.
    """

    signature: bytes = BTT_SIGNATURE
    uuid: UUID
    parent_uuid: UUID = NULL_UUID
    flags: int = 0
    version_major: int = BTT_1_1.major
    version_minor: int = BTT_1_1.minor
    external_lbasize: int
    external_nlba: int
    internal_lbasize: int
    internal_nlba: int
    nfree: int = DEFAULT_NFREE
    infosize: int = INFO_BLOCK_SIZE
    nextoff: int = 0
    dataoff: int
    mapoff: int
    logoff: int
    info2off: int

    def to_bytes(self) -> bytes:
        """The 4096 bytes of the block, checksum included."""
        return seal(
            _INFO.pack(
                self.signature,
                self.uuid.bytes,
                self.parent_uuid.bytes,
                self.flags,
                self.version_major,
                self.version_minor,
                self.external_lbasize,
                self.external_nlba,
                self.internal_lbasize,
                self.internal_nlba,
                self.nfree,
                self.infosize,
                self.nextoff,
                self.dataoff,
                self.mapoff,
                self.logoff,
                self.info2off,
            )
        )

    @classmethod
    def from_bytes(cls, block: bytes) -> BttInfoBlock:
        """The fields of 4096 bytes, not validated."""
        require_block(block)
        signature, own, parent, flags, major, minor, *numbers = _INFO.unpack_from(block)
        external_lbasize, external_nlba, internal_lbasize, internal_nlba, nfree, infosize, *offsets = numbers
        nextoff, dataoff, mapoff, logoff, info2off = offsets
        return cls(
            signature=signature,
            uuid=UUID(bytes=own),
            parent_uuid=UUID(bytes=parent),
            flags=flags,
            version_major=major,
            version_minor=minor,
            external_lbasize=external_lbasize,
            external_nlba=external_nlba,
            internal_lbasize=internal_lbasize,
            internal_nlba=internal_nlba,
            nfree=nfree,
            infosize=infosize,
            nextoff=nextoff,
            dataoff=dataoff,
            mapoff=mapoff,
            logoff=logoff,
            info2off=info2off,
        )


def arena_is_valid(block: bytes, namespace_uuid: UUID) -> bool:
    """Whether 4096 bytes are the info block of a BTT in this namespace (nd_btt_arena_is_valid).

    Args:
        block: what stands where an arena would start.
        namespace_uuid: the namespace's; null for one without a label.  The block may also name no parent at all.
    """
    info = BttInfoBlock.from_bytes(block)
    if info.signature != BTT_SIGNATURE:
        return False
    if info.parent_uuid not in (NULL_UUID, namespace_uuid):
        return False
    return checksum_ok(block)


def sector_size_of(lbasize: int) -> int:
    """Bytes of a disk's sector, 512 or 4096; the rest of `lbasize` is metadata (btt_init)."""
    return 4096 if lbasize >= 4096 else 512


@attrs.frozen(kw_only=True)
class ArenaLayout:
    """Where an arena's parts lie, in bytes from the start of the first arena (struct arena_info).

    Attributes:
        infooff: the arena's start and its info block.
        size: bytes up to the next arena, or up to the end of the last one's parts.
        nextoff: 0 in the last arena; else of a new one the bytes to the next, of one found on media where that starts.
        external_lba_start: the disk's sectors in the arenas before this one.
        flags: of the info block.
        version_major, version_minor: of the info block.
    """

    infooff: int
    size: int
    nextoff: int
    external_lba_start: int
    external_lbasize: int
    external_nlba: int
    internal_lbasize: int
    internal_nlba: int
    nfree: int
    dataoff: int
    mapoff: int
    logoff: int
    info2off: int
    flags: int = 0
    version_major: int = BTT_1_1.major
    version_minor: int = BTT_1_1.minor

    @classmethod
    def from_info_block(cls, info: BttInfoBlock, infooff: int, external_lba_start: int) -> ArenaLayout:
        """The layout that an info block at `infooff` describes (parse_arena_meta)."""
        return cls(
            infooff=infooff,
            size=info.nextoff or info.info2off + BTT_PAGE_SIZE,
            nextoff=infooff + info.nextoff if info.nextoff else 0,
            external_lba_start=external_lba_start,
            external_lbasize=info.external_lbasize,
            external_nlba=info.external_nlba,
            internal_lbasize=info.internal_lbasize,
            internal_nlba=info.internal_nlba,
            nfree=info.nfree,
            dataoff=infooff + info.dataoff,
            mapoff=infooff + info.mapoff,
            logoff=infooff + info.logoff,
            info2off=infooff + info.info2off,
            flags=info.flags,
            version_major=info.version_major,
            version_minor=info.version_minor,
        )

    def to_info_block(self, uuid: UUID, parent_uuid: UUID) -> BttInfoBlock:
        """The info block of a new arena (btt_arena_write_layout)."""
        return BttInfoBlock(
            uuid=uuid,
            parent_uuid=parent_uuid,
            version_major=self.version_major,
            version_minor=self.version_minor,
            external_lbasize=self.external_lbasize,
            external_nlba=self.external_nlba,
            internal_lbasize=self.internal_lbasize,
            internal_nlba=self.internal_nlba,
            nfree=self.nfree,
            nextoff=self.nextoff,
            dataoff=self.dataoff - self.infooff,
            mapoff=self.mapoff - self.infooff,
            logoff=self.logoff - self.infooff,
            info2off=self.info2off - self.infooff,
        )


def arena_layout(
    size: int,
    lbasize: int,
    *,
    infooff: int = 0,
    external_lba_start: int = 0,
    nextoff: int = 0,
    version: BttVersion = BTT_1_1,
) -> ArenaLayout:
    """How a new arena of `size` bytes is divided (alloc_arena).

    Args:
        size: bytes, at least ARENA_MIN_SIZE; what exceeds whole pages stays unused.
        lbasize: bytes of a sector with its metadata.
        infooff: where the arena starts, as in `ArenaLayout`.
        external_lba_start: the disk's sectors before it.
        nextoff: bytes to the next arena, 0 in the last.
        version: of the format.
    """
    internal_lbasize = align_up(lbasize, INTERNAL_LBASIZE_ALIGNMENT)
    log_size = align_up(DEFAULT_NFREE * LOG_GROUP_SIZE, BTT_PAGE_SIZE)
    available = size - size % BTT_PAGE_SIZE - 2 * INFO_BLOCK_SIZE - log_size
    # One page is left out of account, so that the map still fits once it is rounded up to whole pages.
    internal_nlba = (available - BTT_PAGE_SIZE) // (internal_lbasize + MAP_ENTRY_SIZE)
    external_nlba = internal_nlba - DEFAULT_NFREE
    map_size = align_up(external_nlba * MAP_ENTRY_SIZE, BTT_PAGE_SIZE)
    dataoff = infooff + INFO_BLOCK_SIZE
    mapoff = dataoff + available - map_size
    logoff = mapoff + map_size
    return ArenaLayout(
        infooff=infooff,
        size=size,
        nextoff=nextoff,
        external_lba_start=external_lba_start,
        external_lbasize=lbasize,
        external_nlba=external_nlba,
        internal_lbasize=internal_lbasize,
        internal_nlba=internal_nlba,
        nfree=DEFAULT_NFREE,
        dataoff=dataoff,
        mapoff=mapoff,
        logoff=logoff,
        info2off=logoff + log_size,
        version_major=version.major,
        version_minor=version.minor,
    )


def arena_layouts(
    rawsize: int, lbasize: int, max_size: int = ARENA_MAX_SIZE, version: BttVersion = BTT_1_1
) -> Iterator[ArenaLayout]:
    """The arenas of a new BTT, in order (create_arenas).

    Args:
        rawsize: bytes from the first arena to the end of the namespace; a rest below 16 MiB stays unused.
        lbasize: bytes of a sector with its metadata.
        max_size: bytes of all arenas but the last; Linux knows only ARENA_MAX_SIZE.
        version: of the format.
    """
    infooff = external_lba_start = 0
    while (remaining := rawsize - infooff) >= ARENA_MIN_SIZE:
        size = min(max_size, remaining)
        layout = arena_layout(
            size,
            lbasize,
            infooff=infooff,
            external_lba_start=external_lba_start,
            nextoff=size if remaining - size >= ARENA_MIN_SIZE else 0,
            version=version,
        )
        yield layout
        infooff += size
        external_lba_start += layout.external_nlba


@attrs.frozen
class MapEntry:
    """Where a sector's data is.

    Attributes:
        postmap: number of the data block.
        zero: the sector reads as zeros, whatever the block holds.
        error: the block could not be read; reading gives EIO until the sector is written.
    """

    postmap: int
    zero: bool = False
    error: bool = False

    def encode(self) -> int:
        """The 32 bits on media; a block number above 30 bits is cut (btt_map_write)."""
        if self.zero and self.error:
            raise ValueError("on media, zero and error together would mean a normal entry")
        bits = MAP_NORMAL
        if self.zero:
            bits = MAP_ZERO
        if self.error:
            bits = MAP_ERROR
        return bits | self.postmap & MAP_LBA_MASK

    @classmethod
    def decode(cls, raw: int, premap: int) -> MapEntry:
        """Decode the entry of the sector `premap`.  An entry without flags was never written and maps to itself."""
        flags = raw & MAP_NORMAL
        if not flags:
            return cls(premap)
        return cls(raw & MAP_LBA_MASK, flags == MAP_ZERO, flags == MAP_ERROR)


@attrs.frozen
class LogEntry:
    """A write under way or done: sector `lba` moves from block `old_map` to block `new_map`.

    Attributes:
        lba: the sector, counted within the arena.
        old_map: the block it had, with MAP_ERROR when that one could not be read.
        new_map: the block it gets.
        seq: 1, 2, 3, 1, ... through a lane's writes; 0 in a slot never used.
    """

    lba: int
    old_map: int
    new_map: int
    seq: int

    def to_bytes(self) -> bytes:
        """The 16 bytes on media."""
        return _LOG_ENTRY.pack(self.lba, self.old_map, self.new_map, self.seq)

    @classmethod
    def from_bytes(cls, data: bytes) -> LogEntry:
        """The entry in 16 bytes."""
        return cls(*_LOG_ENTRY.unpack(data))


def newer_entry(first: int, second: int) -> int:
    """Which of a lane's two entries, 0 or 1, was written last, by their sequence numbers (btt_log_get_old).

    EIO when the numbers cannot follow each other.
    """
    if first == 0:
        return 1
    if first == second or first + second & U32_MASK > 5:  # the kernel adds in 32 bits
        raise KernelError(errno.EIO, f"log corruption: sequence numbers {first} and {second}")
    if abs(first - second) == 1:
        return int(second > first)
    return int(second < first)


@functools.lru_cache(maxsize=8)
def initial_log(external_nlba: int, nfree: int = DEFAULT_NFREE) -> bytes:
    """The log of an arena never written to: lane i owns block `external_nlba` + i (btt_log_init)."""
    padding = bytes(LOG_GROUP_SIZE - LOG_ENTRY_SIZE)
    blocks = range(external_nlba, external_nlba + nfree)
    groups = (LogEntry(lane, block, block, LOG_SEQ_INIT).to_bytes() for lane, block in enumerate(blocks))
    return b"".join(group + padding for group in groups)


def log_slots(log: bytes) -> tuple[int, int]:
    """Which two of the four slots in each group hold entries (log_set_indices).

    (0, 1), or (0, 2) when a kernel before 4.15 wrote the log; (0, 1) when no lane was ever used.  ENXIO when the
    groups do not agree or use other slots.
    """
    used = [_groups_using(log, slot) for slot in range(LOG_GROUP_SIZE // LOG_ENTRY_SIZE)]
    seconds = [slot for slot in (1, 2, 3) if any(used[slot])]
    if not seconds and any(used[0]):
        return 0, 1
    if seconds not in ([1], [2]):
        raise KernelError(errno.ENXIO, f"unknown padding scheme: the slots {seconds} follow the first")
    # Up to the first group that shows both slots, groups may be empty, but slot 0 must have been seen; later ones
    # must use it.
    decided = 1 + next(lane for lane, bits in enumerate(used[seconds[0]]) if bits)
    if not any(used[0][:decided]) or not all(used[0][decided:]):
        raise KernelError(errno.ENXIO, "log groups differ in the slots that they use")
    return 0, seconds[0]


def _groups_using(log: bytes, slot: int) -> list[int]:
    """For each group, 0 when the slot holds only zeros.  Whole columns at once: a large BTT has a million slots."""
    halves = memoryview(log).cast("Q")
    start, distance = slot * 2, LOG_GROUP_SIZE // 8
    return list(map(operator.or_, halves[start::distance].tolist(), halves[start + 1 :: distance].tolist()))
