"""The machines of recordings, by what the header of a recording names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import attrs

from nvdimmfs.lab.changes import asked_by
from nvdimmfs.machine_file.defaults import completed
from nvdimmfs.machine_file.files import SUFFIX, load_as_written
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.mm.e820 import memparse

#: The RAM of a machine whose header does not give it.
USUAL_MEMORY = "4G"

#: How far above a recording the file of its machine may be.
_FOLDERS_ABOVE = 3


def folders_of(recording: Path) -> list[Path]:
    """The folders that may have the machine file of a story: that of the recording which asks it, and those above."""
    folder = asked_by(recording).parent
    return [folder, *folder.parents][: 1 + _FOLDERS_ABOVE]


def machine_of(
    machine: Mapping[str, str],
    folders: Iterable[Path] = (),
    prepared: Callable[[MachineDescription], MachineDescription] = lambda machine: machine,
) -> MachineDescription:
    """Return the machine of a recording's header, completed.  MachineFileError.

    Args:
        machine: the header's `machine`: legacy ranges and the size of the RAM, or the name of a machine; and perhaps
            the kernel that has to answer so.
        folders: where a machine file may be that only recordings have; otherwise the name is that of a built-in one.
        prepared: changes the machine before it is completed.
    """
    if name := machine.get("machine"):
        files = (folder / f"{name}{SUFFIX}" for folder in folders)
        written = load_as_written(next((file for file in files if file.exists()), name))
    else:
        ram, _ = memparse(machine.get("memory", USUAL_MEMORY))
        written = MachineDescription(memmap=machine["memmap"], ram=ram)
    kernel = machine.get("kernel", written.kernel)
    whole = completed(attrs.evolve(prepared(written), kernel=kernel))
    return _reversed(whole) if machine.get("regions") == "reversed" else whole


def _reversed(machine: MachineDescription) -> MachineDescription:
    """The same machine with its regions numbered from the last range on, as the kernel does now and then."""
    buses = tuple(attrs.evolve(bus, ranges=bus.ranges[::-1]) for bus in machine.buses)
    return attrs.evolve(machine, buses=buses)
