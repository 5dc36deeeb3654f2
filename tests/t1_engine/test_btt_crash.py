"""The block translation table when the process ends, or the host refuses, at any point."""

from __future__ import annotations

import contextlib
import errno
import itertools
import random
from collections.abc import Iterable, Iterator
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_copies import copy_of

from nvdimmfs.drivers.btt import Btt, BttConfig
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.btt import ARENA_MIN_SIZE
from nvdimmfs.media.base import Media
from nvdimmfs.media.memory import MemoryMedia

LBASIZES = [512, 520, 528, 4096, 4104, 4160, 4224]
INITIAL_OFFSET = 4096
SMALLEST = ARENA_MIN_SIZE + INITIAL_OFFSET

#: Arenas of 16 MiB, so that a small namespace has several.
SMALL_ARENAS = {"arena_size": ARENA_MIN_SIZE}
THREE_ARENAS = INITIAL_OFFSET + 3 * ARENA_MIN_SIZE + 12345


def config(lbasize: int = 512, **more: object) -> BttConfig:
    return BttConfig(uuid=UUID(int=10), lbasize=lbasize, **more)


def filled(sector_size: int, seed: int) -> bytes:
    """A sector's contents that no other seed has."""
    return seed.to_bytes(4, "big") * (sector_size // 4)


class CrashError(Exception):
    """The process has ended."""


class CrashingMedia(Media):
    """Ends the process after so many steps, in the middle of a write if it comes to that.

    A step is what a power cut does not tear: eight aligned bytes, of which a write has many.
    """

    def __init__(self, media: Media, steps: int, order: random.Random | None = None) -> None:
        self.media = media
        self.steps = steps
        self.order = order

    @property
    def size(self) -> int:
        return self.media.size

    def read(self, offset: int, length: int) -> bytes:
        return self.media.read(offset, length)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        atoms = [(start, min(start + 8 - (offset + start) % 8, len(data))) for start in _starts(offset, len(data))]
        if self.order:
            self.order.shuffle(atoms)
        for start, end in atoms:
            self._step()
            self.media.write(offset + start, data[start:end])

    def zero(self, offset: int, length: int) -> None:
        self._step()
        self.media.zero(offset, length // 2)
        self._step()
        self.media.zero(offset, length)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _step(self) -> None:
        if self.steps == 0:
            raise CrashError
        self.steps -= 1


def _starts(offset: int, length: int) -> Iterator[int]:
    """Where the aligned eights of a range begin, relative to it."""
    start = 0
    while start < length:
        yield start
        start += 8 - (offset + start) % 8


def write_until_crash(
    btt: Btt, writes: Iterable[tuple[int, bytes]], model: dict[int, bytes]
) -> tuple[int, bytes] | None:
    """Carry out writes of one sector each, noting in the model what returned; the one that crashed, if any."""
    for lba, content in writes:
        try:
            btt.write_sectors(lba, content)
        except CrashError:
            return lba, content
        model[lba] = content
    return None


def settle(btt: Btt, model: dict[int, bytes], pending: tuple[int, bytes] | None) -> None:
    """Check every sector; the pending one may have either content, and has it in the model afterwards."""
    if pending:
        lba, content = pending
        found = btt.read_sectors(lba, 1)
        assert found in (content, model.get(lba, bytes(btt.sector_size)))
        model[lba] = found
    for lba, content in model.items():
        assert btt.read_sectors(lba, 1) == content


class TestCrash:
    """A process that ends between, or within, any two writes to the medium."""

    #: Sectors in an order that reuses blocks, writes sectors again, and comes back to the lane's both log entries.
    LBAS = (0, 1, 1, 0, 5, 0, 2)

    def writes(self, sector_size: int, first_seed: int = 1) -> list[tuple[int, bytes]]:
        return [(lba, filled(sector_size, seed)) for seed, lba in enumerate(self.LBAS, first_seed)]

    @pytest.mark.no_cover  # many times what other tests cover
    @pytest.mark.parametrize("shuffled", [False, True])
    def test_every_sector_is_whole_and_none_is_lost(self, shuffled: bool) -> None:
        pristine = MemoryMedia(SMALLEST)
        btt = Btt.open(pristine, config())
        model: dict[int, bytes] = {}
        assert write_until_crash(btt, self.writes(512, 100), model) is None
        for steps in itertools.count():
            media, after = copy_of(pristine), dict(model)
            crashing = CrashingMedia(media, steps, random.Random(steps) if shuffled else None)
            pending = write_until_crash(Btt.open(crashing, config()), self.writes(512), after)
            again = Btt.open(media, config())
            settle(again, after, pending)
            write_until_crash(again, self.writes(512, 200), after)
            settle(again, after, None)
            if pending is None:
                break
        assert steps == len(self.LBAS) * (64 + 2 + 1)

    @settings(max_examples=40)
    @given(
        st.sampled_from(LBASIZES),
        st.lists(
            st.tuples(st.integers(0, 2000), st.lists(st.integers(0, 5), min_size=1, max_size=9)), min_size=1, max_size=6
        ),
        st.randoms(use_true_random=False),
    )
    def test_crashes_upon_crashes_lose_nothing(
        self, lbasize: int, lives: list[tuple[int, list[int]]], order: random.Random
    ) -> None:
        media, setup = MemoryMedia(THREE_ARENAS), config(lbasize, **SMALL_ARENAS)
        btt = Btt.open(media, setup)
        seams = [0, 1, btt.layouts[1].external_lba_start - 1, btt.layouts[1].external_lba_start, btt.nlba - 1, 7]
        model: dict[int, bytes] = {}
        seeds = itertools.count(1)
        for steps, choices in lives:
            writes = [(seams[choice], filled(btt.sector_size, next(seeds))) for choice in choices]
            pending = None
            # When the process ends while recovering, nothing is pending that was not before.
            with contextlib.suppress(CrashError):
                pending = write_until_crash(Btt.open(CrashingMedia(media, steps, order), setup), writes, model)
            settle(Btt.open(media, setup), model, pending)

    def test_recovery_can_be_interrupted_too(self) -> None:
        pristine = MemoryMedia(SMALLEST)
        btt = Btt.open(pristine, config())
        model: dict[int, bytes] = {}
        write_until_crash(btt, self.writes(512, 100), model)
        pending = None
        for steps in range(64 + 2, 64 + 4):
            media, after = copy_of(pristine), dict(model)
            pending = write_until_crash(Btt.open(CrashingMedia(media, steps), config()), [(1, filled(512, 1))], after)
            try:
                Btt.open(CrashingMedia(media, 0), config())
            except CrashError:
                assert steps == 64 + 2  # The log is written and the map is not: the only case that needs a write.
            else:
                assert steps == 64 + 3
            settle(Btt.open(media, config()), after, pending)
            assert after[1] == filled(512, 1)

    @pytest.mark.no_cover  # many times what other tests cover
    def test_making_the_layout_can_be_interrupted(self) -> None:
        whole = CrashingMedia(MemoryMedia(SMALLEST), 10**6)
        Btt.open(whole, config())
        total = 10**6 - whole.steps
        for steps in [*range(0, total, 97), *range(total - 3, total)]:
            media = MemoryMedia(SMALLEST)
            media.write(INITIAL_OFFSET, b"\x5a" * 10000)
            with pytest.raises(CrashError):
                Btt.open(CrashingMedia(media, steps), config())
            btt = Btt.open(media, config())
            model: dict[int, bytes] = {}
            write_until_crash(btt, self.writes(512), model)
            settle(Btt.open(media, config()), model, None)

    def test_a_later_arena_never_made_is_corrupt_metadata(self) -> None:
        media = MemoryMedia(THREE_ARENAS)
        with pytest.raises(CrashError):
            Btt.open(CrashingMedia(media, 2048 + 2 * 512 + 8), config(**SMALL_ARENAS))
        with pytest.raises(KernelError) as caught:
            Btt.open(media, config(**SMALL_ARENAS))
        assert caught.value.errno == errno.ENODEV


class FullMedia(MemoryMedia):
    """A host without space for some of the writes."""

    refusals: frozenset[int] = frozenset()
    count = 0

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self.count += 1
        if self.count in self.refusals:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(offset, data)


@settings(max_examples=80)
@given(st.frozensets(st.integers(1, 60), max_size=8))
def test_a_full_host_fails_writes_but_harms_no_sector(refusals: frozenset[int]) -> None:
    media = FullMedia(SMALLEST)
    btt = Btt.open(media, config())
    media.count, media.refusals = 0, refusals
    possible: dict[int, set[bytes]] = {}
    for seed, lba in enumerate((0, 1, 1, 0, 5, 0, 2, 3, 0, 1, 5), 1):
        content = filled(512, seed)
        try:
            btt.write_sectors(lba, content)
        except OSError:
            possible.setdefault(lba, {bytes(512)}).add(content)
        else:
            possible[lba] = {content}
    media.refusals = frozenset()
    for disk in (btt, Btt.open(media, config())):
        for lba, contents in possible.items():
            assert disk.read_sectors(lba, 1) in contents
