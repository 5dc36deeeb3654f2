"""Malformed journals of a folder of media."""

from __future__ import annotations

import struct
import tempfile
import zlib
from pathlib import Path

from mutating import Subject

from nvdimmfs.media.base import MediaError
from nvdimmfs.media.journal import JOURNAL_NAME, Journal
from nvdimmfs.media.journal_record import FIRST_RECORD, Change, body_of, header, record
from nvdimmfs.media.overlay import Extent

SIZE = 1 << 16
IMAGES = ("a.img", "b.img")

#: Bytes of a header before its checksum, and of a record before its changes.
_HEADER = 28
_HEAD = struct.Struct("<4sQII")


class Journals(Subject):
    """The journal that a killed process left."""

    places = (0, FIRST_RECORD, FIRST_RECORD + _HEAD.size, FIRST_RECORD + _HEAD.size + 19)

    def __init__(self) -> None:
        super().__init__()
        self._place = tempfile.TemporaryDirectory()
        self._folder = Path(self._place.name, "media")
        self._folder.mkdir()
        for name in IMAGES:
            self._folder.joinpath(name).write_bytes(bytes(SIZE))
        writes = [Change("a.img", Extent(0, 4, b"abcd")), Change("b.img", Extent(100, 5000, None))]
        self.samples = [
            header(7).ljust(FIRST_RECORD, b"\0")
            + b"".join(record(7, number, body_of(writes)) for number in range(count))
            for count in (0, 1, 2)
        ]

    def repaired(self, data: bytes) -> bytes:
        """The journal with checksums that fit."""
        changed = bytearray(data)
        changed[_HEADER : _HEADER + 4] = struct.pack("<I", zlib.crc32(changed[:_HEADER]))
        position = FIRST_RECORD
        while position + _HEAD.size <= len(changed):
            length = _HEAD.unpack_from(changed, position)[3]
            end = position + _HEAD.size + length
            if end + 4 > len(changed):
                break
            changed[end : end + 4] = struct.pack("<I", zlib.crc32(changed[position:end]))
            position = end + 4
        return bytes(changed)

    def feed(self, data: bytes) -> None:
        """Open the folder: its journal is made use of, or refused."""
        self._folder.joinpath(JOURNAL_NAME).write_bytes(data)
        try:
            Journal(self._folder).close()
        except MediaError as error:
            if not str(error).isprintable():
                raise AssertionError(f"not printable: {error}") from error
        found = {file.name: file.stat().st_size for file in self._folder.iterdir() if file.name != JOURNAL_NAME}
        if found != dict.fromkeys(IMAGES, SIZE) or len(list(self._folder.parent.iterdir())) != 1:
            raise AssertionError(f"the folder holds {found}")
