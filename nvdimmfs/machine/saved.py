"""Saved machines: the machine file and all stored bytes of a machine, in one file.

docs/reference/saved-machine.md describes the format, a ZIP archive.  It is written as a stream, and read and checked
before anything is made of it.
"""

from __future__ import annotations

import hashlib
import json
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import cattrs

from nvdimmfs.machine_file.errors import MachineFileError
from nvdimmfs.machine_file.files import parse_machine
from nvdimmfs.machine_file.model import BusDescription, MachineDescription
from nvdimmfs.machine_file.writer import machine_text
from nvdimmfs.media.base import MediaError, StoredMedia
from nvdimmfs.platforms.storage import Storage
from nvdimmfs.platforms.tables import label_area_name

#: The version of the format, in the list.
FORMAT = 1

#: The members of the archive that are no bytes of media.
LIST = "nvdimmfs.json"
MACHINE = "description.toml"

#: Bytes that are read, compressed or written at a time.
PIECE = 1 << 18

#: The largest machine file and list, in bytes, which are read as a whole.
_LARGEST_TEXT = 64 << 20

#: Fast: most of the work is finding runs of zeros.
_COMPRESSION = 1


class SavedMachineError(MediaError):
    """A file that is no saved machine, or a damaged one; the message is one line for the user."""


@attrs.frozen
class SavedMedium:
    """The bytes of one medium: the member of that name holds those of the extents, one after the other.

    Attributes:
        name: the member's name.
        label_area: the name of the label area; empty for a range.
        start: first physical address of a range; 0 for a label area.
        size: bytes of the medium.
        sha256: the digest of the member's bytes, hexadecimal.
        extents: offset and length of all bytes that are not zero, ascending, without overlaps.
    """

    name: str
    label_area: str
    start: int
    size: int
    sha256: str
    extents: tuple[tuple[int, int], ...]

    @property
    def stored(self) -> int:
        """Bytes in its member."""
        return sum(length for _, length in self.extents)

    @property
    def is_sound(self) -> bool:
        """Whether the extents lie on the medium, one after the other."""
        end = 0
        for offset, length in self.extents:
            if offset < end or length <= 0:
                return False
            end = offset + length
        return end <= self.size and self.start >= 0


@attrs.frozen
class _List:
    """What the archive holds."""

    format: int
    media: tuple[SavedMedium, ...] = ()


@attrs.frozen
class SavedMachine:
    """A saved machine, checked.

    Attributes:
        path: the file.
        description: the content of its machine file.
        media: its media.
    """

    path: Path
    description: MachineDescription
    media: tuple[SavedMedium, ...]

    def restore(self, storage: Storage) -> None:
        """Fill the media of a machine that has not booted.  OSError when they cannot be written.

        SavedMachineError when the file has changed since it was checked.
        """
        for medium in self.media:
            if medium.label_area:
                media = storage.restored_label_area(medium.label_area, medium.size)
            else:
                media = storage.media(medium.start, medium.size)
            for offset, piece in self._pieces(medium):
                media.write(offset, piece)

    def _pieces(self, medium: SavedMedium) -> Iterator[tuple[int, bytes]]:
        """The bytes of a medium, with their offsets."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(medium.name) as member:
                for offset, length in medium.extents:
                    done = 0
                    while done < length:
                        piece = member.read(min(PIECE, length - done))
                        if not piece:
                            raise EOFError(f"{medium.name} ends early")
                        yield offset + done, piece
                        done += len(piece)
        except _DAMAGED as error:
            raise SavedMachineError(f"{self.path}: damaged: {error}") from None


#: What the libraries raise for bytes that are not those that were written.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def saved(description: MachineDescription, storage: Storage) -> Iterator[bytes]:
    """The content of the file of a machine as it is now, even if it changes before all of it is taken."""
    media = [
        (f"pmem-{start:x}-{start + size - 1:x}", "", start, medium, medium.contents())
        for (start, size), medium in storage.ranges.items()
    ]
    media += [(f"labels-{name}", name, 0, area, area.contents()) for name, area in storage.label_areas.items()]
    return _archive(machine_text(_without_files(description)), media)


def _without_files(description: MachineDescription) -> MachineDescription:
    """The description without the names of files on this host, whose bytes are in the label areas."""

    def changed(bus: BusDescription) -> BusDescription:
        dimms = (attrs.evolve(dimm, label=attrs.evolve(dimm.label, file="")) for dimm in bus.dimms)
        return attrs.evolve(bus, dimms=tuple(dimms))

    return attrs.evolve(description, buses=tuple(map(changed, description.buses)))


class _Sink:
    """The end of a stream: collects what is written until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing to do."""

    def take(self) -> bytes:
        """What was written since the last call."""
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def _archive(
    text: str, media: list[tuple[str, str, int, StoredMedia, Iterator[tuple[int, bytes | bytearray]]]]
) -> Iterator[bytes]:
    """The archive.  Its members have no times, so that equal machines make equal files."""
    sink = _Sink()
    listed: list[SavedMedium] = []
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESSION) as archive:  # type: ignore[call-overload]  # a stream
        with archive.open(MACHINE, "w") as member:
            member.write(text.encode())
        for name, label_area, start, medium, contents in media:
            digest = hashlib.sha256()
            extents: list[tuple[int, int]] = []
            with archive.open(name, "w", force_zip64=True) as member:
                for offset, data in contents:
                    place, piece = _without_zeros(offset, data)
                    if piece:
                        digest.update(piece)
                        member.write(piece)
                        _extend(extents, place, len(piece))
                    yield sink.take()
            listed.append(SavedMedium(name, label_area, start, medium.size, digest.hexdigest(), tuple(extents)))
        with archive.open(LIST, "w") as member:
            member.write(json.dumps(attrs.asdict(_List(FORMAT, tuple(listed)))).encode())
    yield sink.take()


def _without_zeros(offset: int, data: bytes | bytearray) -> tuple[int, bytes]:
    """The bytes without the zeros at both ends, and where they begin."""
    left = data.lstrip(b"\0")
    return offset + len(data) - len(left), bytes(left.rstrip(b"\0"))


def _extend(extents: list[tuple[int, int]], offset: int, length: int) -> None:
    """Add bytes to the last extent if they follow it, else as a new one."""
    if extents and sum(extents[-1]) == offset:
        offset, before = extents.pop()
        length += before
    extents.append((offset, length))


def read_saved(path: Path) -> SavedMachine:
    """Read and check a saved machine.  SavedMachineError; OSError when the file cannot be read."""
    if not stat.S_ISREG(path.stat().st_mode):  # a device may have no end, and a pipe cannot be read twice
        raise SavedMachineError(f"{path}: not a regular file")
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise SavedMachineError(f"{path}: not a saved machine, or not all of one")
    try:
        with zipfile.ZipFile(path) as archive:
            if LIST not in archive.namelist():
                raise SavedMachineError(f"{path}: not a saved machine: it has no {LIST}")
            listed = _read_list(path, _text(path, archive, LIST))
            text = _text(path, archive, MACHINE)
            for medium in listed.media:
                _check(path, archive, medium)
    except SavedMachineError:
        raise
    except _DAMAGED as error:
        raise SavedMachineError(f"{path}: damaged: {' '.join(str(error).split())}") from None
    try:
        description = parse_machine(text, f"{path}: {MACHINE}", path.stem)
    except MachineFileError as error:
        raise SavedMachineError(error.lines[0]) from None
    if any(dimm.label.file for bus in description.buses for dimm in bus.dimms):
        raise SavedMachineError(f"{path}: damaged: its machine file names a file of this host")
    known = {label_area_name(bus, dimm) for bus in description.buses for dimm in bus.dimms}
    for medium in listed.media:
        if medium.label_area and medium.label_area not in known:
            raise SavedMachineError(f"{path}: damaged: {medium.name} is of a DIMM that the machine does not have")
    return SavedMachine(path, description, listed.media)


def _text(path: Path, archive: zipfile.ZipFile, name: str) -> str:
    if archive.getinfo(name).file_size > _LARGEST_TEXT:
        raise SavedMachineError(f"{path}: {name} is larger than {_LARGEST_TEXT >> 20} MiB")
    return archive.read(name).decode()


def _read_list(path: Path, text: str) -> _List:
    try:
        document: dict[str, Any] = json.loads(text)
        version = document["format"]
        if version != FORMAT:
            raise SavedMachineError(f"{path}: format {version}, which this version does not read; it reads {FORMAT}")
        listed = cattrs.structure(document, _List)
    except SavedMachineError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, cattrs.BaseValidationError):
        raise SavedMachineError(f"{path}: damaged: {LIST} does not list the machine's bytes") from None
    for medium in listed.media:
        if not medium.is_sound:
            raise SavedMachineError(f"{path}: damaged: the bytes of {medium.name} do not lie in it")
    return listed


def _check(path: Path, archive: zipfile.ZipFile, medium: SavedMedium) -> None:
    if archive.getinfo(medium.name).file_size != medium.stored:
        raise SavedMachineError(f"{path}: damaged: {medium.name} does not have the length in {LIST}")
    digest = hashlib.sha256()
    with archive.open(medium.name) as member:
        while piece := member.read(PIECE):
            digest.update(piece)
    if digest.hexdigest() != medium.sha256:
        raise SavedMachineError(f"{path}: damaged: the digest of {medium.name} is wrong")
