"""Machines as the recordings name them."""

from __future__ import annotations

from collections.abc import Mapping

from nvdimmfs.mm.e820 import memparse
from nvdimmfs.platforms.machine import Machine


def boot(description: Mapping[str, str]) -> Machine:
    """The machine of a recording's header: its ranges and how much memory is installed."""
    memory, _ = memparse(description.get("memory", "4G"))
    return Machine.legacy(description["memmap"], memory)
