"""Machines as the recordings name them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nvdimmfs.machine_file.files import load_machine
from nvdimmfs.mm.e820 import memparse
from nvdimmfs.platforms.machine import Machine


def boot(description: Mapping[str, str], media: Path | None = None) -> Machine:
    """The machine of a recording's header: a machine file, or legacy ranges and how much memory is installed.

    Args:
        description: the header's `machine`.
        media: the folder that keeps the bytes of its persistent memory; None keeps them in memory.
    """
    if name := description.get("machine"):
        return Machine.described(load_machine(name), media)
    memory, _ = memparse(description.get("memory", "4G"))
    return Machine.legacy(description["memmap"], memory, media)
