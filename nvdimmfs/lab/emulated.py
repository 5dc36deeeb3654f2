"""Emulated machines that answer stories in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nvdimmfs.kernels.races import Referee
from nvdimmfs.lab.trees import InProcess
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.model import MachineDescription

#: The mode of the clock: answers do not depend on how fast the host is.
CLOCK = "steps"


@contextmanager
def emulated(
    description: MachineDescription, media: Path | None = None, referee: Referee | None = None
) -> Iterator[InProcess]:
    """A machine that has just booted.

    Args:
        description: the machine.
        media: the folder that keeps its persistent memory; None keeps it in memory.
        referee: decides races, also at boot; None for the usual outcomes.
    """
    machine = Machine.described(description, media, clock=CLOCK, referee=referee)

    def power_cycle() -> Machine:
        nonlocal machine
        machine = machine.power_cycled()
        return machine

    try:
        yield InProcess(machine, power_cycle)
    finally:
        machine.close()
