"""How the kernel reads what was written to a file."""

import errno
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvdimmfs.core.numbering import Numbering
from nvdimmfs.core.parse import line, parse_bool, parse_separated_uuid, parse_unsigned, parse_uuid, select_list
from nvdimmfs.core.uevent import Action, parse_synthetic
from nvdimmfs.errors import KernelError


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"0", 0),
        (b"512\n", 512),
        (b"+7", 7),
        (b"0x1F\n", 0x1F),
        (b"0X1f", 0x1F),
        (b"010", 8),
        (b"00", 0),
        (b"12\x00garbage", 12),
        (b"18446744073709551615", 2**64 - 1),
    ],
)
def test_numbers(data, value):
    assert parse_unsigned(data) == value


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", errno.EINVAL),
        (b"\n", errno.EINVAL),
        (b" 1", errno.EINVAL),
        (b"1 ", errno.EINVAL),
        (b"1\n\n", errno.EINVAL),
        (b"-1", errno.EINVAL),
        (b"4K", errno.EINVAL),
        (b"09", errno.EINVAL),
        (b"0x", errno.EINVAL),
        (b"++1", errno.EINVAL),
        (b"\xb2", errno.EINVAL),
        (b"18446744073709551616", errno.ERANGE),
        (b"0xfffffffffffffffff", errno.ERANGE),
        (b"18446744073709551616x", errno.ERANGE),
        (b"18446744073709551615x", errno.EINVAL),
    ],
)
def test_texts_that_are_no_number_are_refused(data, code):
    with pytest.raises(KernelError) as refusal:
        parse_unsigned(data)
    assert refusal.value.errno == code


@given(st.integers(min_value=0, max_value=2**64 - 1), st.sampled_from(["%d", "%#x", "0%o", "+%d"]))
def test_every_number_is_read_back(value, form):
    assert parse_unsigned((form % value).encode()) == value


@given(st.one_of(st.binary(max_size=40), st.text("01789afxX+- \n", max_size=24).map(str.encode)))
def test_any_bytes_are_a_number_or_an_errno(data):
    try:
        assert 0 <= parse_unsigned(data) < 2**64
    except KernelError as refusal:
        assert refusal.errno in {errno.EINVAL, errno.ERANGE}  # noqa: PT017  # both outcomes are right


@pytest.mark.parametrize("data", [b"1", b"y", b"Yes", b"true", b"T\n", b"on", b"oN", b"On\n"])
def test_true(data):
    assert parse_bool(data) is True


@pytest.mark.parametrize("data", [b"0", b"n", b"No", b"false", b"F\n", b"off", b"OF"])
def test_false(data):
    assert parse_bool(data) is False


@pytest.mark.parametrize("data", [b"\n", b" 1", b"2", b"o", b"ox", b"\x001"])
def test_neither_true_nor_false(data):
    with pytest.raises(KernelError) as refusal:
        parse_bool(data)
    assert refusal.value.errno == errno.EINVAL


@given(st.uuids(), st.binary(max_size=5))
def test_a_uuid_is_its_first_36_characters(value, rest):
    assert parse_uuid(str(value).upper().encode() + rest) == value


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"00000001aaaabbbbcccc000000000001", b"00000001:aaaa:bbbb:cccc:000000000001", b"0000000g" + b"-" * 28],
)
def test_texts_that_are_no_uuid_are_refused(data):
    with pytest.raises(KernelError) as refusal:
        parse_uuid(data)
    assert refusal.value.errno == errno.EINVAL


def test_a_line_ends_at_the_first_nul_and_loses_one_newline():
    assert line(b"pfn0.0\n\0junk") == "pfn0.0"
    assert line(b"pfn0.0\n\n") == "pfn0.0\n"


def test_every_choice_is_followed_by_a_space():
    assert select_list((512, 4096), 4096) == "512 [4096] \n"
    assert select_list((512, 4096), 0) == "512 4096 \n"


IDENTITY = "fe4d7c9d-b8c6-4a70-9ef1-3d8a58d18eed"


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        ("add", (Action.ADD, (("SYNTH_UUID", "0"),))),
        ("change\n", (Action.CHANGE, (("SYNTH_UUID", "0"),))),
        (f"remove {IDENTITY}", (Action.REMOVE, (("SYNTH_UUID", IDENTITY),))),
        (
            f"add {IDENTITY} A=1 B=abc\n",
            (Action.ADD, (("SYNTH_UUID", IDENTITY), ("SYNTH_ARG_A", "1"), ("SYNTH_ARG_B", "abc"))),
        ),
    ],
)
def test_synthetic_uevents(data, answer):
    assert parse_synthetic(data.encode()) == answer


@pytest.mark.parametrize(
    "data",
    ["", "\n", "ad", "adding", "ADD", "add ", "add x", f"add {IDENTITY} ", f"add {IDENTITY} A", f"add {IDENTITY} A=é"],
)
def test_texts_that_are_no_synthetic_uevent_are_refused(data):
    with pytest.raises(KernelError) as refusal:
        parse_synthetic(data.encode("latin-1"))
    assert refusal.value.errno == errno.EINVAL


@given(st.lists(st.integers(min_value=0, max_value=9)))
def test_the_lowest_free_number_is_given_out(moves):
    numbering = Numbering()
    taken = set()
    for move in moves:
        if move in taken:
            numbering.free(move)
            taken.remove(move)
        else:
            number = numbering.allocate()
            assert number == min(set(range(len(taken) + 1)) - taken)
            taken.add(number)


def test_uuids_are_written_in_lower_case():
    assert str(uuid.UUID(IDENTITY.upper())) == IDENTITY


@given(st.uuids(), st.lists(st.sampled_from([b"", b"-", b":", b"\n", b"\0"]), min_size=16, max_size=16))
def test_an_older_kernel_takes_pairs_of_digits_with_or_without_separators(value, separators):
    pairs = [value.hex[i : i + 2].encode() for i in range(0, 32, 2)]
    text = b"".join(pair + separator for pair, separator in zip(pairs, separators, strict=True))
    assert parse_separated_uuid(text + b"whatever") == value


@pytest.mark.parametrize("text", [b"", b"\n", b"0" * 31, b"00--" + b"0" * 30, b" " + b"0" * 32, b"g" * 32, b"0 " * 16])
def test_an_older_kernel_takes_nothing_else_for_a_uuid(text):
    with pytest.raises(KernelError) as refusal:
        parse_separated_uuid(text)
    assert refusal.value.errno == errno.EINVAL
