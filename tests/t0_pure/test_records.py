"""Reads of files that consist of records.  Linux 6.1 and 6.12 gave these lengths for /proc/zoneinfo on two nodes."""

import os

import attrs
import pytest

from nvdimmfs.kernfs import Directory, RecordFile, Tree
from nvdimmfs.kernfs.open_file import open_node

#: Bytes of the records of two nodes.
NODES = (3595, 2956)


@attrs.frozen
class Source:
    """Records of given lengths, each of a letter of its own."""

    lengths: tuple[int, ...]

    def records(self, *, privileged):
        return [bytes([ord("a") + number]) * length for number, length in enumerate(self.lengths)]

    def show(self, _subject):
        return b"".join(self.records(privileged=True))

    def store(self, subject, data):
        raise NotImplementedError


def read(lengths, size, start=0):
    """Read to the end from an offset on, so many bytes each time; the pieces."""
    source = Source(lengths)
    proc = Tree().root.add(Directory("proc", 0o555))
    file = open_node(proc.add(RecordFile("zoneinfo", 0o444, source, None)), os.O_RDONLY)
    pieces = []
    while piece := file.read(start + sum(map(len, pieces)), size):
        pieces.append(piece)
    assert b"".join(pieces) == source.show(None)[start:]
    return pieces


@pytest.mark.parametrize(
    ("size", "start", "lengths"),
    [
        (65536, 0, [3595, 2956]),
        (65536, 100, [6451]),
        (65536, 3700, [2851]),
        (4096, 0, [3595, 2956]),
        (4096, 100, [4096, 2355]),
        (3000, 0, [3000, 3000, 551]),
        (3000, 100, [3000, 3000, 451]),
        (1000, 0, [1000] * 6 + [551]),
    ],
)
def test_a_read_ends_where_the_next_record_does_not_fit_into_the_buffer(size, start, lengths):
    assert [len(piece) for piece in read(NODES, size, start)] == lengths


def test_the_buffer_is_larger_than_each_record():
    """One that a record fills has no room for its end (seq_has_overflowed)."""
    assert [len(piece) for piece in read((4095, 4096, 1), 65536)] == [4095, 4097]


def test_records_without_bytes_end_nothing():
    assert [len(piece) for piece in read((0, 10, 0, 5), 65536)] == [15]


def test_nothing_is_read_behind_the_end():
    assert read((10,), 100, 10) == []
    assert read((), 100) == []
