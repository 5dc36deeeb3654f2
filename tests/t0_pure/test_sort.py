"""The kernel's sort(): as any other where keys differ, and an order of its own where they do not."""

from hypothesis import given
from hypothesis import strategies as st

from nvdimmfs.core.sort import kernel_sorted


@given(st.lists(st.binary(max_size=2)))
def test_keys_come_in_order(keys: list[bytes]) -> None:
    assert kernel_sorted(keys, lambda key: key) == sorted(keys)


@given(st.lists(st.binary(max_size=1)))
def test_nothing_gets_lost(keys: list[bytes]) -> None:
    items = list(enumerate(keys))
    assert sorted(kernel_sorted(items, lambda item: item[1])) == items


def test_two_equals_change_places() -> None:
    assert kernel_sorted("ab", lambda _: b"") == ["b", "a"]
