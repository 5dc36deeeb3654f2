"""The machine that the arguments of `Engine` select."""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from nvdimmfs.core.clock import ClockMode
from nvdimmfs.machine_file.files import load_as_written
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.machine_file.selection import selected


def described(
    machine: str | os.PathLike[str] | MachineDescription | None,
    *,
    memmap: str | None,
    ram: int | str | None,
    kernel: str | None,
    clock: str | None,
) -> MachineDescription:
    """The machine, with what the other arguments replace.  ValueError: there is none, or it cannot exist."""
    wanted = selected(_named(machine), memmap=memmap, ram=ram, kernel=kernel, clock=clock)
    if clock is None and wanted.clock is ClockMode.REAL:
        return attrs.evolve(wanted, clock=ClockMode.STEPS)
    return wanted


def _named(machine: str | os.PathLike[str] | MachineDescription | None) -> MachineDescription | None:
    if machine is None or isinstance(machine, MachineDescription):
        return machine
    return load_as_written(machine if isinstance(machine, str) else Path(machine))
