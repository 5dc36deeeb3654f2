"""Machines with persistent memory for tests.

`Engine` is a machine in the process of the test, `Machine` one that is mounted, for other programs.
`nvdimmfs.testing.strategies` generates machines, writes and label areas for Hypothesis.
docs/reference/testing-api.md describes every name.

Importing this package loads nothing else: each name loads its module when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # a type checker takes it for True; the module typing would cost more than all else here
if TYPE_CHECKING:
    from nvdimmfs.machine.caller_memory import ARGUMENT_ADDRESS
    from nvdimmfs.testing.commands import CommandResult
    from nvdimmfs.testing.controls import Checkpoint, Clock, Modules, Pending
    from nvdimmfs.testing.engine import Engine
    from nvdimmfs.testing.errors import UnavailableError
    from nvdimmfs.testing.events import Events, Uevent
    from nvdimmfs.testing.faults import Fault
    from nvdimmfs.testing.machine import Machine
    from nvdimmfs.testing.refusals import Refusal, Refusals
    from nvdimmfs.testing.trace import Trace, TraceView
    from nvdimmfs.traces.event import TraceEvent

__all__ = [
    "ARGUMENT_ADDRESS",
    "Checkpoint",
    "Clock",
    "CommandResult",
    "Engine",
    "Events",
    "Fault",
    "Machine",
    "Modules",
    "Pending",
    "Refusal",
    "Refusals",
    "Trace",
    "TraceEvent",
    "TraceView",
    "Uevent",
    "UnavailableError",
]

_MODULES = {
    "ARGUMENT_ADDRESS": "nvdimmfs.machine.caller_memory",
    "Checkpoint": "nvdimmfs.testing.controls",
    "Clock": "nvdimmfs.testing.controls",
    "CommandResult": "nvdimmfs.testing.commands",
    "Engine": "nvdimmfs.testing.engine",
    "Events": "nvdimmfs.testing.events",
    "Fault": "nvdimmfs.testing.faults",
    "Machine": "nvdimmfs.testing.machine",
    "Modules": "nvdimmfs.testing.controls",
    "Pending": "nvdimmfs.testing.controls",
    "Refusal": "nvdimmfs.testing.refusals",
    "Refusals": "nvdimmfs.testing.refusals",
    "Trace": "nvdimmfs.testing.trace",
    "TraceEvent": "nvdimmfs.traces.event",
    "TraceView": "nvdimmfs.testing.trace",
    "Uevent": "nvdimmfs.testing.events",
    "UnavailableError": "nvdimmfs.testing.errors",
}


def __getattr__(name: str) -> object:
    """Load the module of a name (PEP 562)."""
    import importlib

    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
