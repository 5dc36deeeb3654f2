"""The labels of a DIMM when the process ends, or the host refuses, at any point."""

from __future__ import annotations

import errno
import itertools
import random

import pytest
from hypothesis import example, given, settings
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
    Rename,
    Update,
    a_label,
    after,
    contents,
    new_media,
    plain,
    update,
)
from media_copies import copy_of

from nvdimmfs.formats.label import LABEL_SIZE_1_2
from nvdimmfs.media.memory import MemoryMedia
from nvdimmfs.nd.label import LabelStorage, MappingLabels, init_label_area


class CrashError(Exception):
    """The process has ended."""


class CrashingMedia(MemoryMedia):
    """Ends the process after so many steps: eight aligned bytes each, of which a write has many, in any order."""

    def __init__(self, media: MemoryMedia, steps: int, order: random.Random | None = None) -> None:
        super().__init__(media.size)
        self.media = media
        self.steps = steps
        self.order = order

    def read(self, offset: int, length: int) -> bytes:
        return self.media.read(offset, length)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        starts = list(range(0, len(data), 8))
        if self.order:
            self.order.shuffle(starts)
        for start in starts:
            if self.steps == 0:
                raise CrashError
            self.steps -= 1
            self.media.write(offset + start, data[start : start + 8])


#: Each kind of change, and enough of them for every slot of a small area to be used again.
CHANGES: tuple[Operation, ...] = (
    Update(1, 1, b"one"),
    Update(2, 2, b""),
    Update(1, 3, b"longer"),
    Rename(1, 5),
    Delete(2),
    Update(3, 1, b"x" * 64),
    Delete(5),
    Update(3, 2, b""),
)


class TestCrash:
    """A process that ends between, or within, any two writes to the area."""

    @pytest.mark.no_cover  # many times what other tests cover
    @pytest.mark.parametrize("start", STARTS)
    @pytest.mark.parametrize("shuffled", [False, True])
    def test_at_every_point_the_old_or_the_new_labels_are_found(self, start: int | None, shuffled: bool) -> None:
        media = new_media(start, SMALL_SIZE, b"\x5a" * SMALL_SIZE if start is None else b"")
        model: Model = {}
        for operation in CHANGES:
            following = after(model, operation)
            outcomes = set()
            for steps in itertools.count():
                cut_off = copy_of(media)
                order = random.Random(steps) if shuffled else None
                try:
                    Dimm(CrashingMedia(cut_off, steps, order)).carry_out(operation)
                except CrashError:
                    found = contents(cut_off)
                    assert found in (plain(model), plain(following))
                    outcomes.add(found == plain(following))
                    # Whatever was left behind, the change can be made from there.
                    again = Dimm(cut_off)
                    if found == plain(model):
                        again.carry_out(operation)
                    assert contents(cut_off) == plain(following)
                else:
                    break
            assert False in outcomes
            Dimm(media).carry_out(operation)
            model = following
            assert contents(media) == plain(model)

    @settings(max_examples=60)
    @given(
        st.sampled_from(STARTS),
        st.lists(st.tuples(st.integers(0, 300), OPERATIONS), min_size=1, max_size=6),
        st.randoms(use_true_random=False),
    )
    def test_crashes_upon_crashes_lose_nothing(
        self, start: int | None, lives: list[tuple[int, list[Operation]]], order: random.Random
    ) -> None:
        media = new_media(start, 512 + 12 * LABEL_SIZE_1_2)
        model: Model = {}
        for steps, operations in lives:
            dimm = Dimm(CrashingMedia(media, steps, order))
            for operation in operations:
                following = after(model, operation)
                try:
                    dimm.carry_out(operation)
                except CrashError:
                    found = contents(media)
                    assert found in (plain(model), plain(following))
                    model = following if found == plain(following) else model
                    break
                model = following
            assert contents(media) == plain(model)

    def test_initialising_by_ndctl_can_be_cut_off(self) -> None:
        pristine = new_media(LABEL_SIZE_1_2)
        update(MappingLabels(LabelStorage(pristine)), a_label(1))
        for steps in range(64):
            media = copy_of(pristine)
            with pytest.raises(CrashError):
                init_label_area(CrashingMedia(media, steps))
            assert contents(media) in ({}, {1: (MIB, b"")})


class FullMedia(MemoryMedia):
    """A host without space for some of the writes; half of each is there all the same."""

    refusals: frozenset[int] = frozenset()
    count = 0

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self.count += 1
        if self.count in self.refusals:
            super().write(offset, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(offset, data)


@example(None, [Update(3, 1, b"name"), Rename(3, 1), Update(1, 1, b"name")], frozenset({4, 7}))
@settings(max_examples=60)
@given(st.sampled_from(STARTS), OPERATIONS, st.frozensets(st.integers(1, 60), max_size=8))
def test_a_full_host_fails_changes_but_loses_no_label(
    start: int | None, operations: list[Operation], refusals: frozenset[int]
) -> None:
    media = FullMedia(CONFIG_SIZE)
    if start:
        init_label_area(media, start)
    media.count, media.refusals = 0, refusals
    dimm = Dimm(media)
    model: Model = {}
    outdated: set[int] = set()
    for operation in operations:
        following = after(model, operation)
        try:
            dimm.carry_out(operation)
        except OSError:
            found = contents(media)
            assert found in (plain(model), plain(following))
            if isinstance(operation, Rename) and found == plain(model):
                outdated.add(operation.number)
            model = following if found == plain(following) else model
        else:
            # A change of uuid that was refused leaves the mark on the old label (Linux 6.1): the next write frees it.
            freed = outdated - contents(media).keys()
            model = {number: label for number, label in following.items() if number not in freed}
            outdated -= freed
        assert contents(media) == plain(model)
        assert LabelStorage(media).active() == dimm.labels.area.active()
