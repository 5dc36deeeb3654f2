"""BTT layouts, map entries and logs."""

from __future__ import annotations

import errno
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.btt import (
    ARENA_MAX_SIZE,
    ARENA_MIN_SIZE,
    BTT_1_1,
    BTT_2_0,
    LOG_ENTRY_SIZE,
    LOG_GROUP_SIZE,
    MAP_ENTRY_SIZE,
    MAP_ERROR,
    MAP_NORMAL,
    MAP_ZERO,
    ArenaLayout,
    BttVersion,
    LogEntry,
    MapEntry,
    arena_layout,
    arena_layouts,
    initial_log,
    log_slots,
    newer_entry,
    sector_size_of,
)
from nvdimmfs.formats.info_block import next_seq

LBASIZES = [512, 520, 528, 4096, 4104, 4160, 4224]
MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40


class TestLayout:
    """Where the parts of arenas lie."""

    @pytest.mark.parametrize(
        ("lbasize", "internal_lbasize", "internal_nlba", "external_nlba", "mapoff"),
        [
            (512, 512, 0x0FE000, 0x0FDF00, 0x1FC02000),
            (520, 576, 0x0E1F8F, 0x0E1E8F, 0x1FC72000),
            (4096, 4096, 0x01FF78, 0x01FE78, 0x1FF7A000),
        ],
    )
    def test_512_mib_are_divided_as_a_real_kernel_did(
        self, lbasize: int, internal_lbasize: int, internal_nlba: int, external_nlba: int, mapoff: int
    ) -> None:
        assert list(arena_layouts(512 * MIB - 4096, lbasize)) == [
            ArenaLayout(
                infooff=0,
                size=512 * MIB - 4096,
                nextoff=0,
                external_lba_start=0,
                external_lbasize=lbasize,
                external_nlba=external_nlba,
                internal_lbasize=internal_lbasize,
                internal_nlba=internal_nlba,
                nfree=256,
                dataoff=4096,
                mapoff=mapoff,
                logoff=0x1FFFA000,
                info2off=0x1FFFE000,
            )
        ]

    @pytest.mark.parametrize(
        ("size", "lbasize", "disk"),
        [(GIB, 4096, 1071611904), (GIB, 512, 1065254400), (32 * MIB, 4096, 32440320)],
    )
    def test_the_disk_is_what_map_log_and_free_blocks_leave(self, size: int, lbasize: int, disk: int) -> None:
        (layout,) = arena_layouts(size - BTT_1_1.initial_offset, lbasize)
        assert layout.external_nlba * sector_size_of(lbasize) == disk

    def test_a_gibibyte_of_4096_byte_sectors(self) -> None:
        (layout,) = arena_layouts(GIB - 4096, 4096)
        assert (layout.internal_nlba, layout.external_nlba) == (261880, 261624)
        assert (layout.mapoff, layout.logoff, layout.info2off) == (1072668672, 1073717248, 1073733632)

    def test_a_petabyte_has_2048_arenas(self) -> None:
        layouts = list(arena_layouts(1024 * TIB, 4096))
        assert len(layouts) == 2048
        assert {layout.size for layout in layouts} == {ARENA_MAX_SIZE}
        assert layouts[-1].nextoff == 0
        assert layouts[-1].external_lba_start == 2047 * layouts[0].external_nlba

    def test_a_short_rest_stays_unused(self) -> None:
        (layout,) = arena_layouts(ARENA_MAX_SIZE + ARENA_MIN_SIZE - 1, 4096)
        assert (layout.size, layout.nextoff) == (ARENA_MAX_SIZE, 0)

    def test_a_rest_of_16_mib_is_an_arena(self) -> None:
        first, second = arena_layouts(ARENA_MAX_SIZE + ARENA_MIN_SIZE, 4096)
        assert (first.nextoff, second.infooff) == (ARENA_MAX_SIZE, ARENA_MAX_SIZE)
        assert (second.size, second.nextoff) == (ARENA_MIN_SIZE, 0)

    def test_less_than_16_mib_hold_no_arena(self) -> None:
        assert list(arena_layouts(ARENA_MIN_SIZE - 1, 4096)) == []

    @given(st.integers(ARENA_MIN_SIZE, 64 * TIB), st.sampled_from(LBASIZES))
    def test_parts_fit_and_do_not_overlap(self, rawsize: int, lbasize: int) -> None:
        end = lbas = 0
        for layout in arena_layouts(rawsize, lbasize):
            assert (layout.infooff, layout.external_lba_start) == (end, lbas)
            assert layout.dataoff == layout.infooff + 4096
            assert layout.dataoff + layout.internal_nlba * layout.internal_lbasize <= layout.mapoff
            assert layout.mapoff + layout.external_nlba * MAP_ENTRY_SIZE <= layout.logoff
            assert layout.logoff + layout.nfree * LOG_GROUP_SIZE <= layout.info2off
            assert layout.info2off + 4096 <= layout.infooff + layout.size
            assert layout.internal_nlba < MAP_ERROR
            assert layout.internal_lbasize >= lbasize
            end, lbas = layout.infooff + layout.size, lbas + layout.external_nlba
        assert end <= rawsize < end + ARENA_MIN_SIZE

    @given(st.integers(ARENA_MIN_SIZE, 4 * TIB), st.sampled_from(LBASIZES), st.sampled_from([BTT_1_1, BTT_2_0]))
    def test_an_info_block_describes_its_layout(self, rawsize: int, lbasize: int, version: BttVersion) -> None:
        for layout in arena_layouts(rawsize, lbasize, version=version):
            info = layout.to_info_block(UUID(int=1), UUID(int=2))
            found = ArenaLayout.from_info_block(info, layout.infooff, layout.external_lba_start)
            # Only the last arena's end is not on media: it is taken to be that of its last part.
            # A new arena counts from itself to the next one, one that was found from the first arena.
            next_start = layout.infooff + layout.nextoff if layout.nextoff else 0
            assert attrs.evolve(found, size=layout.size) == attrs.evolve(layout, nextoff=next_start)
            assert layout.size - 4096 < found.size <= layout.size

    def test_bytes_past_whole_pages_are_not_used(self) -> None:
        exact = arena_layout(17 * MIB, 512)
        assert arena_layout(17 * MIB + 4095, 512) == attrs.evolve(exact, size=17 * MIB + 4095)

    @pytest.mark.parametrize(("lbasize", "sector"), [(512, 512), (528, 512), (4096, 4096), (4224, 4096)])
    def test_sectors_have_512_or_4096_bytes(self, lbasize: int, sector: int) -> None:
        assert sector_size_of(lbasize) == sector


class TestMapEntry:
    """A map entry: 32 bits with the place of a sector."""

    @pytest.mark.parametrize(
        ("raw", "entry"),
        [
            (0, MapEntry(77)),
            (5, MapEntry(77)),
            (MAP_NORMAL, MapEntry(0)),
            (MAP_NORMAL | 5, MapEntry(5)),
            (MAP_ZERO | 5, MapEntry(5, zero=True)),
            (MAP_ERROR | 5, MapEntry(5, error=True)),
            (0xFFFF_FFFF, MapEntry(2**30 - 1)),
        ],
    )
    def test_flags_decide_what_an_entry_means(self, raw: int, entry: MapEntry) -> None:
        assert MapEntry.decode(raw, 77) == entry

    @given(st.integers(0, 2**30 - 1), st.sampled_from([(False, False), (True, False), (False, True)]))
    def test_entries_survive_the_media(self, postmap: int, flags: tuple[bool, bool]) -> None:
        entry = MapEntry(postmap, *flags)
        assert MapEntry.decode(entry.encode(), 0) == entry

    def test_block_numbers_have_30_bits(self) -> None:
        assert MapEntry(0xFFFF_FFFF).encode() == 0xFFFF_FFFF

    def test_zero_and_error_exclude_each_other(self) -> None:
        with pytest.raises(ValueError, match="zero and error"):
            MapEntry(1, zero=True, error=True).encode()


class TestSequence:
    """Sequence numbers that go round."""

    def test_they_count_one_two_three(self) -> None:
        assert [next_seq(seq) for seq in (1, 2, 3)] == [2, 3, 1]

    def test_zero_was_never_used(self) -> None:
        assert next_seq(0) == 0

    @pytest.mark.parametrize("seq", [1, 2, 3])
    def test_the_successor_is_newer(self, seq: int) -> None:
        assert newer_entry(seq, next_seq(seq)) == 1
        assert newer_entry(next_seq(seq), seq) == 0

    def test_an_unused_second_entry_is_older(self) -> None:
        assert newer_entry(1, 0) == 0

    @pytest.mark.parametrize("second", [0, 1, 3])
    def test_an_unused_first_entry_is_older_whatever_the_second(self, second: int) -> None:
        assert newer_entry(0, second) == 1

    @pytest.mark.parametrize(
        ("first", "second", "newer"),
        [
            (0xFFFFFFFF, 1, 1),
            (1, 0xFFFFFFFF, 0),
            (0xFFFFFFFF, 2, 1),
            (0xFFFFFFFF, 6, 1),
            (6, 0xFFFFFFFF, 0),
            (0xFFFFFFFE, 3, 1),
            (0x80000000, 0x80000001, 1),
            (0x80000001, 0x80000000, 0),
            (0x80000000, 0x80000005, 0),
            (0, 6, 1),
            (0, 0xFFFFFFFF, 1),
            (4, 1, 1),
            (1, 4, 0),
            (5, 0, 1),
        ],
    )
    def test_numbers_that_no_kernel_writes(self, first: int, second: int, newer: int) -> None:
        """Which slot a 6.1 kernel took for the newer one; it adds the numbers in 32 bits."""
        assert newer_entry(first, second) == newer

    @pytest.mark.parametrize(
        ("first", "second"),
        [(1, 1), (3, 3), (3, 4), (5, 1), (0xFFFFFFFF, 7), (0xFFFFFFFF, 0), (0x80000000, 0x80000006)],
    )
    def test_other_numbers_are_corruption(self, first: int, second: int) -> None:
        with pytest.raises(KernelError) as caught:
            newer_entry(first, second)
        assert caught.value.errno == errno.EIO


def log_of(*groups: set[int]) -> bytes:
    """A log whose groups use these slots."""
    entry = LogEntry(1, 2, 3, 1).to_bytes()
    slots = [entry if slot in group else bytes(LOG_ENTRY_SIZE) for group in groups for slot in range(4)]
    return b"".join(slots)


class TestLog:
    """The log's groups and which of their slots count."""

    @given(st.tuples(*[st.integers(0, 2**32 - 1)] * 4))
    def test_entries_survive_the_media(self, numbers: tuple[int, int, int, int]) -> None:
        entry = LogEntry(*numbers)
        assert len(entry.to_bytes()) == LOG_ENTRY_SIZE
        assert LogEntry.from_bytes(entry.to_bytes()) == entry

    def test_a_new_log_gives_each_lane_a_block(self) -> None:
        log = initial_log(1000)
        assert len(log) == 256 * LOG_GROUP_SIZE
        for lane in (0, 1, 255):
            group = log[lane * LOG_GROUP_SIZE : (lane + 1) * LOG_GROUP_SIZE]
            assert LogEntry.from_bytes(group[:LOG_ENTRY_SIZE]) == LogEntry(lane, 1000 + lane, 1000 + lane, 1)
            assert group[LOG_ENTRY_SIZE:] == bytes(48)

    def test_an_unused_log_has_todays_padding(self) -> None:
        assert log_slots(initial_log(1000)) == (0, 1)

    @pytest.mark.parametrize(
        ("groups", "slots"),
        [
            ([{0}, {0, 1}, {0}], (0, 1)),
            ([{0, 2}, {0}, {0, 2}], (0, 2)),
            ([set(), {0}], (0, 1)),
            ([{0}, set(), {1}, {0, 1}], (0, 1)),
        ],
    )
    def test_slots_are_deduced_from_the_groups_in_use(self, groups: list[set[int]], slots: tuple[int, int]) -> None:
        assert log_slots(log_of(*groups)) == slots

    @pytest.mark.parametrize(
        "groups",
        [
            [set()],
            [{1}],
            [{0, 3}, {0}],
            [{0, 1, 2}],
            [{0, 1}, {0, 2}],
            [{0, 2}, {2}],
            [{0, 1}, set()],
            [{1}, {0, 1}],
            [{0, 1, 2, 3}],
        ],
    )
    def test_groups_that_contradict_each_other_are_refused(self, groups: list[set[int]]) -> None:
        with pytest.raises(KernelError) as caught:
            log_slots(log_of(*groups))
        assert caught.value.errno == errno.ENXIO
