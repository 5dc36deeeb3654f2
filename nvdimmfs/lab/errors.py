"""The errors of the lab."""

from __future__ import annotations


class LabError(Exception):
    """The lab cannot do what it was asked for; the message is one line for the user."""


class ImpossibleMachineError(LabError):
    """QEMU cannot give a machine."""


class GuestEndedError(LabError):
    """A guest that ended before it was closed: its kernel panicked, or QEMU was killed."""
