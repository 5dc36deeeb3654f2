"""The bytes that the memory of a new machine has before its kernel boots: labels and info blocks.

They are those that the emulated machine has in the same place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from nvdimmfs.lab.hardware import Hardware
from nvdimmfs.lab.qemu_machine import buses_of_qemu
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.media.base import StoredMedia

if TYPE_CHECKING:
    from nvdimmfs.platforms.storage import Storage


def make_backends(hardware: Hardware, folder: Path) -> None:
    """Make the files of a new machine's memory, which are sparse."""
    make_empty_backends(hardware, folder)
    if _has_contents(hardware.machine):
        _fill(hardware, folder)


def make_empty_backends(hardware: Hardware, folder: Path) -> None:
    """Make the files of memory that has no bytes yet."""
    for backend in hardware.backends:
        with (folder / backend.name).open("wb") as file:
            file.truncate(backend.size)


def _has_contents(machine: MachineDescription) -> bool:
    return bool(machine.personalities) or any(
        dimm.label.initialised or dimm.label.first_bytes() for bus in buses_of_qemu(machine) for dimm in bus.dimms
    )


def _fill(hardware: Hardware, folder: Path) -> None:
    from nvdimmfs.machine.machine import Machine  # which a guest that is resumed has no need of

    machine = Machine.described(hardware.machine)
    try:
        copy_to_backends(hardware, machine.storage, folder)
    finally:
        machine.close()


@attrs.frozen
class Part:
    """The part of a file of a guest's memory in which a medium is.

    Attributes:
        backend: the name of the file.
        offset: the first byte of the medium in it.
        size: bytes of the medium that have room there.
        media: the medium.
    """

    backend: str
    offset: int
    size: int
    media: StoredMedia


def parts_of(hardware: Hardware, storage: Storage) -> Iterator[Part]:
    """Where in the files of a guest's memory the media of a storage are, those that it has opened."""
    for place in hardware.places:
        if place.label_area:
            media = storage.label_areas[place.label_area]
            yield Part(place.backend, place.offset, media.size, media)
            continue
        for (start, size), media in storage.ranges.items():
            if place.start <= start < place.start + place.size:
                room = place.start + place.size - start
                yield Part(place.backend, place.offset + start - place.start, min(size, room), media)


def copy_to_backends(hardware: Hardware, storage: Storage, folder: Path) -> None:
    """Write the bytes of media into the empty files of a guest's memory."""
    for part in parts_of(hardware, storage):
        for position, data in part.media.contents():
            _write(folder / part.backend, part.offset + position, data[: max(0, part.size - position)])


def _write(path: Path, offset: int, data: bytes | bytearray) -> None:
    file = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(file, data, offset)
    finally:
        os.close(file)
