"""The labels of a DIMM while its driver is bound, and those of a region's part of it (drivers/nvdimm/label.c, 6.1).

The area is read once, when the driver binds.  From then on memory is what counts and every change goes to the media at
once, in an order that can be cut off anywhere: the label to a free slot, then the index block that is not current.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Sequence
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

#: ndctl 76 sets the bits of slots in words of this many bits, those after the last slot included.
_BITMAP_WORD = 64


def label_id(uuid: UUID) -> str:
    """The name of a namespace's DPA resources (nd_label_gen_id)."""
    return f"pmem-{uuid}"


class LabelStorage:
    """A DIMM's label area as its driver knows it from binding on (struct nvdimm_drvdata); making one only reads.

    ENXIO when the area is too small for two index blocks and two labels (nd_label_data_init).

    Attributes:
        media: the area; its size is the config size.
        layout: where things lie in it.  Without a valid index block it is that of the version that Linux will write.
    """

    def __init__(self, media: Media) -> None:
        self.media = media
        smallest = LabelAreaLayout.of(media.size, LABEL_SIZE_1_1)
        if not smallest.index_size:
            raise KernelError(errno.ENXIO, f"a label area of {media.size} bytes is too small for two labels")
        head = media.read(0, 2 * smallest.index_size)
        self.layout, self._current = find_current_index(head, media.size)
        self._index: IndexBlock | None = None
        self._staged_seq = 0
        # What memory holds in each slot: the valid labels found, and what was written since, free slots included.
        self._slots: dict[int, NamespaceLabel] = {}
        self._slots_of: dict[UUID, set[int]] = {}
        if self._current is not None:
            start = self.layout.index_offsets[self._current]
            self._index = IndexBlock.from_bytes(head[start : start + self.layout.index_size])
            self._staged_seq = self._index.seq
            self._read_labels(self._index)

    @property
    def index(self) -> IndexBlock | None:
        """The current index block; None while the area has no valid one, so no labels."""
        return self._index

    @property
    def current(self) -> int | None:
        """Where the current index block lies, 0 or 1; None for no labels (ns_current, -1)."""
        return self._current

    @property
    def nfree(self) -> int:
        """Free slots; those of a new area while it has no index block (nd_label_nfree)."""
        return self._index.nfree if self._index else self.layout.nslot

    @property
    def available_slots(self) -> int:
        """What the attribute shows: one slot stays free, so that a label can be replaced."""
        return max(0, self.nfree - 1)

    @property
    def is_version_1_1(self) -> bool:
        """Whether labels carry the interleave set's first cookie; without an index block they do not.

        (nd_region_interleave_set_cookie)
        """
        return self._index is not None and self._index.version == (1, 1)

    def active(self) -> list[NamespaceLabel]:
        """The valid labels in the order of their slots (nd_label_active)."""
        used = self._index.used() if self._index else ()
        return [self._slots[slot] for slot in used if slot in self._slots]

    def __getitem__(self, slot: int) -> NamespaceLabel:
        """What memory holds in a slot: a label that is active, or was until the slot became free."""
        return self._slots[slot]

    def slots_of(self, uuid: UUID) -> frozenset[int]:
        """The slots in which memory holds labels of a namespace, free ones included."""
        return frozenset(self._slots_of.get(uuid, ()))

    def initialise(self) -> None:
        """Give the area both index blocks, if it has no valid one (init_labels).

        The version is that of `layout`, 1.2.  ENXIO where that does not fit.
        """
        if self._index:
            return
        if not self.layout.index_size:
            raise KernelError(
                errno.ENXIO, f"a label area of {self.layout.config_size} bytes is too small for labels 1.2"
            )
        blocks = [initial_index(self.layout, which) for which in (0, 1)]
        for offset, block in zip(self.layout.index_offsets, blocks, strict=True):
            self.media.write(offset, block.to_bytes(self.layout.index_size))
        self._current, self._index = 0, blocks[0]
        # Linux counts on from the block that it will replace, and that has a smaller number in a new area.
        self._staged_seq = blocks[1].seq

    def write(self, label: NamespaceLabel, replaced: Collection[int] = ()) -> NamespaceLabel:
        """Put a label into the lowest free slot, free others, write the index (__pmem_label_update).

        Args:
            label: what `slot` says does not matter.
            replaced: the slots that it makes free.

        Returns:
            The label as it is on media.  ENXIO without an index block or a free slot; then nothing was written.
        """
        written = self._write_slot(label)
        index = self._index
        assert index is not None, "it has named the slot"
        self._write_index(index.nslot, (index.free | _bits(replaced)) & ~_bits([written.slot]))
        return self._remember(written)

    def free(self, slots: Collection[int]) -> None:
        """Make slots free and write the index, even when there are none (del_labels).  Without an index, nothing."""
        if self._index is None:
            return
        self._write_index(self._index.nslot, self._index.free | _bits(slots))

    def _read_labels(self, index: IndexBlock) -> None:
        """Read the slots in use, with what lies between them: one by one, each would be a command to the DIMM."""
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
            self._slots_of[before.uuid].discard(label.slot)
        self._slots[label.slot] = label
        self._slots_of.setdefault(label.uuid, set()).add(label.slot)
        return label

    def _write_slot(self, label: NamespaceLabel) -> NamespaceLabel:
        """Write a label to the lowest free slot, and return it as it is there.  ENXIO."""
        slot = self._index.first_free if self._index else None
        if slot is None:
            raise KernelError(errno.ENXIO, f"the label area has no {'free slot' if self._index else 'index'}")
        data = label.to_bytes(self.layout.label_size, slot)
        self.media.write(self.layout.slot_offset(slot), data)
        return NamespaceLabel.from_bytes(data)

    def _write_index(self, nslot: int, free: int) -> None:
        """Replace the index block that is not current, and let it be current (nd_label_write_index)."""
        assert self._current is not None, "callers have an index"
        which = 1 - self._current
        index = IndexBlock.new(self.layout, which, next_seq(self._staged_seq), nslot, free)
        data = index.to_bytes(self.layout.index_size)
        try:
            self.media.write(index.myoff, data)
        except OSError:
            # What the host let through counts for whoever reads next.  Less than all of it is no valid block.
            if self.media.read(index.myoff, len(data)) != data:
                raise
        self._current, self._index, self._staged_seq = which, index, index.seq


class MappingLabels:
    """The labels that a region tracks on one of its DIMMs (nd_mapping->labels).

    Several regions may lie on one DIMM.  Each starts with all the DIMM's labels and keeps those of its namespaces.
    Entries without a label are room for one.

    An entry stands for a slot, not for what was in it once.  A region without namespaces lets go of the labels on its
    first DIMM only, and on the others its entries stay while other regions free the slots and use them again.

    A DIMM can be unbound and bound again under a region that stays bound, and then reads its area anew.  Entries from
    before stand for slots of the area as it was known then: what is written later takes their place, but frees none of
    the slots that the DIMM knows now.  (Linux 6.1 takes them for slots of the new area by where they lie in memory, and
    sets a bit somewhere behind or before its bitmap.)
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
        """How many entries there are, with a label or without.  While there are none, no uuid can be changed."""
        return len(self._slots) + len(self._former) + self._vacant

    @property
    def labels(self) -> list[NamespaceLabel]:
        """The labels tracked; those found on media in the order of their slots, as regions are scanned."""
        return [self.area[slot] for slot in self._slots]

    def follow(self, area: LabelStorage) -> None:
        """Go on with the area as the DIMM knows it now, which may be bound anew."""
        if area is self.area:
            return
        self._former += [_FormerEntry(self.area[slot].uuid, slot in self._outdated) for slot in self._slots]
        self._slots.clear()
        self._outdated.clear()
        self.area = area

    def with_uuid(self, uuid: UUID) -> list[NamespaceLabel]:
        """The labels of a namespace: one, or what a broken area holds, in the order of their slots."""
        return [self.area[slot] for slot in sorted(self._slots_of(uuid))]

    def keep(self, uuids: Iterable[UUID]) -> None:
        """Go on with the first label of each of these namespaces only (end of scan_labels)."""
        kept = [min(self._slots_of(uuid)) for uuid in uuids]
        self.clear()
        self._slots.update(dict.fromkeys(kept))

    def clear(self) -> None:
        """Track nothing (nd_mapping_free_labels)."""
        self._slots.clear()
        self._outdated.clear()
        self._former.clear()
        self._vacant = 0

    def mark_outdated(self, uuid: UUID) -> None:
        """Let the next write replace these labels: the namespace gets another uuid (ND_LABEL_REAP)."""
        self._outdated |= self._slots_of(uuid)
        self._former = [attrs.evolve(entry, outdated=entry.outdated or entry.uuid == uuid) for entry in self._former]

    def prepare(self, count: int) -> None:
        """Have room for `count` labels in all, and an initialised area (init_labels).

        Args:
            count: how many DPA resources of namespaces the DIMM has, those of other regions included.
        """
        self._vacant += max(0, count - self.entries)
        self.area.initialise()

    def write(self, label: NamespaceLabel) -> NamespaceLabel:
        """Write a label and free those that it replaces: of the same uuid, and outdated ones (__pmem_label_update).

        Linux 6.1 also frees the slot just written, and so loses the label, if an entry was left behind there.

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

        The index is written even when there are none; without an index nothing happens.
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
        """Entries lose their labels and become room."""
        for slot in slots:
            if slot in self._slots:
                del self._slots[slot]
                self._vacant += 1
        self._outdated.difference_update(slots)

    def _drop_former(self, is_replaced: Callable[[_FormerEntry], bool]) -> None:
        """Entries for slots of an area as it was known before lose their labels and become room."""
        kept = [entry for entry in self._former if not is_replaced(entry)]
        self._vacant += len(self._former) - len(kept)
        self._former = kept


@attrs.frozen
class _FormerEntry:
    """An entry for a slot of the area as it was known before the DIMM was bound anew.

    Attributes:
        uuid: of the label in it.
        outdated: the namespace has another uuid by now.
    """

    uuid: UUID
    outdated: bool


def init_label_area(media: Media, label_size: int = LABEL_SIZE_1_1) -> None:
    """Make a label area empty as `ndctl init-labels` does (76; version 1.1 unless --label-version says 1.2).

    It writes both index blocks and no slot.  What stands after the bitmap stays, and counts in the checksum.
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
    """Write labels that replace none; the area ends as it does when `LabelStorage` writes one after the other.

    A machine may begin with hundreds of labels on a DIMM.  All but the last two index blocks would be written over
    before anybody reads them, so that those are not written.

    Args:
        media: the area, initialised.
        labels: what they say of their slots does not matter.

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
