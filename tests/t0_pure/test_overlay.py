"""Bytes written over a medium."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from nvdimmfs.media.journal_record import FIRST_RECORD, Change, body_of, header, record, records
from nvdimmfs.media.overlay import Extent, Overlay

SIZE = 100
RANGES = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(sorted)
WRITES = st.lists(st.tuples(RANGES, st.one_of(st.none(), st.integers(1, 255))), max_size=12)


def extent_of(range_: list[int], value: int | None) -> Extent:
    start, end = range_
    return Extent(start, end, None if value is None else bytes([value]) * (end - start))


@given(WRITES, RANGES)
def test_a_reader_gets_what_was_last_written(writes: list[tuple[list[int], int | None]], range_: list[int]) -> None:
    overlay, model = Overlay(), bytearray(b"\xff" * SIZE)
    for written, value in writes:
        overlay.write(extent_of(written, value))
        model[written[0] : written[1]] = bytes([value or 0]) * (written[1] - written[0])
    start, end = range_
    assert overlay.over(start, b"\xff" * (end - start)) == model[start:end]
    assert bool(overlay) is any(written[0] < written[1] for written, _ in writes)
    made = bytearray(b"\xff" * SIZE)
    extents = list(overlay.extents())
    for extent in extents:
        made[extent.start : extent.end] = extent.data or bytes(extent.end - extent.start)
    assert made == model
    for extent, after in itertools.pairwise(extents):
        assert extent.end < after.start or (extent.end == after.start and None in (extent.data, after.data))


def a_journal(generation: int, *bodies: list[Change]) -> bytes:
    written = [record(generation, number, body_of(changes)) for number, changes in enumerate(bodies)]
    return header(generation).ljust(FIRST_RECORD, b"\0") + b"".join(written)


CHANGES = [Change("labels-a.img", Extent(8, 11, b"abc")), Change("pmem\udc80.img", Extent(0, 1 << 50, None))]


def test_records_are_read_as_they_were_written() -> None:
    assert list(records(a_journal(7, CHANGES, CHANGES[1:]))) == [CHANGES, CHANGES[1:]]


def test_a_record_that_is_cut_short_or_damaged_ends_the_journal() -> None:
    whole = a_journal(7, CHANGES, CHANGES)
    first = len(a_journal(7, CHANGES))
    for end in range(first, len(whole)):
        assert list(records(whole[:end])) == [CHANGES]
        assert list(records(whole[:end] + bytes([whole[end] ^ 1]) + whole[end + 1 :])) == [CHANGES]


def test_records_of_other_generations_are_not_read() -> None:
    old = a_journal(7, CHANGES, CHANGES)
    new = a_journal(8, CHANGES[:1])
    assert list(records(new + old[len(new) :])) == [CHANGES[:1]]
    assert list(records(header(8) + old[len(header(8)) :])) == []
