"""The machine that the arguments of `Engine` select."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import attrs

from nvdimmfs.core.clock import ClockMode
from nvdimmfs.kernels.kernel import EMULATED_KERNELS
from nvdimmfs.machine_file.checks import problems
from nvdimmfs.machine_file.defaults import completed
from nvdimmfs.machine_file.files import load_machine
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.mm.e820 import scan_size

#: The legacy ranges of the machine that is meant where none is named.
DEFAULT_MEMMAP = "512M!4G,256M!6G"


def described(
    machine: str | os.PathLike[str] | MachineDescription | None,
    *,
    memmap: str | None,
    ram: int | str | None,
    kernel: str | None,
    clock: str | None,
) -> MachineDescription:
    """The machine, with what the other arguments replace.  ValueError: there is none, or it cannot exist."""
    wanted = _named(machine)
    if memmap is not None:
        wanted = attrs.evolve(wanted, memmap=memmap)
    if ram is not None:
        wanted = attrs.evolve(wanted, ram=_size(ram))
    if kernel is not None:
        if kernel not in EMULATED_KERNELS:
            raise ValueError(f"kernel {kernel}: must be one of {', '.join(EMULATED_KERNELS)}")
        wanted = attrs.evolve(wanted, kernel=kernel)
    return _checked(attrs.evolve(wanted, clock=_clock(clock, wanted.clock)))


@functools.lru_cache(maxsize=64)
def _checked(machine: MachineDescription) -> MachineDescription:
    """The machine with all omitted values filled in, once for each machine.  ValueError when it cannot exist."""
    machine = completed(machine)
    for path, problem in problems(machine):
        raise ValueError(f"{path}: {problem}")
    return machine


def _named(machine: str | os.PathLike[str] | MachineDescription | None) -> MachineDescription:
    if machine is None:
        return MachineDescription(memmap=DEFAULT_MEMMAP)
    if isinstance(machine, MachineDescription):
        return machine
    return load_machine(machine if isinstance(machine, str) else Path(machine))


def _size(ram: int | str) -> int:
    if isinstance(ram, int):
        return ram
    size, rest = scan_size(ram)
    if rest or not size:
        raise ValueError(f"ram {ram!r}: must be a size greater than 0, such as 4G")
    return size


def _clock(wanted: str | None, of_file: ClockMode) -> ClockMode:
    if wanted is None:
        return ClockMode.STEPS if of_file is ClockMode.REAL else of_file
    modes = {mode.value: mode for mode in ClockMode}
    if wanted not in modes:
        raise ValueError(f"clock {wanted!r}: must be one of {', '.join(modes)}")
    return modes[wanted]
