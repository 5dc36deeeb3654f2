"""The block translation table."""

from __future__ import annotations

import errno
import hashlib
import itertools
from collections.abc import Callable
from uuid import UUID

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvdimmfs.drivers.btt import Btt, BttConfig
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.btt import (
    ARENA_MIN_SIZE,
    BTT_2_0,
    INFO_FLAG_ERROR,
    LOG_GROUP_SIZE,
    MAP_ENTRY_SIZE,
    MAP_ERROR,
    MAP_NORMAL,
    MAP_ZERO,
    ArenaLayout,
    BttInfoBlock,
    LogEntry,
    arena_is_valid,
    initial_log,
)
from nvdimmfs.formats.info_block import NULL_UUID
from nvdimmfs.media.base import Media
from nvdimmfs.media.memory import MemoryMedia

LBASIZES = [512, 520, 528, 4096, 4104, 4160, 4224]
INITIAL_OFFSET = 4096
SMALLEST = ARENA_MIN_SIZE + INITIAL_OFFSET
UUID_A = UUID("0000000a-aaaa-bbbb-cccc-00000000000a")

#: Arenas of 16 MiB, so that a small namespace has several.
SMALL_ARENAS = {"arena_size": ARENA_MIN_SIZE}
THREE_ARENAS = INITIAL_OFFSET + 3 * ARENA_MIN_SIZE + 12345


def config(lbasize: int = 512, **more: object) -> BttConfig:
    return BttConfig(uuid=UUID_A, lbasize=lbasize, **more)


def filled(sector_size: int, seed: int) -> bytes:
    """A sector's contents that no other seed has."""
    return seed.to_bytes(4, "big") * (sector_size // 4)


def patch_info(media: Media, **changes: object) -> None:
    info = BttInfoBlock.from_bytes(media.read(INITIAL_OFFSET, 4096))
    media.write(INITIAL_OFFSET, attrs.evolve(info, **changes).to_bytes())


def map_at(layout: ArenaLayout, premap: int) -> int:
    """Where a sector's map entry is on media."""
    return INITIAL_OFFSET + layout.mapoff + premap * MAP_ENTRY_SIZE


def log_at(layout: ArenaLayout, lane: int, slot: int = 0) -> int:
    """Where a log entry is on media."""
    return INITIAL_OFFSET + layout.logoff + lane * LOG_GROUP_SIZE + slot * 16


def data_at(layout: ArenaLayout, block: int) -> int:
    """Where a data block is on media."""
    return INITIAL_OFFSET + layout.dataoff + block * layout.internal_lbasize


def words(media: Media, offset: int, count: int = 1) -> list[int]:
    data = media.read(offset, 4 * count)
    return [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]


def put_words(media: Media, offset: int, *numbers: int) -> None:
    media.write(offset, b"".join(number.to_bytes(4, "little") for number in numbers))


def errno_of(call: Callable[[], object]) -> int:
    with pytest.raises(KernelError) as caught:
        call()
    return caught.value.errno


def new_btt(lbasize: int = 512) -> tuple[MemoryMedia, Btt, ArenaLayout]:
    media = MemoryMedia(SMALLEST)
    btt = Btt.open(media, config(lbasize))
    return media, btt, btt.layouts[0]


class TestDisk:
    """Sectors keep what is written to them."""

    @pytest.mark.parametrize("lbasize", LBASIZES)
    def test_its_size_is_what_the_arenas_offer(self, lbasize: int) -> None:
        btt = Btt.open(MemoryMedia(THREE_ARENAS), config(lbasize, **SMALL_ARENAS))
        assert btt.sector_size == (512 if lbasize < 4096 else 4096)
        assert btt.nlba == sum(layout.external_nlba for layout in btt.layouts)
        assert btt.size == btt.nlba * btt.sector_size
        assert len(btt.layouts) == 3

    @settings(max_examples=60)
    @given(st.data())
    def test_sectors_are_what_was_last_written_across_reopening(self, data: st.DataObject) -> None:
        lbasize = data.draw(st.sampled_from(LBASIZES))
        setup = config(lbasize, **SMALL_ARENAS)
        media = MemoryMedia(THREE_ARENAS)
        btt = Btt.open(media, setup)
        starts = [layout.external_lba_start for layout in btt.layouts] + [btt.nlba]
        near_seams = st.builds(
            lambda seam, shift: min(max(seam + shift, 0), btt.nlba - 8), st.sampled_from(starts), st.integers(-9, 9)
        )
        model: dict[int, bytes] = {}
        seeds = itertools.count(1)
        for lba in data.draw(st.lists(near_seams, max_size=25)):
            count = data.draw(st.integers(1, 8))
            if data.draw(st.integers(0, 9)) == 0:
                btt = Btt.open(media, setup)
            sectors = {lba + i: filled(btt.sector_size, next(seeds)) for i in range(count)}
            btt.write_sectors(lba, b"".join(sectors.values()))
            model |= sectors
        btt = Btt.open(media, setup)
        for lba, content in model.items():
            assert btt.read_sectors(lba, 1) == content
        for seam in starts:
            first = max(seam - 20, 0)
            count = min(40, btt.nlba - first)
            expected = [model.get(lba, bytes(btt.sector_size)) for lba in range(first, first + count)]
            assert btt.read_sectors(first, count) == b"".join(expected)

    @settings(max_examples=60)
    @given(
        st.sampled_from([512, 520, 4096, 4160]),
        st.lists(st.tuples(st.integers(0, 20000), st.binary(min_size=0, max_size=9000)), max_size=8),
    )
    def test_bytes_at_any_offset_are_what_was_last_written(self, lbasize: int, writes: list[tuple[int, bytes]]) -> None:
        _, btt, _ = new_btt(lbasize)
        model = bytearray(32768)
        base = btt.size - len(model)
        for offset, data in writes:
            btt.write(base + offset, data)
            model[offset : offset + len(data)] = data
            assert btt.read(base + offset, len(data)) == data
        assert btt.read(base, len(model)) == model

    def test_the_last_byte_can_be_written(self) -> None:
        _, btt, _ = new_btt()
        btt.write(btt.size - 1, b"z")
        assert btt.read(btt.size - 2, 2) == b"\0z"
        assert btt.read(btt.size, 0) == b""

    @pytest.mark.parametrize(("past_end", "length"), [(0, 1), (-5, 6)])
    def test_bytes_outside_are_a_bug(self, past_end: int, length: int) -> None:
        _, btt, _ = new_btt()
        with pytest.raises(ValueError, match="do not lie on a disk"):
            btt.read(btt.size + past_end, length)
        with pytest.raises(ValueError, match="do not lie on a disk"):
            btt.write(btt.size + past_end, bytes(length))

    def test_sectors_outside_give_eio(self) -> None:
        _, btt, _ = new_btt()
        assert errno_of(lambda: btt.read_sectors(btt.nlba, 1)) == errno.EIO
        assert errno_of(lambda: btt.write_sectors(btt.nlba - 1, bytes(1024))) == errno.EIO

    def test_part_of_a_sector_is_a_bug(self) -> None:
        _, btt, _ = new_btt()
        with pytest.raises(ValueError, match="100 bytes are no multiple of 512"):
            btt.write_sectors(0, bytes(100))

    def test_sectors_never_written_show_what_the_namespace_held(self) -> None:
        media = MemoryMedia(SMALLEST)
        media.write(2 * INITIAL_OFFSET + 512, filled(512, 9))
        assert Btt.open(media, config()).read_sectors(1, 1) == filled(512, 9)

    def test_flush_reaches_the_medium(self) -> None:
        flushed: list[bool] = []

        class Flushed(MemoryMedia):
            def flush(self) -> None:
                flushed.append(True)

        Btt.open(Flushed(SMALLEST), config()).flush()
        assert flushed == [True]


class TestMedium:
    """What lies on the medium."""

    def test_a_new_layout_is_written_in_the_kernels_order(self) -> None:
        log: list[tuple[str, int, int]] = []

        class Recorder(MemoryMedia):
            def write(self, offset: int, data: bytes | memoryview) -> None:
                log.append(("write", offset, len(data)))
                super().write(offset, data)

            def zero(self, offset: int, length: int) -> None:
                log.append(("zero", offset, length))
                super().zero(offset, length)

        layout = Btt.open(Recorder(SMALLEST), config()).layouts[0]
        base = INITIAL_OFFSET
        assert log == [
            ("zero", base + layout.mapoff, layout.logoff - layout.mapoff),
            ("zero", base + layout.logoff, 16384),
            ("write", base + layout.logoff, 16384),
            ("write", base + layout.info2off, 4096),
            ("write", base, 4096),
        ]

    def test_a_new_layout_replaces_what_was_there(self) -> None:
        media = MemoryMedia(SMALLEST)
        media.write(INITIAL_OFFSET, b"\xa5" * ARENA_MIN_SIZE)
        layout = Btt.open(media, config(parent_uuid=UUID(int=5))).layouts[0]
        block = media.read(INITIAL_OFFSET, 4096)
        assert arena_is_valid(block, UUID(int=5))
        assert BttInfoBlock.from_bytes(block).uuid == UUID_A
        assert media.read(INITIAL_OFFSET + layout.info2off, 4096) == block
        assert media.read(log_at(layout, 0), 16384) == initial_log(layout.external_nlba)
        assert media.read(map_at(layout, 0), layout.logoff - layout.mapoff) == bytes(layout.logoff - layout.mapoff)

    def test_a_namespace_without_a_label_has_no_parent(self) -> None:
        media, _, _ = new_btt()
        assert BttInfoBlock.from_bytes(media.read(INITIAL_OFFSET, 4096)).parent_uuid == NULL_UUID

    def test_version_2_0_starts_at_the_namespaces_first_byte(self) -> None:
        media = MemoryMedia(ARENA_MIN_SIZE)
        Btt.attach(media, config(version=BTT_2_0))
        info = BttInfoBlock.from_bytes(media.read(0, 4096))
        assert (info.version_major, info.version_minor) == (2, 0)

    def test_opening_again_writes_nothing(self) -> None:
        media, btt, _ = new_btt()
        btt.write_sectors(3, filled(512, 1))
        before = media.read(0, SMALLEST)
        found = Btt.open(media, config(read_only=True))
        assert media.read(0, SMALLEST) == before
        assert (found.nlba, found.read_sectors(3, 1)) == (btt.nlba, filled(512, 1))

    def test_the_layout_on_media_wins_over_the_uuid_asked_for(self) -> None:
        media, _, _ = new_btt()
        Btt.open(media, attrs.evolve(config(), uuid=UUID(int=99)))
        assert BttInfoBlock.from_bytes(media.read(INITIAL_OFFSET, 4096)).uuid == UUID_A

    def test_a_write_moves_the_sector_to_the_free_block(self) -> None:
        media, btt, layout = new_btt()
        free = layout.external_nlba
        btt.write_sectors(7, filled(512, 1))
        assert media.read(data_at(layout, free), 512) == filled(512, 1)
        assert words(media, log_at(layout, 0, 1), 4) == [7, 7, free, 2]
        assert words(media, map_at(layout, 7)) == [MAP_NORMAL | free]
        btt.write_sectors(9, filled(512, 2))
        assert media.read(data_at(layout, 7), 512) == filled(512, 2)
        assert words(media, log_at(layout, 0, 0), 4) == [9, 9, 7, 3]
        assert words(media, map_at(layout, 9)) == [MAP_NORMAL | 7]
        btt.write_sectors(7, filled(512, 3))
        assert words(media, log_at(layout, 0, 1), 4) == [7, free, 9, 1]

    @pytest.mark.parametrize(
        ("number", "lbasize", "digest"),
        [
            (0, 512, "e738cca9256f26b01cd6aa4ceec7e40c4552960c3fbe24e5609be824bdb95242"),
            (1, 520, "5e178115f0ee1318f7911985236201d5c8e5ef233f542875d2d1f6e36af69403"),
            (2, 4096, "7b1002e845cf4b30005cfdcd889cc39eed198a6901ec165e162e0ee19b4ed9b4"),
            (3, 4160, "d0b5af006a1dd3169c57952c4a9f8a2f189fc8ed6e152ab2917bb70ac725773b"),
        ],
    )
    def test_a_real_kernel_left_the_same_20_mib(self, number: int, lbasize: int, digest: str) -> None:
        """The same writes on a 6.1 kernel with one CPU, each an O_DIRECT pwrite; then the raw namespace was read."""

        def pattern(seed: int, length: int) -> bytes:
            return bytes((seed * 37 + i * 11 + (i >> 8) * 5) & 255 for i in range(length))

        media = MemoryMedia(20 << 20)
        uuid = UUID(f"0000000{number}-aaaa-bbbb-cccc-00000000000{number}")
        btt = Btt.attach(media, BttConfig(uuid=uuid, lbasize=lbasize))
        last = btt.nlba - 1
        sectors = [(2, 1), (2, 1), (7, 1), (0, 1), (100, 8), (last, 1), (2, 1), (103, 2)]
        for seed, (lba, count) in enumerate(sectors, 1):
            btt.write_sectors(lba, pattern(seed, count * btt.sector_size))
        assert hashlib.sha256(media.read(0, media.size)).hexdigest() == digest

    def test_metadata_between_sectors_is_left_alone(self) -> None:
        media, btt, layout = new_btt(520)
        media.write(data_at(layout, layout.external_nlba) + 512, b"metadata")
        btt.write_sectors(0, b"\xff" * 512)
        assert media.read(data_at(layout, layout.external_nlba) + 512, 8) == b"metadata"

    def test_a_petabyte_opens_at_once(self) -> None:
        media = MemoryMedia(1 << 50)
        btt = Btt.open(media, config(4096))
        assert len(btt.layouts) == 2048
        btt.write_sectors(btt.nlba - 1, filled(4096, 1))
        again = Btt.open(media, config(4096))
        assert again.read_sectors(again.nlba - 2, 2) == bytes(4096) + filled(4096, 1)


class TestRefusals:
    """Namespaces that hold no usable BTT."""

    def test_16_mib_must_follow_the_initial_offset(self) -> None:
        assert errno_of(lambda: Btt.attach(MemoryMedia(SMALLEST - 1), config())) == errno.ENXIO
        assert Btt.attach(MemoryMedia(SMALLEST), config()).nlba > 0

    def test_a_read_only_region_gets_no_layout(self) -> None:
        media = MemoryMedia(SMALLEST)
        assert errno_of(lambda: Btt.open(media, config(read_only=True))) == errno.ENOMEM
        assert errno_of(lambda: Btt.attach(media, config(read_only=True))) == errno.ENOMEM
        assert media.resident == 0

    def test_a_foreign_parent_means_a_new_layout(self) -> None:
        media = MemoryMedia(SMALLEST)
        Btt.open(media, config(parent_uuid=UUID(int=1))).write_sectors(0, filled(512, 1))
        assert Btt.open(media, config(parent_uuid=UUID(int=1))).read_sectors(0, 1) == filled(512, 1)
        Btt.open(media, config(parent_uuid=UUID(int=2)))
        assert BttInfoBlock.from_bytes(media.read(INITIAL_OFFSET, 4096)).parent_uuid == UUID(int=2)

    @pytest.mark.parametrize(
        ("changes", "number"),
        [
            ({"nfree": 255}, errno.ENODEV),
            ({"nextoff": 8192}, errno.ENODEV),
            ({"nextoff": 2 * ARENA_MIN_SIZE}, errno.EFAULT),
            ({"nfree": 2**32 - 1}, errno.EFAULT),
            ({"logoff": 4096}, errno.ENXIO),
        ],
    )
    def test_a_valid_block_with_wrong_numbers(self, changes: dict[str, int], number: int) -> None:
        media, _, _ = new_btt()
        patch_info(media, **changes)
        before = media.read(0, SMALLEST)
        assert errno_of(lambda: Btt.open(media, config())) == number
        assert errno_of(lambda: Btt.attach(media, config())) == errno.ENOMEM
        assert media.read(0, SMALLEST) == before

    def test_a_second_arena_must_be_valid(self) -> None:
        media = MemoryMedia(THREE_ARENAS)
        Btt.open(media, config(**SMALL_ARENAS))
        media.zero(INITIAL_OFFSET + ARENA_MIN_SIZE, 4096)
        assert errno_of(lambda: Btt.open(media, config(**SMALL_ARENAS))) == errno.ENODEV

    @pytest.mark.parametrize(
        ("slot", "entry", "number"),
        [
            (1, LogEntry(0, 0, 0, 1), errno.EIO),
            (1, LogEntry(0, 0, 0, 5), errno.EIO),
            (3, LogEntry(0, 0, 0, 1), errno.ENXIO),
        ],
    )
    def test_a_corrupt_log(self, slot: int, entry: LogEntry, number: int) -> None:
        media, _, layout = new_btt()
        media.write(log_at(layout, 9, slot), entry.to_bytes())
        assert errno_of(lambda: Btt.open(media, config())) == number

    def test_an_arena_with_the_error_flag_takes_no_writes(self) -> None:
        media, btt, _ = new_btt()
        btt.write_sectors(1, filled(512, 1))
        patch_info(media, flags=INFO_FLAG_ERROR)
        btt = Btt.open(media, config())
        assert btt.read_sectors(1, 1) == filled(512, 1)
        assert errno_of(lambda: btt.write_sectors(1, filled(512, 2))) == errno.EIO
        assert btt.read_sectors(1, 1) == filled(512, 1)


class TestRecovery:
    """Opening finishes what was under way."""

    def test_a_logged_write_is_finished(self) -> None:
        media, btt, layout = new_btt()
        block = layout.external_nlba + 5
        media.write(data_at(layout, block), filled(512, 7))
        media.write(log_at(layout, 5, 1), LogEntry(2, 2, block, 2).to_bytes())
        btt = Btt.open(media, config())
        assert btt.read_sectors(2, 1) == filled(512, 7)
        assert words(media, map_at(layout, 2)) == [MAP_NORMAL | block]

    def test_half_a_log_entry_counts_for_nothing(self) -> None:
        media, btt, layout = new_btt()
        btt.write_sectors(9, filled(512, 1))
        put_words(media, log_at(layout, 6, 1), 9, layout.external_nlba)
        btt = Btt.open(media, config())
        assert btt.read_sectors(9, 1) == filled(512, 1)

    def test_a_write_overtaken_by_another_lane_is_left_alone(self) -> None:
        media, btt, layout = new_btt()
        btt.write_sectors(2, filled(512, 1))
        media.write(log_at(layout, 5, 1), LogEntry(2, 2, layout.external_nlba + 5, 2).to_bytes())
        assert Btt.open(media, config()).read_sectors(2, 1) == filled(512, 1)

    def test_the_log_of_a_kernel_before_4_15_is_continued(self) -> None:
        media, btt, layout = new_btt()
        btt.write_sectors(2, filled(512, 1))
        entry = media.read(log_at(layout, 0, 1), 16)
        media.write(log_at(layout, 0, 1), bytes(16) + entry)
        btt = Btt.open(media, config())
        btt.write_sectors(3, filled(512, 2))
        btt.write_sectors(4, filled(512, 3))
        assert words(media, log_at(layout, 0, 2), 4) == [4, 4, 3, 1]
        assert media.read(log_at(layout, 0, 1), 16) == bytes(16)
        assert Btt.open(media, config()).read_sectors(2, 3) == b"".join(filled(512, seed) for seed in (1, 2, 3))

    def test_a_free_block_known_to_be_bad_is_cleared(self) -> None:
        media, _, layout = new_btt()
        block = layout.external_nlba + 7
        media.write(data_at(layout, 60), filled(512, 1))
        media.write(log_at(layout, 7, 1), LogEntry(60, 60 | MAP_ERROR, block, 2).to_bytes())
        put_words(media, map_at(layout, 60), MAP_NORMAL | block)
        Btt.open(media, config())
        assert media.read(data_at(layout, 60), 512) == bytes(512)


class TestMapStates:
    """Sectors that are zero, in error, or mapped to nowhere."""

    def test_a_zeroed_sector_reads_as_zeros_until_written(self) -> None:
        media, btt, layout = new_btt()
        media.write(data_at(layout, 50), filled(512, 1) * 3)
        put_words(media, map_at(layout, 51), MAP_ZERO | 51)
        assert btt.read_sectors(50, 2) == filled(512, 1) + bytes(512)
        btt.write_sectors(51, filled(512, 2))
        assert btt.read_sectors(51, 1) == filled(512, 2)

    def test_a_zeroed_sector_ends_the_read_of_its_page(self) -> None:
        """What a 6.1 kernel read (the recording e820/blocks/btt-zero-flag), and the same from a later sector on."""
        media, btt, layout = new_btt()
        one = filled(512, 1)
        media.write(data_at(layout, 8), one * 24)
        put_words(media, map_at(layout, 8), MAP_ZERO)
        put_words(media, map_at(layout, 19), MAP_ZERO)
        put_words(media, map_at(layout, 21), MAP_ERROR | 21)  # never read, so no error
        assert btt.read_sectors(8, 24) == bytes(8 * 512) + one * 3 + bytes(5 * 512) + one * 8
        assert btt.read_sectors(9, 16) == one * 8 + one * 2 + bytes(6 * 512)
        assert errno_of(lambda: btt.read_sectors(20, 8)) == errno.EIO

    def test_the_page_that_a_zeroed_sector_ends_can_lie_in_two_arenas(self) -> None:
        media = MemoryMedia(THREE_ARENAS)
        btt = Btt.open(media, config(**SMALL_ARENAS))
        first = btt.layouts[0]
        last = first.external_nlba - 1
        btt.write_sectors(last, filled(512, 1) * 2)
        put_words(media, map_at(first, last), MAP_ZERO)
        assert btt.read_sectors(last, 9) == bytes(9 * 512)
        assert btt.read_sectors(last + 1, 1) == filled(512, 1)

    def test_a_sector_in_error_gives_eio_until_written(self) -> None:
        media, btt, layout = new_btt()
        put_words(media, map_at(layout, 50), MAP_ERROR | 50)
        media.write(data_at(layout, 50), filled(512, 9))
        assert errno_of(lambda: btt.read_sectors(49, 3)) == errno.EIO
        assert errno_of(lambda: btt.write(50 * 512 + 1, b"part")) == errno.EIO
        btt.write_sectors(50, filled(512, 1))
        assert btt.read_sectors(50, 1) == filled(512, 1)
        # The log makes a later recovery find the bad block, which was cleared with zeros.
        assert words(media, log_at(layout, 0, 1), 4) == [50, 50 | MAP_ERROR, layout.external_nlba, 2]
        assert media.read(data_at(layout, 50), 512) == bytes(512)

    @pytest.mark.parametrize("block", [0x3FFF_FFF0, 10**8])
    def test_a_map_entry_to_nowhere_is_marked_as_error(self, block: int) -> None:
        media, btt, layout = new_btt()
        put_words(media, map_at(layout, 70), MAP_NORMAL | block)
        assert errno_of(lambda: btt.read_sectors(69, 3)) == errno.EIO
        assert words(media, map_at(layout, 69), 3) == [0, MAP_ERROR | block, 0]
        assert errno_of(lambda: btt.write_sectors(70, filled(512, 1))) == errno.EIO
        btt.write_sectors(71, filled(512, 2))
        assert btt.read_sectors(71, 1) == filled(512, 2)


class FakeBadblocks:
    """Bad 512-byte sectors, of which some stay so."""

    def __init__(self, *bad: int, stubborn: bool = False) -> None:
        self.bad = set(bad)
        self.stubborn = stubborn

    def __bool__(self) -> bool:
        return bool(self.bad)

    def overlaps(self, offset: int, length: int) -> bool:
        return not self.bad.isdisjoint(range(offset // 512, (offset + length - 1) // 512 + 1))

    def clear(self, offset: int, length: int) -> bool:
        sectors = range(offset // 512, (offset + length) // 512)
        if self.stubborn:
            return self.bad.isdisjoint(sectors)
        self.bad.difference_update(sectors)
        return True


class TestBadblocks:
    """Parts of the medium that cannot be read."""

    def open(self, *blocks: int, stubborn: bool = False) -> tuple[MemoryMedia, Btt, ArenaLayout, FakeBadblocks]:
        media, _, layout = new_btt()
        bad = FakeBadblocks(*(data_at(layout, block) // 512 for block in blocks), stubborn=stubborn)
        return media, Btt.open(media, config(), bad), layout, bad

    def test_reading_one_marks_its_sector_only(self) -> None:
        media, btt, layout, _ = self.open(20)
        assert errno_of(lambda: btt.read_sectors(18, 5)) == errno.EIO
        assert words(media, map_at(layout, 18), 5) == [0, 0, MAP_ERROR | 20, 0, 0]
        assert btt.read_sectors(18, 2) == bytes(1024)

    def test_writing_its_sector_moves_it_and_clears_the_block(self) -> None:
        _, btt, _, bad = self.open(20)
        assert errno_of(lambda: btt.read_sectors(20, 1)) == errno.EIO
        btt.write_sectors(20, filled(512, 1))
        assert bad.bad == set()
        assert btt.read_sectors(20, 1) == filled(512, 1)

    def test_a_bad_free_block_is_cleared_before_use(self) -> None:
        layout = new_btt()[2]
        _, btt, _, bad = self.open(layout.external_nlba)
        btt.write_sectors(3, filled(512, 1) * 2)
        assert bad.bad == set()
        assert btt.read_sectors(3, 2) == filled(512, 1) * 2

    def test_a_free_block_that_stays_bad_refuses_writes(self) -> None:
        layout = new_btt()[2]
        _, btt, _, _ = self.open(layout.external_nlba, stubborn=True)
        assert errno_of(lambda: btt.write_sectors(3, filled(512, 1))) == errno.EIO

    @pytest.mark.parametrize("part", ["infooff", "logoff"])
    def test_a_bad_info_block_or_log_stops_everything(self, part: str) -> None:
        media, _, layout = new_btt()
        bad = FakeBadblocks((INITIAL_OFFSET + getattr(layout, part)) // 512)
        assert errno_of(lambda: Btt.open(media, config(), bad)) == errno.EIO
        assert errno_of(lambda: Btt.attach(media, config(), bad)) == errno.ENOMEM

    def test_a_new_layout_clears_what_it_overwrites(self) -> None:
        layout = new_btt()[2]
        places = (map_at(layout, 0), log_at(layout, 30), INITIAL_OFFSET + layout.info2off)
        bad = FakeBadblocks(*(place // 512 for place in places))
        Btt.open(MemoryMedia(SMALLEST), config(), bad)
        assert bad.bad == set()
