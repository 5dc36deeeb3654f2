"""Info blocks of pfn, dax and BTT devices, compared with what a real 6.1 kernel wrote."""

from __future__ import annotations

from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvdimmfs.formats.btt import BTT_SIGNATURE, INFO_FLAG_ERROR, BttInfoBlock, arena_is_valid
from nvdimmfs.formats.info_block import CHECKSUM_OFFSET, INFO_BLOCK_SIZE, NULL_UUID, checksum_ok, seal
from nvdimmfs.formats.pfn import DAX_SIGNATURE, PFN_SIGNATURE, PfnInfoBlock, PfnMode


def real_block(fields: str, checksum: str) -> bytes:
    """A block that a real 6.1 kernel wrote: its first bytes and its last eight, zeros between."""
    return bytes.fromhex(fields).ljust(CHECKSUM_OFFSET, b"\0") + bytes.fromhex(checksum)


BTT_512 = real_block(
    "4254545f4152454e415f494e464f000000000003aaaabbbbcccc00000000000300000000000000000000000000000000"
    "000000000100010000020000"
    "00df0f000002000000e00f000001000000100000000000000000000000100000000000000020c01f0000000000a0ff1f"
    "0000000000e0ff1f",
    "8150801d4454b88e",
)
BTT_520 = real_block(
    "4254545f4152454e415f494e464f000000000003aaaabbbbcccc00000000000300000000000000000000000000000000"
    "0000000001000100080200008f1e0e00400200008f1f0e000001000000100000000000000000000000100000000000"
    "000020c71f0000000000a0ff1f0000000000e0ff1f",
    "e7cf831df4f5459c",
)
BTT_4096 = real_block(
    "4254545f4152454e415f494e464f000000000003aaaabbbbcccc00000000000300000000000000000000000000000000"
    "00000000010001000010000078fe01000010000078ff010000010000001000000000000000000000001000000000000"
    "000a0f71f0000000000a0ff1f0000000000e0ff1f",
    "712b9c1d4481aafa",
)
PFN_PMEM_2M = real_block(
    "4e5644494d4d5f50464e5f494e464f0000000001aaaabbbbcccc00000000000100000000000000000000000000000000"
    "00000000010004000000a0000000000000f60100000000000200000000000000000000000000200000100000"
    "4000",
    "e8b5d4a132fb67ad",
)
PFN_RAM_4K = real_block(
    "4e5644494d4d5f50464e5f494e464f0000000001aaaabbbbcccc00000000000100000000000000000000000000000000"
    "0000000001000400000020000000000000fe0100000000000100000000000000000000000010000000100000"
    "4000",
    "e7cd34a144276637",
)
DAX_PMEM_2M = real_block(
    "4e5644494d4d5f4441585f494e464f0000000001aaaabbbbcccc00000000000100000000000000000000000000000000"
    "00000000010004000000a0000000000000f60100000000000200000000000000000000000000200000100000"
    "4000",
    "e3bfd4953cd38fb9",
)
PFN_BLOCKS = {"pfn pmem 2M": PFN_PMEM_2M, "pfn ram 4K": PFN_RAM_4K, "dax pmem 2M": DAX_PMEM_2M}
BTT_BLOCKS = {"512": BTT_512, "520": BTT_520, "4096": BTT_4096}

MIB = 1 << 20
U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (16, 32, 64))
SIGNATURES = st.binary(min_size=16, max_size=16)

PFN_FIELDS = st.builds(
    PfnInfoBlock,
    signature=SIGNATURES,
    uuid=st.uuids(),
    parent_uuid=st.uuids(),
    flags=U32,
    version_major=U16,
    version_minor=U16,
    dataoff=U64,
    npfns=U64,
    mode=U32,
    start_pad=U32,
    end_trunc=U32,
    align=U32,
    page_size=U32,
    page_struct_size=U16,
)
BTT_FIELDS = st.builds(
    BttInfoBlock,
    signature=SIGNATURES,
    uuid=st.uuids(),
    parent_uuid=st.uuids(),
    flags=U32,
    version_major=U16,
    version_minor=U16,
    external_lbasize=U32,
    external_nlba=U32,
    internal_lbasize=U32,
    internal_nlba=U32,
    nfree=U32,
    infosize=U32,
    nextoff=U64,
    dataoff=U64,
    mapoff=U64,
    logoff=U64,
    info2off=U64,
)


@pytest.mark.parametrize("block", [*PFN_BLOCKS.values(), *BTT_BLOCKS.values()], ids=[*PFN_BLOCKS, *BTT_BLOCKS])
def test_a_real_block_has_the_right_checksum(block: bytes) -> None:
    assert checksum_ok(block)
    assert seal(block) == seal(block[:120]) == block


@pytest.mark.parametrize("block", PFN_BLOCKS.values(), ids=PFN_BLOCKS)
def test_a_real_pfn_block_reads_and_writes_the_same(block: bytes) -> None:
    info = PfnInfoBlock.from_bytes(block)
    assert info.to_bytes() == block
    assert info.upgraded() == info


@pytest.mark.parametrize("block", BTT_BLOCKS.values(), ids=BTT_BLOCKS)
def test_a_real_btt_block_reads_and_writes_the_same(block: bytes) -> None:
    assert BttInfoBlock.from_bytes(block).to_bytes() == block
    assert arena_is_valid(block, NULL_UUID)


def test_the_fields_of_a_real_pfn_block() -> None:
    assert PfnInfoBlock.from_bytes(PFN_PMEM_2M) == PfnInfoBlock(
        signature=PFN_SIGNATURE,
        uuid=UUID("00000001-aaaa-bbbb-cccc-000000000001"),
        dataoff=10 * MIB,
        npfns=(512 - 10) * MIB // 4096,
        mode=PfnMode.PMEM,
        align=2 * MIB,
    )


def test_a_dax_block_differs_in_its_signature_only() -> None:
    assert attrs.evolve(PfnInfoBlock.from_bytes(DAX_PMEM_2M), signature=PFN_SIGNATURE).to_bytes() == PFN_PMEM_2M
    assert PfnInfoBlock.from_bytes(DAX_PMEM_2M).signature == DAX_SIGNATURE


@given(PFN_FIELDS)
def test_pfn_fields_survive_the_media(info: PfnInfoBlock) -> None:
    block = info.to_bytes()
    assert len(block) == INFO_BLOCK_SIZE
    assert checksum_ok(block)
    assert PfnInfoBlock.from_bytes(block) == info


@given(BTT_FIELDS)
def test_btt_fields_survive_the_media(info: BttInfoBlock) -> None:
    block = info.to_bytes()
    assert checksum_ok(block)
    assert BttInfoBlock.from_bytes(block) == info


@given(st.integers(0, INFO_BLOCK_SIZE - 1), st.integers(1, 255))
def test_no_changed_byte_passes_the_checksum(position: int, change: int) -> None:
    block = bytearray(BTT_512)
    block[position] ^= change
    assert not checksum_ok(bytes(block))


@pytest.mark.parametrize("length", [0, 4095, 4097])
def test_only_4096_bytes_are_a_block(length: int) -> None:
    for parse in (PfnInfoBlock.from_bytes, BttInfoBlock.from_bytes, checksum_ok):
        with pytest.raises(ValueError, match="an info block has 4096 bytes"):
            parse(bytes(length))
    if length > 4096:
        with pytest.raises(ValueError, match="an info block has 4096 bytes, not 4097"):
            seal(bytes(length))


OLD = PfnInfoBlock(
    uuid=UUID(int=1),
    dataoff=2 * MIB,
    npfns=1,
    mode=PfnMode.RAM,
    start_pad=11,
    end_trunc=12,
    align=13,
    page_size=14,
    page_struct_size=15,
)


@pytest.mark.parametrize(
    ("minor", "pads", "align", "page"),
    [
        (0, (0, 0), 0, (4096, 64)),
        (1, (11, 12), 0, (4096, 64)),
        (2, (11, 12), 13, (4096, 64)),
        (3, (11, 12), 13, (4096, 64)),
        (4, (11, 12), 13, (14, 15)),
        (5, (11, 12), 13, (14, 15)),
    ],
)
def test_an_older_block_gets_what_its_reader_assumes(
    minor: int, pads: tuple[int, int], align: int, page: tuple[int, int]
) -> None:
    block = attrs.evolve(OLD, version_minor=minor).upgraded()
    assert (block.start_pad, block.end_trunc) == pads
    assert block.align == align
    assert (block.page_size, block.page_struct_size) == page


class TestArenaValidity:
    """Which info blocks a BTT in a namespace accepts."""

    NAMESPACE = UUID("11111111-2222-3333-4444-555555555555")

    def block(self, **changes: object) -> bytes:
        return attrs.evolve(BttInfoBlock.from_bytes(BTT_512), **changes).to_bytes()

    def test_a_null_parent_fits_every_namespace(self) -> None:
        assert arena_is_valid(BTT_512, self.NAMESPACE)

    def test_a_parent_must_be_the_namespace(self) -> None:
        block = self.block(parent_uuid=self.NAMESPACE)
        assert arena_is_valid(block, self.NAMESPACE)
        assert not arena_is_valid(block, UUID(int=7))
        assert not arena_is_valid(block, NULL_UUID)

    def test_the_signature_must_be_a_btts(self) -> None:
        assert not arena_is_valid(self.block(signature=PFN_SIGNATURE), NULL_UUID)
        assert arena_is_valid(self.block(signature=BTT_SIGNATURE), NULL_UUID)

    def test_the_checksum_must_be_right(self) -> None:
        assert not arena_is_valid(BTT_512[:-1] + b"\0", NULL_UUID)

    def test_the_error_flag_does_not_matter(self) -> None:
        assert arena_is_valid(self.block(flags=INFO_FLAG_ERROR), NULL_UUID)

    def test_zeros_are_no_arena(self) -> None:
        assert not arena_is_valid(bytes(4096), NULL_UUID)
