"""The bytes that the memory of a new machine has before its kernel boots: labels and info blocks.

They are those that the emulated machine has in the same place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nvdimmfs.lab.hardware import Hardware, Place
from nvdimmfs.lab.qemu_machine import buses_of_qemu
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.media.base import StoredMedia

if TYPE_CHECKING:
    from nvdimmfs.machine.machine import Machine


def make_backends(hardware: Hardware, folder: Path) -> None:
    """Make the files of a new machine's memory, which are sparse."""
    for backend in hardware.backends:
        with (folder / backend.name).open("wb") as file:
            file.truncate(backend.size)
    if _has_contents(hardware.machine):
        _fill(hardware, folder)


def _has_contents(machine: MachineDescription) -> bool:
    return bool(machine.personalities) or any(
        dimm.label.initialised or dimm.label.first_bytes() for bus in buses_of_qemu(machine) for dimm in bus.dimms
    )


def _fill(hardware: Hardware, folder: Path) -> None:
    from nvdimmfs.machine.machine import Machine  # which a guest that is resumed has no need of

    machine = Machine.described(hardware.machine)
    try:
        for place in hardware.places:
            for offset, data in _contents(machine, place):
                _write(folder / place.backend, place.offset + offset, data)
    finally:
        machine.close()


def _contents(machine: Machine, place: Place) -> Iterator[tuple[int, bytes | bytearray]]:
    """The bytes of a place: offsets in it, and pieces."""
    if place.label_area:
        yield from machine.storage.label_areas[place.label_area].contents()
        return
    for (start, size), media in machine.storage.ranges.items():
        if place.start <= start < place.start + place.size:
            yield from _within(media, start - place.start, place.size, size)


def _within(media: StoredMedia, offset: int, room: int, size: int) -> Iterator[tuple[int, bytes | bytearray]]:
    """The bytes of a medium that begins in a place, as far as the place has room."""
    for position, data in media.contents():
        fits = max(0, room - offset - position)
        yield offset + position, data[: min(fits, size)]


def _write(path: Path, offset: int, data: bytes | bytearray) -> None:
    file = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(file, data, offset)
    finally:
        os.close(file)
