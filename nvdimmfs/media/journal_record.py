"""The format of a journal of media, version 1: docs/reference/media-folder.md describes it.

The file begins with a header.  Records follow at `FIRST_RECORD`, one after the other.  The header and each record carry
the journal's generation: when a journal starts again from the front, the records of earlier generations that are still
in the file are not read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

from attrs import frozen

from nvdimmfs.media.overlay import Extent

VERSION = 1

#: Offset of the first record; the header has a sector of its own, and the page that a file system writes at once.
FIRST_RECORD = 4096

_HEADER = struct.Struct("<16sIQ")
_MAGIC = b"nvdimmfs journal"
_RECORD = struct.Struct("<4sQII")
_RECORD_MAGIC = b"NVJR"
_CHANGE = struct.Struct("<BHQQ")
_CHECKSUM = struct.Struct("<I")
_WRITE, _ZERO = 1, 2

#: Bytes of a record before its changes; zeros there end the journal.
RECORD_HEAD = _RECORD.size

#: Bytes of a record beside its body.
RECORD_OVERHEAD = RECORD_HEAD + _CHECKSUM.size


class JournalError(ValueError):
    """The bytes are not a journal of a version that is known; the message completes "the journal ..."."""


@frozen
class Change:
    """A change to the bytes of one file.

    Attributes:
        name: the file, in the journal's folder.
        extent: the new bytes.
    """

    name: str
    extent: Extent


def header(generation: int) -> bytes:
    """The header of a journal."""
    head = _HEADER.pack(_MAGIC, VERSION, generation)
    return head + _CHECKSUM.pack(zlib.crc32(head))


def body_of(changes: Sequence[Change]) -> bytes:
    """The body of a record: changes that are made together or not at all."""
    pieces: list[bytes] = []
    for change in changes:
        name = change.name.encode(errors="surrogateescape")
        start, end, data = change.extent.start, change.extent.end, change.extent.data
        kind = _ZERO if data is None else _WRITE
        pieces += (_CHANGE.pack(kind, len(name), start, end - start), name, data or b"")
    return b"".join(pieces)


def record(generation: int, number: int, body: bytes) -> bytes:
    """One record.

    Args:
        generation: the journal's.
        number: of records before it in this generation.
        body: from `body_of`.
    """
    head = _RECORD.pack(_RECORD_MAGIC, generation, number, len(body))
    return b"".join((head, body, _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(head)))))


def records(journal: bytes) -> Iterator[list[Change]]:
    """The complete records of a journal, in order; none of a file that is empty or zeros.

    The first record that is not complete ends them: it was being written when the process ended.
    JournalError for a header that is damaged or of another version, and for a damaged record whose checksum fits.
    """
    generation = _generation(journal)
    if generation is None:
        return
    position, number = FIRST_RECORD, 0
    while body := _body(journal, position, generation, number):
        yield list(_changes(body))
        position += _RECORD.size + len(body) + _CHECKSUM.size
        number += 1


def _generation(journal: bytes) -> int | None:
    """The generation in the header; None for a journal whose header was never written."""
    head = journal[: _HEADER.size + _CHECKSUM.size]
    if not any(head):
        return None
    if len(head) < _HEADER.size + _CHECKSUM.size:
        raise JournalError("is cut short")
    magic, version, generation = _HEADER.unpack_from(head)
    if magic != _MAGIC:
        raise JournalError("is not one")
    if version != VERSION:
        raise JournalError(f"has version {version}; this release reads version {VERSION}")
    if head[_HEADER.size :] != _CHECKSUM.pack(zlib.crc32(head[: _HEADER.size])):
        raise JournalError("has a damaged header")
    return int(generation)


def _body(journal: bytes, position: int, generation: int, number: int) -> bytes | None:
    """The changes of the record at a position; None without a complete record of that generation and number."""
    head = journal[position : position + _RECORD.size]
    if len(head) < _RECORD.size:
        return None
    magic, found_generation, found_number, length = _RECORD.unpack(head)
    start = position + _RECORD.size
    body, checksum = journal[start : start + length], journal[start + length : start + length + _CHECKSUM.size]
    if (magic, found_generation, found_number) != (_RECORD_MAGIC, generation, number):
        return None
    return body if checksum == _CHECKSUM.pack(zlib.crc32(body, zlib.crc32(head))) else None


def _changes(body: bytes) -> Iterator[Change]:
    """The changes of a record.  JournalError for one that this program never writes, although its checksum fits."""
    position = 0
    while position < len(body):
        if len(body) - position < _CHANGE.size:
            raise JournalError("has a damaged record")
        kind, name_length, offset, length = _CHANGE.unpack_from(body, position)
        start = position + _CHANGE.size
        name = body[start : start + name_length].decode(errors="surrogateescape")
        position = start + name_length
        data = None
        if kind == _WRITE:
            data = body[position : position + length]
            position += length
        if kind not in (_WRITE, _ZERO) or "\0" in name or position > len(body):
            raise JournalError("has a damaged record")
        yield Change(name, Extent(offset, offset + length, data))
