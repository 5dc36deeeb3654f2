"""The labels of a DIMM: byte for byte as a real 6.1 kernel writes them, against a model, and damaged."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator
from random import Random
from uuid import UUID

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_model import (
    CONFIG_SIZE,
    MIB,
    OPERATIONS,
    SMALL_SIZE,
    STARTS,
    Delete,
    Dimm,
    Model,
    Operation,
    Rebind,
    Rename,
    Update,
    a_label,
    contents,
    new_media,
    plain,
    refusal,
    update,
)

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.info_block import NULL_UUID
from nvdimmfs.formats.interleave import InterleavedDimm, InterleaveSet
from nvdimmfs.formats.label import (
    DAX_GUID,
    LABEL_SIZE_1_1,
    LABEL_SIZE_1_2,
    IndexBlock,
    LabelAreaLayout,
    LabelFlag,
    NamespaceLabel,
    initial_index,
)
from nvdimmfs.media.base import Media
from nvdimmfs.media.memory import MemoryMedia
from nvdimmfs.nd.label import LabelStorage, MappingLabels, init_label_area, label_id, write_new_labels
from nvdimmfs.testing.strategies import label_areas


@attrs.define
class RealNamespace:
    """A namespace of the story below, on the one DIMM of its region."""

    uuid: UUID
    dpa: int = 0
    size: int = 0
    name: bytes = b""
    abstraction_guid: UUID = NULL_UUID

    def store(self, labels: MappingLabels, iset: InterleaveSet) -> None:
        """What each write to an attribute leads to (nd_namespace_label_update)."""
        if not self.size:
            labels.delete(self.uuid)
            return
        labels.prepare(2)
        for flags in (LabelFlag.UPDATING, 0):
            labels.write(
                NamespaceLabel(
                    uuid=self.uuid,
                    name=self.name,
                    flags=flags,
                    nlabel=1,
                    position=0,
                    isetcookie=iset.cookie1 if labels.area.is_version_1_1 else iset.cookie2,
                    dpa=self.dpa,
                    rawsize=self.size,
                    type_guid=iset.type_guid,
                    abstraction_guid=self.abstraction_guid,
                )
            )


def story(media: Media, dimm: int) -> Iterator[tuple[str, int]]:
    """What was done to namespaces on a real kernel; after each step its name and the DIMM's available_slots."""
    iset = InterleaveSet.of([InterleavedDimm(region_offset=0, serial_number=0x123456 + dimm, vendor_id=0x8086)])
    area = LabelStorage(media)
    labels = MappingLabels(area)

    def step(name: str, namespace: RealNamespace | None = None) -> tuple[str, int]:
        if namespace:
            namespace.store(labels, iset)
        return name, area.available_slots

    yield step("start")
    first = RealNamespace(UUID(f"0000000{dimm}-aaaa-bbbb-cccc-00000000000a"))
    yield step("uuid", first)
    first.name = f"alpha{dimm}".encode()
    yield step("alt_name", first)
    first.size = 64 * MIB
    yield step("size", first)
    first.abstraction_guid = DAX_GUID
    yield step("holder_class", first)
    second = RealNamespace(UUID(f"0000000{dimm}-aaaa-bbbb-cccc-00000000000b"), dpa=64 * MIB)
    step("the second one's uuid", second)
    second.size = 32 * MIB
    yield step("the second one's size", second)
    labels.mark_outdated(first.uuid)
    first.uuid = UUID(f"11111111-aaaa-bbbb-cccc-00000000000{dimm}")
    yield step("another uuid", first)
    first.size = 0
    yield step("deleted", first)


class TestRealKernel:
    """The whole area after each step, by its hash, as a real 6.1 kernel left it."""

    #: For a DIMM full of bytes that are no labels, which the kernel initialised when it needed to.
    INITIALISED_BY_THE_KERNEL = (
        ("start", 509, "db8323c7592cf1fb"),
        ("uuid", 509, "db8323c7592cf1fb"),
        ("alt_name", 509, "db8323c7592cf1fb"),
        ("size", 508, "33cc8f85a10244d3"),
        ("holder_class", 508, "461eeda90c5b1150"),
        ("the second one's size", 507, "392d125a3a111db9"),
        ("another uuid", 507, "e7bb85ae7a005fa7"),
        ("deleted", 508, "2de7ffc560a767f9"),
    )
    #: For one that ndctl 76 initialised.
    INITIALISED_BY_NDCTL = (
        ("start", 1019, "b067279565de8959"),
        ("uuid", 1019, "3402b55df3f5c321"),
        ("alt_name", 1019, "ec59562945c72dc0"),
        ("size", 1018, "6bfcde3f192b367a"),
        ("holder_class", 1018, "443d60037082ca3c"),
        ("the second one's size", 1017, "9dda08a41a315e7e"),
        ("another uuid", 1017, "f15c0096f04f1c82"),
        ("deleted", 1018, "bd353e8c64875225"),
    )

    @pytest.mark.parametrize(
        ("dimm", "start", "content", "expected"),
        [
            (0, None, bytes((i * 7 + 3) & 0xFF for i in range(CONFIG_SIZE)), INITIALISED_BY_THE_KERNEL),
            (1, LABEL_SIZE_1_1, b"", INITIALISED_BY_NDCTL),
        ],
        ids=["initialised by the kernel", "initialised by ndctl"],
    )
    def test_every_step_leaves_the_same_bytes(
        self, dimm: int, start: int | None, content: bytes, expected: tuple[tuple[str, int, str], ...]
    ) -> None:
        media = new_media(start, CONFIG_SIZE, content)
        steps = story(media, dimm)
        assert [
            (name, slots, hashlib.blake2b(media.read(0, CONFIG_SIZE), digest_size=8).hexdigest())
            for name, slots in steps
        ] == list(expected)

    @pytest.mark.parametrize(("label_size", "used"), [(LABEL_SIZE_1_1, 72 + 128), (LABEL_SIZE_1_2, 72 + 64)])
    def test_ndctl_writes_the_index_blocks_up_to_the_end_of_the_bitmap(self, label_size: int, used: int) -> None:
        content = bytes((i * 7 + 3) & 0xFF for i in range(CONFIG_SIZE))
        media = new_media(label_size, CONFIG_SIZE, content)
        for start in (0, 256):
            assert media.read(start + 72, used - 72) == b"\xff" * (used - 72)
            assert media.read(start + used, 256 - used) == content[start + used : start + 256]
        assert media.read(512, CONFIG_SIZE - 512) == content[512:]
        assert LabelStorage(media).index == IndexBlock.from_bytes(media.read(0, 256))

    def test_ndctl_can_change_the_version(self) -> None:
        media = new_media(LABEL_SIZE_1_1, CONFIG_SIZE, bytes((i * 7 + 3) & 0xFF for i in range(CONFIG_SIZE)))
        assert int.from_bytes(media.read(64, 8), "little") == 18199771053338351032
        init_label_area(media, LABEL_SIZE_1_2)
        assert int.from_bytes(media.read(64, 8), "little") == 4090165374114091962
        assert LabelStorage(media).available_slots == 509


class TestArea:
    def test_an_area_without_labels_promises_those_of_version_1_2(self) -> None:
        area = LabelStorage(MemoryMedia(CONFIG_SIZE))
        assert (area.current, area.index, area.active()) == (None, None, [])
        assert (area.nfree, area.available_slots) == (510, 509)
        assert not area.is_version_1_1
        area.free([3])
        assert area.media.read(0, CONFIG_SIZE) == bytes(CONFIG_SIZE)
        assert refusal(lambda: area.write(a_label(1))) == errno.ENXIO

    @pytest.mark.parametrize("size", [0, 1, 511, 512, 767])
    def test_a_small_area_is_refused(self, size: int) -> None:
        assert refusal(lambda: LabelStorage(MemoryMedia(size))) == errno.ENXIO
        assert refusal(lambda: init_label_area(MemoryMedia(size))) == errno.ENXIO

    def test_an_area_with_room_for_version_1_1_only_cannot_be_initialised_by_linux(self) -> None:
        area = LabelStorage(MemoryMedia(1023))
        assert area.available_slots == 0
        assert refusal(area.initialise) == errno.ENXIO
        init_label_area(area.media)
        assert LabelStorage(area.media).available_slots == 2

    @pytest.mark.parametrize("start", STARTS)
    def test_the_sequence_numbers_go_on_from_those_of_a_new_area(self, start: int | None) -> None:
        area = LabelStorage(new_media(start))
        area.initialise()
        written = []
        for _ in range(5):
            area.free([])
            written.append((area.current, area.index and area.index.seq))
        # Linux has just written 3 and 2, and goes on from the 2.  What it finds on media it has read as 3 and 3.
        first = 1 if start else 3
        seqs = [(first - 1 + step) % 3 + 1 for step in range(5)]
        assert written == list(zip([1, 0, 1, 0, 1], seqs, strict=True))
        assert LabelStorage(area.media).current == 1

    def test_initialising_leaves_labels_alone(self) -> None:
        area = LabelStorage(new_media(LABEL_SIZE_1_1))
        area.write(a_label(1))
        area.initialise()
        assert [label.uuid for label in LabelStorage(area.media).active()] == [UUID(int=1)]

    def test_an_index_of_version_1_0_becomes_1_1_when_it_is_written(self) -> None:
        media = new_media(LABEL_SIZE_1_1)
        layout = LabelAreaLayout.of(SMALL_SIZE, LABEL_SIZE_1_1)
        media.write(0, attrs.evolve(initial_index(layout, 0), minor=0, flags=b"abc").to_bytes(256))
        area = LabelStorage(media)
        assert not area.is_version_1_1
        area.free([])
        assert area.is_version_1_1
        assert area.index
        assert area.index.flags == bytes(3)

    def test_a_slot_in_use_without_a_valid_label_stays_in_use(self) -> None:
        media = new_media(LABEL_SIZE_1_2)
        layout = LabelAreaLayout.of(SMALL_SIZE, LABEL_SIZE_1_2)
        free = (1 << layout.nslot) - 1 & ~2
        media.write(0, attrs.evolve(initial_index(layout, 0), free=free).to_bytes(256))
        area = LabelStorage(media)
        assert (area.nfree, area.active()) == (layout.nslot - 1, [])
        assert [area.write(a_label(number)).slot for number in (1, 2)] == [0, 2]
        assert [label.slot for label in LabelStorage(media).active()] == [0, 2]

    @pytest.mark.parametrize("start", [LABEL_SIZE_1_1, LABEL_SIZE_1_2])
    def test_zeros_in_slot_0_are_a_label(self, start: int) -> None:
        media = new_media(start)
        layout = LabelAreaLayout.of(SMALL_SIZE, start)
        media.write(0, attrs.evolve(initial_index(layout, 0), free=0).to_bytes(256))
        (label,) = LabelStorage(media).active()
        assert (label.uuid, label.slot, label.rawsize) == (NULL_UUID, 0, 0)

    def test_memory_counts_until_the_driver_binds_again(self) -> None:
        media = new_media(LABEL_SIZE_1_1)
        area = LabelStorage(media)
        update(MappingLabels(area), a_label(1))
        init_label_area(media)
        assert len(area.active()) == 1
        assert LabelStorage(media).active() == []

    def test_resources_have_the_name_of_the_label(self) -> None:
        assert label_id(UUID("0000000A-aaaa-bbbb-cccc-00000000000b")) == "pmem-0000000a-aaaa-bbbb-cccc-00000000000b"


class TestMapping:
    def filled(self, *numbers: int) -> MappingLabels:
        area = LabelStorage(new_media(LABEL_SIZE_1_1, CONFIG_SIZE))
        for number in numbers:
            area.write(a_label(number))
        return MappingLabels(LabelStorage(area.media))

    def test_all_active_labels_are_tracked_in_the_order_of_their_slots(self) -> None:
        labels = self.filled(3, 1, 2)
        assert [label.uuid.int for label in labels.labels] == [3, 1, 2]
        assert labels.entries == 3

    def test_labels_of_one_uuid_keep_their_order_and_the_first_one_counts(self) -> None:
        labels = self.filled(3, 1, 3)
        assert [label.slot for label in labels.with_uuid(UUID(int=3))] == [0, 2]
        labels.keep([UUID(int=1), UUID(int=3)])
        assert [label.slot for label in labels.labels] == [1, 0]
        # The label that is no longer tracked keeps its slot.
        labels.delete(UUID(int=3))
        assert [label.slot for label in LabelStorage(labels.area.media).active()] == [1, 2]

    def test_all_labels_of_a_uuid_are_replaced_by_one(self) -> None:
        labels = self.filled(3, 1, 3)
        update(labels, a_label(3, 5 * MIB))
        assert [(label.slot, label.rawsize) for label in labels.with_uuid(UUID(int=3))] == [(0, 5 * MIB)]
        assert LabelStorage(labels.area.media).active() == labels.area.active()
        assert labels.area.nfree == 1018

    def test_outdated_labels_are_replaced_by_the_next_write(self) -> None:
        labels = self.filled(1, 2)
        labels.mark_outdated(UUID(int=1))
        assert len(labels.labels) == 2
        update(labels, a_label(7))
        assert sorted(label.uuid.int for label in labels.labels) == [2, 7]
        assert sorted(label.uuid.int for label in LabelStorage(labels.area.media).active()) == [2, 7]

    def test_without_room_a_label_is_written_but_not_tracked(self) -> None:
        labels = self.filled(1)
        assert refusal(lambda: labels.write(a_label(2))) == errno.ENXIO
        assert [label.uuid.int for label in labels.labels] == [1]
        assert len(LabelStorage(labels.area.media).active()) == 2

    def test_room_stays_when_a_label_goes_but_not_when_the_last_one_does(self) -> None:
        labels = self.filled(1, 2)
        labels.prepare(4)
        labels.delete(UUID(int=1))
        assert labels.entries == 4
        labels.delete(UUID(int=2))
        assert labels.entries == 0

    def test_deleting_what_is_not_there_writes_the_index_all_the_same(self) -> None:
        labels = self.filled(1)
        before = labels.area.current
        labels.delete(UUID(int=9))
        assert labels.area.current != before
        assert len(LabelStorage(labels.area.media).active()) == 1

    def test_two_regions_on_one_dimm_share_its_slots(self) -> None:
        area = self.filled(1, 2).area
        first, second = MappingLabels(area), MappingLabels(area)
        first.keep([UUID(int=1)])
        second.keep([UUID(int=2)])
        update(first, a_label(1, 2 * MIB))
        update(second, a_label(4))
        assert [label.uuid.int for label in first.labels] == [1]
        assert [label.uuid.int for label in second.labels] == [2, 4]
        assert sorted(label.uuid.int for label in LabelStorage(area.media).active()) == [1, 2, 4]

    def test_entries_left_behind_free_no_label_of_another_region(self) -> None:
        area = self.filled(1).area
        other, empty = MappingLabels(area), MappingLabels(area)
        other.delete(UUID(int=1))
        other.prepare(2)
        other.write(a_label(2))
        # The entry for slot 0 is of another namespace now: neither deleting nor making number 1 concerns it.
        empty.delete(UUID(int=1))
        update(empty, a_label(1))
        empty.delete(UUID(int=1))
        assert [(label.slot, label.uuid.int) for label in LabelStorage(area.media).active()] == [(0, 2)]

    def test_entries_left_behind_do_not_cost_a_new_label(self) -> None:
        area = self.filled(1).area
        other, empty = MappingLabels(area), MappingLabels(area)
        update(empty, a_label(2))
        other.delete(UUID(int=1))
        for size in range(1, 7):
            update(empty, a_label(2, size * MIB))
            assert [label.rawsize for label in LabelStorage(area.media).active()] == [size * MIB]
            assert empty.entries == 3

    def test_entries_from_before_the_dimm_was_bound_anew_free_no_slot(self) -> None:
        labels = self.filled(1, 2)
        labels.follow(LabelStorage(labels.area.media))
        assert (labels.entries, labels.labels) == (2, [])
        update(labels, a_label(1, 5 * MIB))
        assert [label.uuid.int for label in LabelStorage(labels.area.media).active()] == [1, 2, 1]
        assert labels.entries == 2, "the new label has taken the place of the one before"

    def test_an_outdated_entry_stays_outdated_when_the_dimm_is_bound_anew(self) -> None:
        labels = self.filled(1, 2)
        labels.mark_outdated(UUID(int=1))
        labels.follow(LabelStorage(labels.area.media))
        labels.mark_outdated(UUID(int=2))
        update(labels, a_label(7))
        assert labels.entries == 2, "it has taken the place of one, and the other is room"
        labels.delete(UUID(int=7))
        assert labels.entries == 0, "no label is left that room would be kept for"

    def test_a_label_from_before_the_dimm_was_bound_again_stays_on_it_when_deleted(self) -> None:
        labels = self.filled(1, 2)
        labels.follow(LabelStorage(labels.area.media))
        labels.delete(UUID(int=1))
        assert labels.entries == 2
        assert [label.uuid.int for label in LabelStorage(labels.area.media).active()] == [1, 2]
        labels.delete(UUID(int=2))
        assert labels.entries == 0

    def test_following_the_same_area_changes_nothing(self) -> None:
        labels = self.filled(1)
        labels.follow(labels.area)
        assert [label.uuid.int for label in labels.labels] == [1]


class FewSlots:
    """What a DIMM with few slots does to an operation, as a model: each change needs a free slot, twice."""

    def __init__(self, free: int) -> None:
        self.model: Model = {}
        self.free = free
        self.outdated: set[int] = set()

    def carry_out(self, operation: Operation) -> int | None:
        """The errno of the refusal, if there is one."""
        match operation:
            case Update(number, rawsize, name):
                return self.update(number, (rawsize, name))
            case Rename(number, to) if number in self.model and to not in self.model:
                # If this is refused, the next change of any namespace takes the old label away.
                self.outdated.add(number)
                return self.update(to, self.model[number])
            case Rebind():
                self.outdated.clear()
            case Delete(number) if number in self.model:
                self.drop({number})
                self.outdated.discard(number)
        return None

    def update(self, number: int, value: tuple[int, bytes]) -> int | None:
        for _ in range(2):
            if not self.free:
                return errno.ENXIO
            self.drop(self.outdated | {number})
            self.outdated.clear()
            self.model[number] = value
            self.free -= 1
        return None

    def drop(self, numbers: set[int]) -> None:
        for number in numbers & self.model.keys():
            del self.model[number]
            self.free += 1


class TestModel:
    @settings(max_examples=80)
    @given(st.sampled_from(STARTS), st.sampled_from([SMALL_SIZE, CONFIG_SIZE]), OPERATIONS)
    def test_an_area_holds_what_was_put_into_it(
        self, start: int | None, size: int, operations: list[Operation]
    ) -> None:
        media = new_media(start, size)
        dimm = Dimm(media)
        expected = FewSlots(dimm.labels.area.nfree)
        for operation in operations:
            number = refusal(lambda operation=operation: dimm.carry_out(operation))
            assert number == expected.carry_out(operation)
            assert contents(media) == plain(expected.model)
            assert {label.uuid.int for label in dimm.labels.labels} == expected.model.keys()
            assert LabelStorage(media).active() == dimm.labels.area.active()
            assert dimm.labels.area.nfree == LabelStorage(media).nfree == expected.free

    @settings(max_examples=20)
    @given(st.sampled_from(STARTS), OPERATIONS)
    def test_only_what_was_cut_off_stays_marked_as_being_updated(
        self, start: int | None, operations: list[Operation]
    ) -> None:
        dimm = Dimm(new_media(start, CONFIG_SIZE))
        for operation in operations:
            dimm.carry_out(operation)
            assert all(label.flags == 0 for label in dimm.labels.area.active())


def use(media: Media) -> None:
    """Do with an area what can be done; only KernelErrors are due."""
    labels = MappingLabels(LabelStorage(media))
    for number in range(5):
        refusal(lambda number=number: update(labels, a_label(number)))
    labels.mark_outdated(UUID(int=1))
    refusal(lambda: update(labels, a_label(9)))
    labels.delete(UUID(int=2))
    labels.keep({label.uuid for label in labels.labels})
    assert 0 <= labels.area.available_slots <= labels.area.nfree
    assert LabelStorage(media).active() == labels.area.active()
    labels.clear()


class TestDamage:
    @settings(max_examples=250)
    @given(label_areas(damaged=True, sizes=(1024, SMALL_SIZE, 1500, 4096), most=100))
    def test_a_damaged_area_is_used_as_far_as_it_goes(self, content: bytes) -> None:
        media = MemoryMedia(len(content))
        media.write(0, content)
        use(media)

    @settings(max_examples=60)
    @given(st.integers(0, 3000), st.randoms(use_true_random=False))
    def test_random_bytes_are_an_area_without_labels(self, size: int, random: Random) -> None:
        media = MemoryMedia(size)
        media.write(0, random.randbytes(size))
        if refusal(lambda: LabelStorage(media)) is None:
            assert LabelStorage(media).current is None
            use(media)
        else:
            assert size < 768


@pytest.mark.parametrize("label_size", [LABEL_SIZE_1_1, LABEL_SIZE_1_2])
@given(before=st.integers(0, 3), count=st.integers(0, 7))
def test_labels_written_together_leave_what_labels_written_one_by_one_do(label_size, before, count):
    labels = [a_label(number) for number in range(1, before + count + 1)]
    areas = [LabelStorage(new_media(label_size, CONFIG_SIZE)) for _ in range(2)]
    for label in labels:
        areas[0].write(label)
    for label in labels[:before]:
        areas[1].write(label)
    write_new_labels(areas[1].media, labels[before:])
    areas[1] = LabelStorage(areas[1].media)
    for _ in range(2):
        assert areas[0].media.read(0, CONFIG_SIZE) == areas[1].media.read(0, CONFIG_SIZE)
        assert areas[0].active() == areas[1].active()
        assert areas[0].write(a_label(99)) == areas[1].write(a_label(99))


@pytest.mark.parametrize("missing", ["index", "free slot"])
def test_labels_written_together_need_a_slot_each(missing):
    area = LabelStorage(new_media(None if missing == "index" else LABEL_SIZE_1_2))
    with pytest.raises(KernelError, match=missing) as refused:
        write_new_labels(area.media, [a_label(number) for number in range(area.nfree + 1)])
    assert refused.value.errno == errno.ENXIO
