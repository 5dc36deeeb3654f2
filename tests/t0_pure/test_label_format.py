"""Label areas and interleave set cookies: the bytes of a real 6.1 kernel, and what the formats promise."""

from __future__ import annotations

from uuid import UUID

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvdimmfs.formats.fletcher import fletcher64
from nvdimmfs.formats.info_block import NULL_UUID
from nvdimmfs.formats.interleave import InterleavedDimm, InterleaveSet
from nvdimmfs.formats.label import (
    DAX_GUID,
    LABEL_SIZE_1_1,
    LABEL_SIZE_1_2,
    LABEL_SIZES,
    PMEM_RANGE_GUID,
    IndexBlock,
    LabelAreaLayout,
    LabelFlag,
    NamespaceLabel,
    find_current_index,
    index_is_valid,
    initial_index,
    label_is_valid,
)

#: What QEMU gives a DIMM.
CONFIG_SIZE = 128 << 10

LAYOUTS = {size: LabelAreaLayout.of(CONFIG_SIZE, size) for size in LABEL_SIZES}
INDEX_SIZE = 256

versions = pytest.mark.parametrize("label_size", LABEL_SIZES)


def padded(size: int, **pieces: str) -> bytes:
    """Zeros, with hexadecimal pieces at the offsets that name them: at16="ff"."""
    data = bytearray(size)
    for name, digits in pieces.items():
        start, piece = int(name.removeprefix("at")), bytes.fromhex(digits)
        data[start : start + len(piece)] = piece
    return bytes(data)


#: Index blocks and labels of two DIMMs that hold two namespaces each, as a real 6.1 kernel wrote them.
REAL_INDEX = {
    LABEL_SIZE_1_1: padded(
        INDEX_SIZE,
        at0="4e414d4553504143455f494e44455800000000000300000000010000",
        at32="00010000000000000000000000000000000200",
        at56="fc03000001000100043e31d70d4963ebf9" + "ff" * 127,
    ),
    LABEL_SIZE_1_2: padded(
        INDEX_SIZE,
        at0="4e414d4553504143455f494e44455800000000010300000000010000",
        at32="00010000000000000000000000000000000200",
        at56="fe01000001000200163c3218d9e693e7f9" + "ff" * 62 + "3f",
    ),
}
REAL_LABEL = {
    LABEL_SIZE_1_1: padded(
        LABEL_SIZE_1_1,
        at0="00000001aaaabbbbcccc00000000000a616c70686131",
        at84="0100000057341200ae6824",
        at115="04",
        at120="01",
    ),
    LABEL_SIZE_1_2: padded(
        LABEL_SIZE_1_2,
        at0="00000000aaaabbbbcccc00000000000a616c70686130",
        at84="01000000dcb412001290ba",
        at115="04",
        at120="01",
        at128="79d3f066f3b47440ac430d3318b78cdb9c6da897dd3cda4e986f5068b4f80088",
        at248="1defcdbf6cf1260f",
    ),
}


class TestRealBytes:
    @versions
    def test_an_index_block_is_read(self, label_size: int) -> None:
        index = IndexBlock.from_bytes(REAL_INDEX[label_size])
        nslot = LAYOUTS[label_size].nslot
        assert index.version == (1, 1 if label_size == LABEL_SIZE_1_1 else 2)
        assert (index.seq, index.nslot, index.nfree) == (3, nslot, nslot - 2)
        assert (index.myoff, index.mysize, index.otheroff, index.labeloff) == (256, 256, 0, 512)
        assert list(index.used()) == [1, 2]
        assert index.first_free == 0

    @versions
    def test_an_index_block_is_written(self, label_size: int) -> None:
        layout, real = LAYOUTS[label_size], REAL_INDEX[label_size]
        assert IndexBlock.from_bytes(real).to_bytes(INDEX_SIZE) == real
        free = IndexBlock.from_bytes(real).free
        assert IndexBlock.new(layout, 1, 3, layout.nslot, free).to_bytes(INDEX_SIZE) == real
        assert index_is_valid(real, 1, layout)

    @versions
    def test_a_label_is_read_and_written(self, label_size: int) -> None:
        real, second = REAL_LABEL[label_size], label_size == LABEL_SIZE_1_2
        label = NamespaceLabel(
            uuid=UUID(f"0000000{int(not second)}-aaaa-bbbb-cccc-00000000000a"),
            name=b"alpha0" if second else b"alpha1",
            nlabel=1,
            position=0,
            isetcookie=0xBA90120012B4DC if second else 0x2468AE00123457,
            dpa=0,
            rawsize=64 << 20,
            slot=1,
            type_guid=PMEM_RANGE_GUID if second else None,
            abstraction_guid=DAX_GUID if second else None,
        )
        assert NamespaceLabel.from_bytes(real) == label
        assert label.to_bytes(label_size) == real
        assert label_is_valid(real, 1)
        assert not label_is_valid(real, 0)


class TestLayout:
    @pytest.mark.parametrize(
        ("config_size", "label_size", "nslot", "index_size"),
        [
            (128 << 10, LABEL_SIZE_1_1, 1020, 256),
            (128 << 10, LABEL_SIZE_1_2, 510, 256),
            (256 << 10, LABEL_SIZE_1_1, 2040, 512),
            (768, LABEL_SIZE_1_1, 2, 256),
            (767, LABEL_SIZE_1_1, 1, 0),
            (1024, LABEL_SIZE_1_2, 2, 256),
            (1023, LABEL_SIZE_1_2, 1, 0),
            (100, LABEL_SIZE_1_1, 0, 0),
            (0, LABEL_SIZE_1_1, 0, 0),
        ],
    )
    def test_of_an_area(self, config_size: int, label_size: int, nslot: int, index_size: int) -> None:
        layout = LabelAreaLayout.of(config_size, label_size)
        assert (layout.nslot, layout.index_size) == (nslot, index_size)

    @given(st.integers(768, 1 << 32), st.sampled_from(LABEL_SIZES))
    def test_everything_fits(self, config_size: int, label_size: int) -> None:
        layout = LabelAreaLayout.of(config_size, label_size)
        if not layout.index_size:
            assert label_size == LABEL_SIZE_1_2
            assert config_size < 1024
            return
        assert layout.slot_offset(layout.nslot) <= config_size
        assert layout.nslot <= 8 * (layout.index_size - 72)
        assert layout.index_offsets[1] + layout.index_size == layout.slot_offset(0)

    def test_a_version_1_2_area_has_no_larger_index_than_a_1_1_area(self) -> None:
        for config_size in range(768, 1 << 20, 1000):
            first, second = (LabelAreaLayout.of(config_size, size).index_size for size in LABEL_SIZES)
            assert second <= first


def an_index(label_size: int, which: int = 0, seq: int = 2, **changes: object) -> bytes:
    """Index block 0 or 1, sealed after the changes."""
    layout = LAYOUTS[label_size]
    index = IndexBlock.new(layout, which, seq, layout.nslot, (1 << layout.nslot) - 1)
    return attrs.evolve(index, **changes).to_bytes(INDEX_SIZE)


def current(first: bytes, second: bytes = bytes(INDEX_SIZE)) -> tuple[int, int | None]:
    """The label size and the current index that are found."""
    layout, which = find_current_index(first + second, CONFIG_SIZE)
    return layout.label_size, which


class TestValidation:
    """The answers in the tables are those of a real 6.1 kernel: available_slots shows which block it used."""

    #: A change of an index block, and the labels for which it is valid then, if it was for 128 and for 256 bytes.
    CHANGES = (
        ({}, 128, 256),
        ({"signature": b"NAMESPACE_INDEXx"}, None, None),
        ({"signature": b"NAMESPACE_INDEX "}, None, None),
        ({"flags": b"abc"}, 128, 256),
        ({"labelsize": 0}, 128, 128),
        ({"labelsize": 1}, 128, 256),
        ({"labelsize": 2}, 128, None),
        ({"labelsize": 255}, 128, None),
        ({"major": 0}, 128, 128),
        ({"major": 1, "minor": 0}, 128, 128),
        ({"major": 1, "minor": 1}, 128, 128),
        ({"major": 1, "minor": 3}, 128, 256),
        ({"major": 2, "minor": 0}, 128, 256),
        ({"major": 0, "minor": 101}, 128, 128),
        ({"major": 0, "minor": 102}, 128, 256),
        ({"major": 65535, "minor": 65535}, 128, 256),
        ({"seq": 0}, None, None),
        ({"seq": 4}, None, None),
        ({"myoff": 256}, None, None),
        ({"myoff": 1}, None, None),
        ({"otheroff": 0}, None, None),
        ({"labeloff": 0}, None, None),
        ({"labeloff": 511}, None, None),
        ({"mysize": 0}, None, None),
        ({"mysize": 71}, None, None),
        ({"mysize": 72}, 128, 256),
        ({"mysize": 257}, None, None),
        ({"mysize": 1 << 40}, None, None),
        ({"nslot": 0}, 128, 256),
        ({"nslot": 5}, 128, 256),
        ({"nslot": 510}, 128, 256),
        ({"nslot": 511}, 128, None),
        ({"nslot": 1020}, 128, None),
        ({"nslot": 1021}, None, None),
        ({"nslot": 1 << 31}, None, None),
        ({"nslot": 0xFFFFFFFF}, None, None),
    )

    @pytest.mark.parametrize(("change", "first", "second"), CHANGES, ids=str)
    def test_of_one_index_block(self, change: dict[str, object], first: int | None, second: int | None) -> None:
        for label_size, found in ((LABEL_SIZE_1_1, first), (LABEL_SIZE_1_2, second)):
            block = an_index(label_size, **change)
            assert current(block) == ((found, 0) if found else (LABEL_SIZE_1_2, None))
            # Beside a valid block with a smaller number, that one takes over.
            beside = an_index(label_size, 1, 1)
            assert current(block, beside) == ((found, 0) if found else (label_size, 1))

    def test_a_version_that_contradicts_the_label_size_counts(self) -> None:
        assert current(an_index(LABEL_SIZE_1_2, minor=1, nslot=510)) == (LABEL_SIZE_1_1, 0)
        assert current(an_index(LABEL_SIZE_1_1, minor=2, labelsize=1, nslot=510)) == (LABEL_SIZE_1_2, 0)

    @versions
    @pytest.mark.parametrize("offset", [0, 15, 16, 19, 20, 24, 57, 64, 71, 72, 100, 199, 200, 255])
    def test_a_changed_bit_is_noticed(self, label_size: int, offset: int) -> None:
        block = bytearray(an_index(label_size))
        block[offset] ^= 0x40
        assert current(bytes(block)) == (LABEL_SIZE_1_2, None)
        assert current(bytes(block), an_index(label_size, 1, 1)) == (label_size, 1)

    @versions
    @pytest.mark.parametrize(
        ("seqs", "newer"),
        [
            *(((first, first % 3 + 1), 1) for first in (1, 2, 3)),
            *(((second % 3 + 1, second), 0) for second in (1, 2, 3)),
            *(((seq, seq), 1) for seq in (1, 2, 3)),
            ((0, 3), 1),
            ((4, 3), 1),
            ((3, 0), 0),
            ((0, 0), None),
            ((0xFFFFFFF1, 2), 1),
            ((0x101, 0x107), 0),
        ],
    )
    def test_the_later_sequence_number_wins(self, label_size: int, seqs: tuple[int, int], newer: int | None) -> None:
        blocks = [an_index(label_size, which, seq) for which, seq in enumerate(seqs)]
        assert current(*blocks) == (LABEL_SIZE_1_2 if newer is None else label_size, newer)

    @pytest.mark.parametrize("seqs", [(1, 2), (2, 1), (3, 1)])
    def test_a_valid_block_of_version_1_1_wins_over_any_of_1_2(self, seqs: tuple[int, int]) -> None:
        first, second = seqs
        assert current(an_index(LABEL_SIZE_1_1, 0, first), an_index(LABEL_SIZE_1_2, 1, second)) == (LABEL_SIZE_1_1, 0)
        assert current(an_index(LABEL_SIZE_1_2, 0, first), an_index(LABEL_SIZE_1_1, 1, second)) == (LABEL_SIZE_1_1, 1)

    def test_an_area_never_written_has_none_and_gets_version_1_2(self) -> None:
        assert find_current_index(bytes(512), CONFIG_SIZE) == (LAYOUTS[LABEL_SIZE_1_2], None)

    def test_more_slots_than_bits_are_refused(self) -> None:
        layout = LabelAreaLayout.of(189056, LABEL_SIZE_1_1)
        block = attrs.evolve(initial_index(layout, 0), nslot=layout.nslot + 3)
        assert index_is_valid(block.to_bytes(layout.index_size), 0, layout)
        more = attrs.evolve(block, nslot=layout.nslot + 4)
        assert layout.slot_offset(more.nslot) == layout.config_size
        assert not index_is_valid(more.to_bytes(layout.index_size), 0, layout)

    @given(st.binary(min_size=512, max_size=512), st.integers(768, 1 << 20))
    def test_random_bytes_are_no_index(self, head: bytes, config_size: int) -> None:
        _, which = find_current_index(
            head.ljust(2 * LabelAreaLayout.of(config_size, 128).index_size, b"\0"), config_size
        )
        assert which is None

    @versions
    def test_a_label_is_known_by_its_slot_and_in_version_1_2_by_its_checksum(self, label_size: int) -> None:
        for offset in (0, 40, 100, 119):
            data = bytearray(REAL_LABEL[label_size])
            data[offset] ^= 1
            assert label_is_valid(bytes(data), 1) == (label_size == LABEL_SIZE_1_1)
        assert label_is_valid(bytes(label_size), 0)


def u(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << bits) - 1)


@st.composite
def index_blocks(draw: st.DrawFn) -> IndexBlock:
    nslot = draw(st.integers(0, 200))
    return IndexBlock(
        signature=draw(st.binary(min_size=16, max_size=16)),
        flags=draw(st.binary(min_size=3, max_size=3)),
        labelsize=draw(u(8)),
        seq=draw(u(32)),
        myoff=draw(u(64)),
        mysize=draw(u(64)),
        otheroff=draw(u(64)),
        labeloff=draw(u(64)),
        nslot=nslot,
        major=draw(u(16)),
        minor=draw(u(16)),
        free=draw(u(256)),
    )


LABELS = st.builds(
    NamespaceLabel,
    uuid=st.uuids(),
    name=st.binary(max_size=64),
    flags=u(32),
    nlabel=u(16),
    position=u(16),
    isetcookie=u(64),
    lbasize=u(64),
    dpa=u(64),
    rawsize=u(64),
    slot=u(32),
    align=u(8),
    type_guid=st.uuids(),
    abstraction_guid=st.uuids(),
)


class TestRoundTrip:
    @given(index_blocks())
    def test_of_an_index_block(self, index: IndexBlock) -> None:
        assert IndexBlock.from_bytes(index.to_bytes(256)) == index

    @given(index_blocks())
    def test_the_bitmap_counts_as_a_list_would(self, index: IndexBlock) -> None:
        slots = [bool(index.free >> slot & 1) for slot in range(index.nslot)]
        assert index.nfree == sum(slots)
        assert list(index.used()) == [slot for slot, free in enumerate(slots) if not free]
        assert index.first_free == (slots.index(True) if True in slots else None)

    @given(LABELS)
    def test_of_a_label_1_2(self, label: NamespaceLabel) -> None:
        data = label.to_bytes(LABEL_SIZE_1_2)
        assert NamespaceLabel.from_bytes(data) == label
        assert label_is_valid(data, label.slot)

    @given(LABELS)
    def test_a_label_1_1_has_neither_align_nor_guids(self, label: NamespaceLabel) -> None:
        data = label.to_bytes(LABEL_SIZE_1_1)
        kept = attrs.evolve(label, align=0, type_guid=None, abstraction_guid=None)
        assert NamespaceLabel.from_bytes(data) == kept
        assert kept.has_type(label.type_guid or NULL_UUID)

    @given(st.binary(min_size=128, max_size=128))
    def test_any_bytes_are_a_label_1_1(self, data: bytes) -> None:
        read = NamespaceLabel.from_bytes(data)
        assert read.to_bytes(LABEL_SIZE_1_1)[:124] == data[:124]

    def test_missing_guids_become_null_ones(self) -> None:
        label = NamespaceLabel(uuid=UUID(int=1), nlabel=1, position=0, isetcookie=1, dpa=0, rawsize=1)
        read = NamespaceLabel.from_bytes(label.to_bytes(LABEL_SIZE_1_2))
        assert (read.type_guid, read.abstraction_guid) == (NULL_UUID, NULL_UUID)
        assert not read.has_type(PMEM_RANGE_GUID)

    @settings(max_examples=30)
    @given(LABELS, st.integers(0, 255))
    def test_any_changed_byte_of_a_label_1_2_is_noticed(self, label: NamespaceLabel, offset: int) -> None:
        data = bytearray(label.to_bytes(LABEL_SIZE_1_2))
        data[offset] ^= 0x10
        assert not label_is_valid(bytes(data), label.slot)

    def test_the_flags_have_their_bits(self) -> None:
        assert [flag.value for flag in LabelFlag] == [1, 2, 4, 8]


def qemu_dimm(serial: int) -> InterleavedDimm:
    return InterleavedDimm(region_offset=0, serial_number=serial, vendor_id=0x8086)


def kernel_test_dimm(handle: int, region_offset: int) -> InterleavedDimm:
    """A DIMM of the kernel's own test platform (tools/testing/nvdimm/test/nfit.c)."""
    return InterleavedDimm(
        region_offset=region_offset,
        serial_number=~handle & 0xFFFFFFFF,
        vendor_id=0xABCD,
        manufacturing_date=0xE007,
        manufacturing_location=0xA,
    )


HANDLES = (0, 1, 0x100, 0x101)


class TestInterleaveSet:
    """The cookies are what set_cookie showed on a real 6.1 kernel, with labels of each version."""

    @pytest.mark.parametrize(
        ("dimms", "cookie1", "cookie2"),
        [
            ([qemu_dimm(0x123456)], 0x2468AC00123456, 0xBA90120012B4DC),
            ([qemu_dimm(0x123457)], 0x2468AE00123457, 0xBA901C0012B4DD),
            (
                [kernel_test_dimm(handle, 1 << 8 * n) for n, handle in enumerate(HANDLES[:2])],
                0x3FE000000FE,
                0x40E62F0CC00F58AC,
            ),
            (
                [kernel_test_dimm(handle, 1 << 16 + 8 * n) for n, handle in enumerate(HANDLES)],
                0xC0FFADB0100FEFB,
                0xA76C6907811FAE57,
            ),
        ],
        ids=["qemu-0", "qemu-1", "two-way", "four-way"],
    )
    def test_cookies(self, dimms: list[InterleavedDimm], cookie1: int, cookie2: int) -> None:
        found = InterleaveSet.of(dimms)
        assert (found.cookie1, found.cookie2) == (cookie1, cookie2)
        assert found.positions == tuple(range(len(dimms)))
        assert found.type_guid == PMEM_RANGE_GUID

    def test_the_order_of_the_mappings_does_not_matter_to_the_cookies(self) -> None:
        dimms = [kernel_test_dimm(handle, 4096 * n) for n, handle in enumerate(HANDLES)]
        first, second = InterleaveSet.of(dimms), InterleaveSet.of(dimms[::-1])
        assert second.positions == (3, 2, 1, 0)
        assert attrs.evolve(second, positions=first.positions) == first

    def test_the_alternative_cookie_sorts_by_bytes(self) -> None:
        low, high = kernel_test_dimm(0, 1), kernel_test_dimm(1, 0x100)
        both = InterleaveSet.of([low, high])
        # As bytes from the lowest address, 0x100 is less than 1: the records stand the other way round.
        records = [
            dimm.region_offset.to_bytes(8, "little") + dimm.serial_number.to_bytes(8, "little") for dimm in (high, low)
        ]
        assert both.altcookie == fletcher64(b"".join(records))
        assert both.altcookie != both.cookie1
        assert InterleaveSet.of([low]).altcookie == InterleaveSet.of([low]).cookie1

    def test_dimms_that_cannot_be_told_apart_get_the_last_place_and_the_first(self) -> None:
        twins = [kernel_test_dimm(0, offset) for offset in (0, 4096, 8192)]
        assert InterleaveSet.of(twins).positions == (2, 0, 0)
