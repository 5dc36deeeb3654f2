"""What a machine shows when a test has failed."""

from __future__ import annotations

import attrs

from nvdimmfs.cli.drawing.model import MachineDrawing
from nvdimmfs.cli.drawing.mounted import drawing_of
from nvdimmfs.errors import printable
from nvdimmfs.testing.events import Uevent
from nvdimmfs.testing.plugin.factory import Made


@attrs.frozen
class Evidence:
    """The state of a machine, and how it came to it.

    Attributes:
        title: the machine's kind and arguments, in one line.
        problem: why the machine shows nothing, in one line; empty when it does.
        drawing: its memory now.
        events: the uevents since the boot.
    """

    title: str
    problem: str = ""
    drawing: MachineDrawing | None = None
    events: tuple[Uevent, ...] = ()


def evidence_of(made: Made) -> Evidence:
    """What a machine shows now.  Nothing is raised: the test's own failure matters more."""
    title = printable(made.title)
    machine = made.machine
    try:
        return Evidence(title, drawing=drawing_of(machine.layout, title), events=tuple(machine.events))
    except (OSError, ValueError) as failure:
        return Evidence(title, printable(str(failure)))
