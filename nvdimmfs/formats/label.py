"""A DIMM's label area, which divides its capacity into namespaces (drivers/nvdimm/label.h, Linux 6.1; UEFI 2.7).

Two index blocks precede the slots for labels.  An update never overwrites anything in use: it writes the label to a
free slot, then replaces the older of the two index blocks.  After a crash at any point, one index block is intact.
"""

from __future__ import annotations

import enum
import functools
import struct
from collections.abc import Iterator
from uuid import UUID

import attrs

from nvdimmfs.formats.fletcher import fletcher64
from nvdimmfs.formats.info_block import NULL_UUID, next_seq
from nvdimmfs.units import align_up, div_round_up

#: Signature of an index block, 16 bytes (NSINDEX_SIGNATURE, drivers/nvdimm/label.c).
INDEX_SIGNATURE = b"NAMESPACE_INDEX\0"

#: An index block is a multiple of this many bytes (NSINDEX_ALIGN).
INDEX_ALIGN = 256

#: Bytes of an index block before the bitmap of free slots (struct nd_namespace_index).
INDEX_HEADER_SIZE = 72

#: Bytes of a label of version 1.1 and of version 1.2, in the order in which an area is tried (nd_label_validate).
LABEL_SIZE_1_1 = 128
LABEL_SIZE_1_2 = 256
LABEL_SIZES = (LABEL_SIZE_1_1, LABEL_SIZE_1_2)
LABEL_SIZES_BY_VERSION = {"1.1": LABEL_SIZE_1_1, "1.2": LABEL_SIZE_1_2}

#: Bytes of a namespace's name, padded with zeros (NSLABEL_NAME_LEN).
LABEL_NAME_SIZE = 64
#: The name of most labels, kept once.
_NO_NAME = bytes(LABEL_NAME_SIZE)

#: Bytes of a sector that a label can ask for; 0 asks for none (pmem_lbasize_supported,
#: drivers/nvdimm/namespace_devs.c).
LBASIZES = (512, 4096)

#: An area has at least this many slots, or is no label area (sizeof_namespace_index).
MIN_SLOTS = 2

#: The sequence numbers of a new area's index blocks (init_labels: 3 - i).
INITIAL_SEQS = (3, 2)

#: Which personality a namespace is for; no GUID, NULL_UUID, for none (drivers/nvdimm/label.h).
BTT_GUID = UUID("8aed63a2-29a2-4c66-8b12-f05d15d3922a")
BTT2_GUID = UUID("18633bfc-1735-4217-8ac9-17239282d3f8")
PFN_GUID = UUID("266400ba-fb9f-4677-bcb0-968f11d0d225")
DAX_GUID = UUID("97a86d9c-3cdd-4eda-986f-5068b4f80088")

#: The type of a range of persistent memory, as NFIT and labels 1.2 have it (ACPI 6.0, UUID_PERSISTENT_MEMORY).
PMEM_RANGE_GUID = UUID("66f0d379-b4f3-4074-ac43-0d3318b78cdb")

_INDEX = struct.Struct("<16s3sBIQQQQIHHQ")
_INDEX_CHECKSUM_OFFSET = 64
_SEQ_MASK = 3

_LABEL = struct.Struct("<16s64sIHHQQQQI")
_LABEL_EXTENSION = struct.Struct("<B3x16s16s")
_LABEL_SLOT = struct.Struct("<I")
_LABEL_SLOT_OFFSET = 120
_LABEL_CHECKSUM_OFFSET = LABEL_SIZE_1_2 - 8

_CHECKSUM = struct.Struct("<Q")


class LabelFlag(enum.IntFlag):
    """Flags of a label (NSLABEL_FLAG_*, drivers/nvdimm/label.h).  Linux sets UPDATING alone and reads none."""

    READ_ONLY = 1
    LOCAL = 2
    BTT = 4
    UPDATING = 8


@attrs.frozen
class LabelAreaLayout:
    """Where things lie in a label area, in bytes from its start.

    Attributes:
        config_size: of the whole area.
        label_size: of a slot, LABEL_SIZE_1_1 or LABEL_SIZE_1_2.
        nslot: how many slots a new area gets (nvdimm_num_label_slots).
        index_size: of an index block (sizeof_namespace_index); 0 when the area is too small for two slots.
    """

    config_size: int
    label_size: int
    nslot: int
    index_size: int

    @classmethod
    def of(cls, config_size: int, label_size: int) -> LabelAreaLayout:
        """The layout of an area of `config_size` bytes.

        Linux 6.1 miscounts areas below 512 bytes and reads past their end; here they are too small like others.
        """
        most = config_size // label_size
        nslot = max(0, config_size - 2 * _index_size(most)) // label_size
        return cls(config_size, label_size, nslot, _index_size(nslot) if nslot >= MIN_SLOTS else 0)

    @property
    def index_offsets(self) -> tuple[int, int]:
        return 0, self.index_size

    def slot_offset(self, slot: int) -> int:
        return 2 * self.index_size + slot * self.label_size


@attrs.frozen(kw_only=True)
class IndexBlock:
    """The fields of an index block as they are on media, whatever their values.

    Attributes:
        signature: INDEX_SIGNATURE.
        flags: three bytes, zero.
        labelsize: 0 for labels of 128 bytes, 1 for 256; counts since version 1.2 only.
        seq: 1, 2, 3, 1, ... through the writes; only its two low bits count, and 0 is invalid.
        myoff, otheroff: where this block and the other one lie, bytes.
        mysize: bytes of this block.
        labeloff: where slot 0 lies, bytes.
        nslot: how many slots there are.
        major, minor: version.
        free: bit n is set while slot n is free; what stands beyond the last slot is kept as it was found.
    """

    signature: bytes = INDEX_SIGNATURE
    flags: bytes = bytes(3)
    labelsize: int
    seq: int
    myoff: int
    mysize: int
    otheroff: int
    labeloff: int
    nslot: int
    major: int = 1
    minor: int
    free: int

    @classmethod
    def new(cls, layout: LabelAreaLayout, which: int, seq: int, nslot: int, free: int) -> IndexBlock:
        """The block as Linux writes it in place `which`, 0 or 1 (nd_label_write_index)."""
        offsets = layout.index_offsets
        return cls(
            labelsize=layout.label_size >> 8,
            seq=seq,
            myoff=offsets[which],
            mysize=layout.index_size,
            otheroff=offsets[1 - which],
            labeloff=layout.slot_offset(0),
            nslot=nslot,
            minor=1 if layout.label_size < LABEL_SIZE_1_2 else 2,
            free=free,
        )

    def to_bytes(self, size: int) -> bytes:
        """The `size` bytes of the block, checksum included."""
        header = _INDEX.pack(
            self.signature,
            self.flags,
            self.labelsize,
            self.seq,
            self.myoff,
            self.mysize,
            self.otheroff,
            self.labeloff,
            self.nslot,
            self.major,
            self.minor,
            0,
        )
        return _with_checksum(header + self.free.to_bytes(size - INDEX_HEADER_SIZE, "little"), _INDEX_CHECKSUM_OFFSET)

    @classmethod
    def from_bytes(cls, block: bytes) -> IndexBlock:
        """The fields of a whole block, not validated."""
        signature, flags, labelsize, seq, *numbers, _checksum = _INDEX.unpack_from(block)
        myoff, mysize, otheroff, labeloff, nslot, major, minor = numbers
        return cls(
            signature=signature,
            flags=flags,
            labelsize=labelsize,
            seq=seq,
            myoff=myoff,
            mysize=mysize,
            otheroff=otheroff,
            labeloff=labeloff,
            nslot=nslot,
            major=major,
            minor=minor,
            free=int.from_bytes(block[INDEX_HEADER_SIZE:], "little"),
        )

    @property
    def version(self) -> tuple[int, int]:
        return self.major, self.minor

    @property
    def nfree(self) -> int:
        """How many slots are free (nd_label_nfree)."""
        return (self.free & self._slots).bit_count()

    @property
    def first_free(self) -> int | None:
        """The lowest free slot, which a new label gets; None when all are in use (nd_label_alloc_slot)."""
        free = self.free & self._slots
        return (free & -free).bit_length() - 1 if free else None

    def used(self) -> Iterator[int]:
        """The slots in use, whatever they hold, in order."""
        used = f"{~self.free & self._slots:b}"[::-1]
        slot = used.find("1")
        while slot >= 0:
            yield slot
            slot = used.find("1", slot + 1)

    @property
    def _slots(self) -> int:
        """A bit for every slot."""
        return (1 << self.nslot) - 1


@functools.lru_cache(maxsize=16)
def _guid(data: bytes) -> UUID:
    """A GUID on media.  There are a handful of them, on thousands of labels."""
    return UUID(bytes_le=data)


@functools.lru_cache(maxsize=16)
def _guid_bytes(guid: UUID) -> bytes:
    """The inverse."""
    return guid.bytes_le


def _padded_name(name: bytes) -> bytes:
    return name[:LABEL_NAME_SIZE].ljust(LABEL_NAME_SIZE, b"\0")


@attrs.frozen(kw_only=True)
class NamespaceLabel:
    """What one DIMM contributes to one namespace (struct nvdimm_efi_label), whatever the values.

    Attributes:
        uuid: the namespace's, the same on all its DIMMs.
        name: its alt_name; always 64 bytes, padded with zeros, and perhaps not ended by one.
        flags: a `LabelFlag`, or bits no kernel writes.
        nlabel: how many DIMMs contribute.
        position: which of them this is, from 0.
        isetcookie: the cookie of the interleave set, see `formats.interleave`.
        lbasize: bytes of a sector, 0 for the default.
        dpa: where the contribution starts, in bytes of this DIMM's own address space.
        rawsize: bytes of the contribution.
        slot: the slot that it was written to.
        align: reserved by Linux, 0.  Since version 1.2, as is what follows; in a label of version 1.1 it is 0.
        type_guid: of the range, PMEM_RANGE_GUID; None in a label of version 1.1, which fits every range.
        abstraction_guid: the personality that it is for: BTT_GUID, ..., NULL_UUID for none, or one that Linux does not
            know; None in a label of version 1.1.
    """

    uuid: UUID
    name: bytes = attrs.field(default=b"", converter=_padded_name)
    flags: int = 0
    nlabel: int
    position: int
    isetcookie: int
    lbasize: int = 0
    dpa: int
    rawsize: int
    slot: int = 0
    align: int = 0
    type_guid: UUID | None = None
    abstraction_guid: UUID | None = None

    def to_bytes(self, label_size: int, slot: int | None = None) -> bytes:
        """The bytes of the slot, checksum included if the version has one.

        Args:
            label_size: bytes.
            slot: the slot that they are for, if it is another than the label's.
        """
        common = _LABEL.pack(
            self.uuid.bytes,
            self.name,
            self.flags,
            self.nlabel,
            self.position,
            self.isetcookie,
            self.lbasize,
            self.dpa,
            self.rawsize,
            self.slot if slot is None else slot,
        )
        if label_size < LABEL_SIZE_1_2:
            return common.ljust(label_size, b"\0")
        type_guid, abstraction_guid = self.type_guid or NULL_UUID, self.abstraction_guid or NULL_UUID
        extension = _LABEL_EXTENSION.pack(self.align, _guid_bytes(type_guid), _guid_bytes(abstraction_guid))
        return _with_checksum((common + extension).ljust(label_size, b"\0"), _LABEL_CHECKSUM_OFFSET)

    @classmethod
    def from_bytes(cls, data: bytes) -> NamespaceLabel:
        """Decode a whole slot, whose length determines the version; nothing is validated."""
        own, name, flags, nlabel, position, isetcookie, lbasize, dpa, rawsize, slot = _LABEL.unpack_from(data)
        align, type_guid, abstraction_guid = 0, None, None
        if len(data) >= LABEL_SIZE_1_2:
            align, *guids = _LABEL_EXTENSION.unpack_from(data, _LABEL.size)
            type_guid, abstraction_guid = map(_guid, guids)
        return cls(
            uuid=UUID(bytes=own),
            name=_NO_NAME if name == _NO_NAME else name,
            flags=flags,
            nlabel=nlabel,
            position=position,
            isetcookie=isetcookie,
            lbasize=lbasize,
            dpa=dpa,
            rawsize=rawsize,
            slot=slot,
            align=align,
            type_guid=type_guid,
            abstraction_guid=abstraction_guid,
        )

    def has_type(self, guid: UUID) -> bool:
        """Whether the label is for a range of this type (nsl_validate_type_guid)."""
        return self.type_guid in (None, guid)


def label_is_valid(data: bytes, slot: int) -> bool:
    """Whether a slot that is in use holds a label (slot_valid): it names its slot, and 1.2 has the right checksum."""
    (stored,) = _LABEL_SLOT.unpack_from(data, _LABEL_SLOT_OFFSET)
    if stored != slot:
        return False
    return len(data) < LABEL_SIZE_1_2 or _checksum_ok(data, _LABEL_CHECKSUM_OFFSET)


def find_current_index(head: bytes, config_size: int) -> tuple[LabelAreaLayout, int | None]:
    """Which labels an area has, and which of its index blocks counts, 0 or 1 (nd_label_validate).

    None when neither block is valid; the layout is then that of the labels it will get, of version 1.2.

    Args:
        head: at least what both index blocks of an area with labels of version 1.1 take up.
        config_size: bytes of the area.
    """
    for label_size in LABEL_SIZES:
        layout = LabelAreaLayout.of(config_size, label_size)
        current = _newest_valid(head, layout)
        if current is not None:
            return layout, current
    return LabelAreaLayout.of(config_size, LABEL_SIZES[-1]), None


def index_is_valid(block: bytes, which: int, layout: LabelAreaLayout) -> bool:
    """Whether a block of `index_size` bytes is an area's index block 0 or 1 (__nd_label_validate).

    Linux 6.1 also takes a block that counts up to four slots more than its bitmap has bits, if they fit into the area,
    and then reads past the bitmap's end.
    """
    index = IndexBlock.from_bytes(block)
    if index.signature != INDEX_SIGNATURE or _label_size_of(index) != layout.label_size:
        return False
    if not _checksum_ok(block, _INDEX_CHECKSUM_OFFSET) or not index.seq & _SEQ_MASK:
        return False
    offsets = layout.index_offsets
    if (index.myoff, index.otheroff, index.labeloff) != (offsets[which], offsets[1 - which], layout.slot_offset(0)):
        return False
    if not INDEX_HEADER_SIZE <= index.mysize <= layout.index_size:
        return False
    if index.nslot > 8 * (layout.index_size - INDEX_HEADER_SIZE):
        return False
    return layout.slot_offset(index.nslot) <= layout.config_size


def initial_index(layout: LabelAreaLayout, which: int) -> IndexBlock:
    """Index block 0 or 1 of a new area, in which every slot is free."""
    return IndexBlock.new(layout, which, INITIAL_SEQS[which], layout.nslot, (1 << layout.nslot) - 1)


def _newest_valid(head: bytes, layout: LabelAreaLayout) -> int | None:
    size = layout.index_size
    if not size:
        return None
    blocks = [head[offset : offset + size] for offset in layout.index_offsets]
    valid = [which for which, block in enumerate(blocks) if index_is_valid(block, which, layout)]
    if len(valid) < 2:
        return valid[0] if valid else None
    return _newer(*(IndexBlock.from_bytes(block).seq & _SEQ_MASK for block in blocks))


def _newer(first: int, second: int) -> int:
    """Which of two sequence numbers, neither 0, was given last; the second if they are equal (best_seq)."""
    return int(second in (first, next_seq(first)))


def _label_size_of(index: IndexBlock) -> int | None:
    """Bytes of the labels under an index block; None for a size that Linux does not know."""
    if index.major * 100 + index.minor < 102:
        return LABEL_SIZE_1_1
    return LABEL_SIZES[index.labelsize] if index.labelsize < len(LABEL_SIZES) else None


def _index_size(nslot: int) -> int:
    return align_up(INDEX_HEADER_SIZE + div_round_up(nslot, 8), INDEX_ALIGN)


def _with_checksum(data: bytes, offset: int) -> bytes:
    """The same bytes, in which the checksum at `offset`, zero so far, is filled in."""
    return data[:offset] + _CHECKSUM.pack(fletcher64(data)) + data[offset + _CHECKSUM.size :]


def _checksum_ok(data: bytes, offset: int) -> bool:
    (stored,) = _CHECKSUM.unpack_from(data, offset)
    rest = offset + _CHECKSUM.size
    return bool(stored == fletcher64(data[:offset] + bytes(_CHECKSUM.size) + data[rest:]))
