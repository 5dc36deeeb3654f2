"""Persistent memory of guests that is kept in a folder of media, as that of `nvdimmfs mount --media`.

A guest has its memory in files of its own, into which the media are copied before it boots, and from which they are
copied when it has ended, in whatever way.  QEMU shares these files with the guest, so that they have each byte that the
guest's processor has written, even when QEMU is killed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from nvdimmfs.lab.errors import LabError
from nvdimmfs.lab.first_contents import Part, copy_to_backends, make_empty_backends, parts_of
from nvdimmfs.lab.hardware import Hardware
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.model import LabelAreaDescription
from nvdimmfs.media.base import MediaError
from nvdimmfs.platforms.storage import FolderStorage
from nvdimmfs.units import MIB

#: The pieces in which memory is compared and copied, bytes.
_PIECE = MIB // 4


@contextlib.contextmanager
def kept_memory(hardware: Hardware, media: Path, folder: Path) -> Iterator[None]:
    """Make the files of a guest's memory from a folder of media; at the end, the media have what the files have.

    All changes are made together or, if this process is killed meanwhile, not at all.  LabError for a folder that
    cannot be used, and for a machine whose persistent memory a module of the guest makes.

    Args:
        hardware: the guest's hardware.
        media: the folder of media; the first guest or machine that uses it writes the initial contents.
        folder: where the files of the guest's memory are made.
    """
    if any(bus.is_test_platform for bus in hardware.machine.buses):
        raise LabError("the module nfit_test makes the memory of its DIMMs, which no folder of media can keep")
    with _opened(hardware, media) as storage:
        make_empty_backends(hardware, folder)
        copy_to_backends(hardware, storage, folder)
        try:
            yield
        finally:
            with storage.transaction():
                for part in parts_of(hardware, storage):
                    _copy_back(part, folder / part.backend)


@contextlib.contextmanager
def _opened(hardware: Hardware, media: Path) -> Iterator[FolderStorage]:
    """The media of a machine in a folder.  An emulated machine boots on a new one, and on no other, as it may write."""
    with contextlib.closing(Machine.described(hardware.machine)) as machine:
        ranges = [*machine.storage.ranges]
        areas = {name: area.size for name, area in machine.storage.label_areas.items()}
    try:
        with contextlib.closing(FolderStorage(media)) as storage:
            is_new = storage.is_new
        if is_new:
            Machine.described(hardware.machine, media).close()
        storage = FolderStorage(media)
    except (MediaError, OSError) as error:
        raise LabError(str(error)) from None
    with contextlib.closing(storage):
        for start, size in ranges:
            storage.media(start, size)
        for name, size in areas.items():
            storage.label_area(name, LabelAreaDescription(size))
        storage.has_booted()
        yield storage


def _copy_back(part: Part, backend: Path) -> None:
    """Write what differs to the medium."""
    file = os.open(backend, os.O_RDONLY)
    try:
        for position in sorted({*_written(file, part), *_had(part)}):
            length = min(_PIECE, part.size - position)
            data = os.pread(file, length, part.offset + position)
            if data != part.media.read(position, length):
                part.media.write(position, data)
    finally:
        os.close(file)


def _had(part: Part) -> Iterator[int]:
    """The pieces of a medium that are not empty."""
    for position, data in part.media.contents():
        yield from _pieces(position, min(position + len(data), part.size))


def _written(file: int, part: Part) -> Iterator[int]:
    """The pieces of a part of a file that are not holes."""
    position, end = part.offset, part.offset + part.size
    while position < end:
        try:
            first = os.lseek(file, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # no data up to the end of the file
                raise
            return
        position = min(os.lseek(file, first, os.SEEK_HOLE), end)
        yield from _pieces(first - part.offset, position - part.offset)


def _pieces(first: int, end: int) -> Iterator[int]:
    """Where the pieces begin that have bytes from `first` to before `end`."""
    return iter(range(first // _PIECE * _PIECE, end, _PIECE))
