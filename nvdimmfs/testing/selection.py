"""The machine that the arguments of `Engine` select."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

import attrs

from nvdimmfs.core.clock import ClockMode
from nvdimmfs.machine_file.files import load_as_written
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.machine_file.selection import selected
from nvdimmfs.machine_file.type_checks import require, require_types
from nvdimmfs.mm.memmap_option import makes_persistent_memory
from nvdimmfs.testing.arguments import AnyPath, path_of

#: The types of the arguments, and the same in words.
TYPES: Mapping[str, tuple[type, ...]] = {
    "machine": (str, os.PathLike, MachineDescription),
    "kernel": (str,),
    "memmap": (str,),
    "ram": (str, int),
    "clock": (str,),
}
WORDS: Mapping[str, str] = {
    "machine": "a name, a path or a MachineDescription",
    "kernel": "a text",
    "memmap": "a text",
    "ram": "a number of bytes or a text",
    "clock": "a text",
}


def described(
    machine: str | os.PathLike[str] | MachineDescription | None,
    *,
    memmap: str | None,
    ram: int | str | None,
    kernel: str | None,
    clock: str | None,
) -> MachineDescription:
    """The machine, with what the other arguments replace.

    TypeError for an argument of another type.  ValueError: there is no such machine, or it cannot exist.
    """
    given = {"machine": machine, "memmap": memmap, "ram": ram, "kernel": kernel, "clock": clock}
    for name, value in given.items():
        if value is not None:
            require(name, value, TYPES[name], WORDS[name])
    wanted = selected(_named(machine), memmap=memmap, ram=ram, kernel=kernel, clock=clock)
    if memmap is not None and not wanted.buses and not makes_persistent_memory(memmap):
        line = f"memmap {memmap!r} makes no persistent memory; for that, write SIZE!START, for example 512M!4G"
        warnings.warn(line, stacklevel=3)
    if clock is None and wanted.clock is ClockMode.REAL:
        return attrs.evolve(wanted, clock=ClockMode.STEPS)
    return wanted


def folder_of(media: AnyPath | None) -> Path | None:
    """The folder of media.  TypeError; ValueError for an empty text, which would be the working directory."""
    if media is None:
        return None
    text = path_of(media, "media")
    if not text:
        raise ValueError("media '': must be the path of a folder")
    return Path(text)


def _named(machine: str | os.PathLike[str] | MachineDescription | None) -> MachineDescription | None:
    if isinstance(machine, MachineDescription):
        require_types(machine)
    if machine is None or isinstance(machine, MachineDescription):
        return machine
    return load_as_written(machine if isinstance(machine, str) else Path(path_of(machine, "machine")))
