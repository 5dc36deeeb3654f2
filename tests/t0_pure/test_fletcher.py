"""The checksum."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvdimmfs.formats.fletcher import fletcher64

WORDS = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1)), max_size=200)


def word_by_word(words: list[int]) -> int:
    """The definition, as slow as it reads."""
    low = high = 0
    for word in words:
        low = (low + word) % 2**32
        high = (high + low) % 2**32
    return high << 32 | low


@given(WORDS, st.integers(0, 40))
def test_it_is_the_sum_and_the_sum_of_sums(words: list[int], zeros: int) -> None:
    words = words + [0] * zeros
    assert fletcher64(struct.pack(f"<{len(words)}I", *words)) == word_by_word(words)


def test_words_are_little_endian() -> None:
    assert fletcher64(b"\1\0\0\0\0\1\0\0") == (1 + 257) << 32 | 257


def test_nothing_sums_to_nothing() -> None:
    assert fletcher64(b"") == fletcher64(bytes(4096)) == 0


def test_sums_wrap_at_32_bits() -> None:
    assert fletcher64(b"\xff" * 8) == word_by_word([2**32 - 1] * 2)


def test_half_a_word_is_refused() -> None:
    with pytest.raises(ValueError, match="whole 32-bit words, not 6 bytes"):
        fletcher64(b"123456")
