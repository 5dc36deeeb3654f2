"""The labels of a DIMM while its driver is bound, and those of a region's part of it (drivers/nvdimm/label.c, 6.1).

The area is read once, when the driver binds.  From then on the copy in memory is authoritative, and each change is
written to the media at once.  The order of the writes is safe against a crash at any point: first the label, to a free
slot, then the index block that is not current.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol
from uuid import UUID

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.info_block import next_seq
from nvdimmfs.formats.label import (
    LABEL_SIZE_1_1,
    IndexBlock,
    LabelAreaLayout,
    NamespaceLabel,
    find_current_index,
    initial_index,
    label_is_valid,
)
from nvdimmfs.media.base import Media
from nvdimmfs.units import align_up

#: ndctl 76 sets bits in words of this many bits, including the bits after the last slot.
_BITMAP_WORD = 64


def label_id(uuid: UUID) -> str:
    """The name of a namespace's DPA resources (nd_label_gen_id)."""
    return f"pmem-{uuid}"


class LabelObserver(Protocol):
    """Learns what is written to a label area."""

    def label_written(self, label: NamespaceLabel) -> None:
        """A label was written to its slot."""

    def index_written(self, which: int, block: IndexBlock) -> None:
        """An index block was written to place `which`, 0 or 1."""


class LabelStorage:
    """A bound DIMM's label area (struct nvdimm_drvdata).  The constructor only reads.

    ENXIO when the area is too small for two index blocks and two labels (nd_label_data_init).

    Attributes:
        media: the area; its size is the config size.
        layout: the offsets in it.  Without a valid index block, those of the version that Linux will write.
    """

    def __init__(self, media: Media, observer: LabelObserver | None = None) -> None:
        self.media = media
        self._observer = observer
        smallest = LabelAreaLayout.of(media.size, LABEL_SIZE_1_1)
        if not smallest.index_size:
            raise KernelError(errno.ENXIO, f"a label area of {media.size} bytes is too small for two labels")
        head = media.read(0, 2 * smallest.index_size)
        self.layout, self._current = find_current_index(head, media.size)
        self._index: IndexBlock | None = None
        self._staged_seq = 0
        # The copy of each slot in memory: valid labels that were read or written, in free slots, too.
        self._slots: dict[int, NamespaceLabel] = {}
        self._slots_of: dict[UUID, tuple[int, ...]] = {}  # a set of one slot has four times the bytes
        if self._current is not None:
            start = self.layout.index_offsets[self._current]
            self._index = IndexBlock.from_bytes(head[start : start + self.layout.index_size])
            self._staged_seq = self._index.seq
            self._read_labels(self._index)

    @property
    def index(self) -> IndexBlock | None:
        """The current index block; None while the area has no valid one and so no labels."""
        return self._index

    @property
    def current(self) -> int | None:
        """The number of the current index block, 0 or 1; None without labels (ns_current, -1)."""
        return self._current

    @property
    def nfree(self) -> int:
        """The number of free slots; without an index block, that of a new area (nd_label_nfree)."""
        return self._index.nfree if self._index else self.layout.nslot

    @property
    def available_slots(self) -> int:
        """The content of the attribute: one slot stays free, so that a label can be replaced."""
        return max(0, self.nfree - 1)

    @property
    def is_version_1_1(self) -> bool:
        """Whether labels contain the interleave set's first cookie; false without an index block.

        (nd_region_interleave_set_cookie)
        """
        return self._index is not None and self._index.version == (1, 1)

    def active(self) -> list[NamespaceLabel]:
        """The valid labels in the order of their slots (nd_label_active)."""
        used = self._index.used() if self._index else ()
        return [self._slots[slot] for slot in used if slot in self._slots]

    def __getitem__(self, slot: int) -> NamespaceLabel:
        """The copy of a slot in memory: a label that is active, or was before the slot was freed."""
        return self._slots[slot]

    def slots_of(self, uuid: UUID) -> tuple[int, ...]:
        """The slots whose copies in memory are labels of a namespace, including free slots."""
        return self._slots_of.get(uuid, ())

    def undo(self) -> Callable[[], None]:
        """A function that puts the copy in memory back into its present state: the host refused the writes since."""
        current, index, staged_seq = self._current, self._index, self._staged_seq
        slots, slots_of = self._slots.copy(), self._slots_of.copy()

        def restore() -> None:
            self._current, self._index, self._staged_seq = current, index, staged_seq
            self._slots, self._slots_of = slots, slots_of

        return restore

    def initialise(self) -> None:
        """Write both index blocks, if there is no valid one (init_labels).

        The version is that of `layout`, 1.2.  ENXIO when the area is too small for it.
        """
        if self._index:
            return
        if not self.layout.index_size:
            raise KernelError(
                errno.ENXIO, f"a label area of {self.layout.config_size} bytes is too small for labels 1.2"
            )
        blocks = [initial_index(self.layout, which) for which in (0, 1)]
        for which, block in enumerate(blocks):
            self.media.write(self.layout.index_offsets[which], block.to_bytes(self.layout.index_size))
            if self._observer:
                self._observer.index_written(which, block)
        self._current, self._index = 0, blocks[0]
        # Linux increments the number of the block that it will replace, which is the smaller one in a new area.
        self._staged_seq = blocks[1].seq

    def write(self, label: NamespaceLabel, replaced: Collection[int] = ()) -> NamespaceLabel:
        """Write a label to the lowest free slot, free others, write the index (__pmem_label_update).

        Args:
            label: the label; its `slot` is ignored.
            replaced: the slots to free.

        Returns:
            The label as it is on media.  ENXIO without an index block or a free slot; then nothing was written.
        """
        written = self._write_slot(label)
        index = self._index
        assert index is not None, "it has named the slot"
        self._write_index(index.nslot, (index.free | _bits(replaced)) & ~_bits([written.slot]))
        return self._remember(written)

    def free(self, slots: Collection[int]) -> None:
        """Free slots and write the index, even if `slots` is empty (del_labels).  Does nothing without an index."""
        if self._index is None:
            return
        self._write_index(self._index.nslot, self._index.free | _bits(slots))

    def _read_labels(self, index: IndexBlock) -> None:
        """Read all from the first to the last slot in use: separate reads would be one command to the DIMM each."""
        used = list(index.used())
        if not used:
            return
        first = self.layout.slot_offset(used[0])
        data = self.media.read(first, self.layout.slot_offset(used[-1] + 1) - first)
        for slot in used:
            start = self.layout.slot_offset(slot) - first
            label = data[start : start + self.layout.label_size]
            if label_is_valid(label, slot):
                self._remember(NamespaceLabel.from_bytes(label))

    def _remember(self, label: NamespaceLabel) -> NamespaceLabel:
        before = self._slots.get(label.slot)
        if before:
            left = tuple(slot for slot in self._slots_of.pop(before.uuid) if slot != label.slot)
            if left:
                self._slots_of[before.uuid] = left
        self._slots[label.slot] = label
        self._slots_of[label.uuid] = (*self._slots_of.get(label.uuid, ()), label.slot)
        return label

    def _write_slot(self, label: NamespaceLabel) -> NamespaceLabel:
        """Write a label to the lowest free slot, and return it with that slot.  ENXIO without one."""
        slot = self._index.first_free if self._index else None
        if slot is None:
            raise KernelError(errno.ENXIO, f"the label area has no {'free slot' if self._index else 'index'}")
        data = label.to_bytes(self.layout.label_size, slot)
        self.media.write(self.layout.slot_offset(slot), data)
        written = NamespaceLabel.from_bytes(data)
        if self._observer:
            self._observer.label_written(written)
        return written

    def _write_index(self, nslot: int, free: int) -> None:
        """Replace the index block that is not current, and make it current (nd_label_write_index)."""
        assert self._current is not None, "callers have an index"
        which = 1 - self._current
        index = IndexBlock.new(self.layout, which, next_seq(self._staged_seq), nslot, free)
        data = index.to_bytes(self.layout.index_size)
        try:
            self.media.write(index.myoff, data)
        except OSError:
            # The host may have stored part of the block, which a later reader sees.  A part is not a valid block.
            if self.media.read(index.myoff, len(data)) != data:
                raise
        self._current, self._index, self._staged_seq = which, index, index.seq
        if self._observer:
            self._observer.index_written(which, index)


class MappingLabels:
    """The labels that a region tracks on one of its DIMMs (nd_mapping->labels).

    Several regions may lie on one DIMM.  Each starts with all of the DIMM's labels and keeps those of its namespaces.
    An entry without a label is room for one.

    An entry refers to a slot, not to its former content.  A region without namespaces drops the labels on its first
    DIMM only.  On the others its entries remain while other regions free and reuse the slots.

    A DIMM can be unbound and bound again under a region that stays bound.  It then reads its area again.  Older entries
    refer to slots of the previous copy of the area: a label that is written later replaces them, but frees no slot of
    the current copy.  (Linux 6.1 computes their slot numbers from addresses in the previous copy, and sets a bit before
    or after the bitmap.)
    """

    def __init__(self, area: LabelStorage) -> None:
        """Track all active labels (init_active_labels)."""
        self.area = area
        self._slots = {label.slot: None for label in area.active()}
        self._outdated: set[int] = set()
        self._former: list[_FormerEntry] = []
        self._vacant = 0

    @property
    def entries(self) -> int:
        """The number of entries, with a label or without.  While it is 0, a uuid cannot be changed."""
        return len(self._slots) + len(self._former) + self._vacant

    @property
    def labels(self) -> list[NamespaceLabel]:
        """The tracked labels; those found on media in the order of their slots, in which regions are scanned."""
        return [self.area[slot] for slot in self._slots]

    def follow(self, area: LabelStorage) -> None:
        """Continue with the DIMM's current copy of the area; the DIMM may have been bound again."""
        if area is self.area:
            return
        new = [_FormerEntry(self.area[slot].uuid, slot in self._outdated) for slot in self._slots]
        self._former = [*self._former, *new]
        self._slots.clear()
        self._outdated.clear()
        self.area = area

    def undo(self) -> Callable[[], None]:
        """As that of the area, of which it is a part."""
        area, restore_area = self.area, self.area.undo()
        slots, outdated, former, vacant = self._slots.copy(), self._outdated.copy(), self._former, self._vacant

        def restore() -> None:
            restore_area()
            self.area, self._slots, self._outdated, self._former, self._vacant = area, slots, outdated, former, vacant

        return restore

    def with_uuid(self, uuid: UUID) -> list[NamespaceLabel]:
        """The labels of a namespace in the order of their slots: one, or several in a damaged area."""
        slots = self._slots_of(uuid)
        return [self.area[slot] for slot in (sorted(slots) if len(slots) > 1 else slots)]

    def keep(self, uuids: Iterable[UUID]) -> None:
        """Keep only the first label of each of these namespaces (end of scan_labels)."""
        kept = [min(self._slots_of(uuid)) for uuid in uuids]
        self.clear()
        self._slots.update(dict.fromkeys(kept))

    def clear(self) -> None:
        """Track nothing (nd_mapping_free_labels)."""
        self._slots.clear()
        self._outdated.clear()
        self._former = []
        self._vacant = 0

    def mark_outdated(self, uuid: UUID) -> None:
        """Let the next write replace these labels: the namespace gets another uuid (ND_LABEL_REAP)."""
        self._outdated |= self._slots_of(uuid)
        self._former = [attrs.evolve(entry, outdated=entry.outdated or entry.uuid == uuid) for entry in self._former]

    def prepare(self, count: int) -> None:
        """Make room for `count` labels in all, and initialise the area (init_labels).

        Args:
            count: the number of DPA resources of the DIMM, including those of other regions.
        """
        self._vacant += max(0, count - self.entries)
        self.area.initialise()

    def write(self, label: NamespaceLabel) -> NamespaceLabel:
        """Write a label and free those that it replaces: of the same uuid, and outdated ones (__pmem_label_update).

        Linux 6.1 also frees the slot that it has just written, and so loses the label, if an old entry refers to it.

        ENXIO without an index block, a free slot, or, with the label written, room to track it.
        """
        replaced = self._outdated | self._slots_of(label.uuid)
        written = self.area.write(label, replaced)
        self._drop(replaced | {written.slot})
        self._drop_former(lambda entry: entry.outdated or entry.uuid == label.uuid)
        if not self._vacant:
            raise KernelError(errno.ENXIO, f"no room to track the label in slot {written.slot}")
        self._vacant -= 1
        self._slots[written.slot] = None
        return written

    def delete(self, uuid: UUID) -> None:
        """Free the labels of a namespace (del_labels).

        The index is written even if there are none; without an index, nothing is written.
        """
        if self.area.index is None:
            return
        slots = self._slots_of(uuid)
        self.area.free(slots)
        self._drop(slots)
        self._drop_former(lambda entry: entry.uuid == uuid)
        if not (self._slots or self._former):
            self.clear()

    def _slots_of(self, uuid: UUID) -> set[int]:
        return {slot for slot in self.area.slots_of(uuid) if slot in self._slots}

    def _drop(self, slots: Iterable[int]) -> None:
        """Remove the labels of entries, which become room."""
        for slot in slots:
            if slot in self._slots:
                del self._slots[slot]
                self._vacant += 1
        self._outdated.difference_update(slots)

    def _drop_former(self, is_replaced: Callable[[_FormerEntry], bool]) -> None:
        """Remove the labels of entries for slots of the previous copy, which become room."""
        kept = [entry for entry in self._former if not is_replaced(entry)]
        self._vacant += len(self._former) - len(kept)
        self._former = kept


@attrs.frozen
class _FormerEntry:
    """An entry for a slot of the previous copy of the area, from before the DIMM was bound again.

    Attributes:
        uuid: the uuid of the label in it.
        outdated: the namespace has been given another uuid.
    """

    uuid: UUID
    outdated: bool


def init_label_area(media: Media, label_size: int = LABEL_SIZE_1_1) -> None:
    """Initialise an empty label area as `ndctl init-labels` does (version 76; labels 1.1 without --label-version 1.2).

    It writes both index blocks and no slot.  The bytes after the bitmap remain, and count in the checksum.
    ENXIO when the area is too small.
    """
    layout = LabelAreaLayout.of(media.size, label_size)
    if not layout.index_size:
        raise KernelError(errno.ENXIO, f"a label area of {media.size} bytes is too small for two labels")
    bits = align_up(layout.nslot, _BITMAP_WORD)
    for which, offset in enumerate(layout.index_offsets):
        after = IndexBlock.from_bytes(media.read(offset, layout.index_size)).free >> bits
        block = attrs.evolve(initial_index(layout, which), free=after << bits | (1 << bits) - 1)
        media.write(offset, block.to_bytes(layout.index_size))


def write_new_labels(media: Media, labels: Sequence[NamespaceLabel]) -> None:
    """Write labels that replace none, with the same result as if `LabelStorage` wrote them one after the other.

    A new machine may have hundreds of labels on a DIMM.  Only the last two index blocks are written: the others would
    be overwritten before any reader sees them.

    Args:
        media: the area, initialised.
        labels: the labels; their `slot` is ignored.

    Raises:
        KernelError: ENXIO without an index block, or a free slot for each; then nothing was written.
    """
    area = LabelStorage(media)
    if area.index is None or area.current is None:
        raise KernelError(errno.ENXIO, "the label area has no index")
    if area.nfree < len(labels):
        raise KernelError(errno.ENXIO, f"the label area has {area.nfree} free slots for {len(labels)} labels")
    layout, which, seq, nslot, free = area.layout, area.current, area.index.seq, area.index.nslot, area.index.free
    for count, label in enumerate(labels, 1):
        slot = (free & -free).bit_length() - 1
        free &= ~(1 << slot)
        which, seq = 1 - which, next_seq(seq)
        media.write(layout.slot_offset(slot), label.to_bytes(layout.label_size, slot))
        if count > len(labels) - 2:
            index = IndexBlock.new(layout, which, seq, nslot, free)
            media.write(index.myoff, index.to_bytes(layout.index_size))


def _bits(slots: Iterable[int]) -> int:
    bits = 0
    for slot in slots:
        bits |= 1 << slot
    return bits
