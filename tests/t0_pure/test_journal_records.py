"""Records of a journal of media whose checksum fits, and which this program never writes."""

import struct
import zlib

import pytest

from nvdimmfs.media.journal_record import FIRST_RECORD, Change, JournalError, body_of, header, record, records
from nvdimmfs.media.overlay import Extent

CHANGE = struct.Struct("<BHQQ")
HEAD = struct.Struct("<4sQII")


def journal(body):
    head = HEAD.pack(b"NVJR", 1, 0, len(body))
    return header(1).ljust(FIRST_RECORD, b"\0") + head + body + struct.pack("<I", zlib.crc32(head + body))


@pytest.mark.parametrize(
    "body",
    [
        b"\1",
        CHANGE.pack(1, 5, 0, 4) + b"a.img" + b"abc",
        CHANGE.pack(2, 60_000, 0, 4) + b"a.img",
        CHANGE.pack(3, 5, 0, 4) + b"a.img",
        CHANGE.pack(2, 6, 0, 4) + b"\0a.img",
        CHANGE.pack(2, 5, 0, 4) + b"a.img" + b"more",
    ],
)
def test_a_damaged_record_is_refused(body):
    with pytest.raises(JournalError, match="damaged record"):
        list(records(journal(body)))


def test_a_sound_record_is_read():
    changes = [Change("a.img", Extent(0, 4, b"abcd")), Change("b.img", Extent(8, 16, None))]
    assert list(records(header(1).ljust(FIRST_RECORD, b"\0") + record(1, 0, body_of(changes)))) == [changes]
