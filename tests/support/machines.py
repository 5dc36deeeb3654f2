"""Machines as the recordings name them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nvdimmfs.lab.stories import machine_of
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file.model import MachineDescription

#: The folders with machine files of machines that only recordings have.
FOLDERS = tuple(Path(__file__).parent.parent / "recordings" / name for name in ("e820", "nfit", "virtio"))

#: The fields of a recording's header that describe its machine, and the options of the command line.
OPTIONS = {"machine": "--machine", "memmap": "--memmap", "memory": "--ram", "kernel": "--kernel"}


def options(description: Mapping[str, str]) -> list[str]:
    """The machine of a recording's header, as options of the command line."""
    return [word for name, value in description.items() for word in (OPTIONS[name], str(_file(name, value)))]


def _file(key: str, name: str) -> Path | str:
    """A machine file beside the recordings, of a machine that only recordings have; other values as they are."""
    files = (folder / f"{name}.toml" for folder in FOLDERS)
    return next((file for file in files if key == "machine" and file.exists()), name)


def described(name: str) -> MachineDescription:
    """The machine of a recording's header by its name: a built-in one, or one that only recordings have."""
    return machine_of({"machine": name}, FOLDERS)


def boot(description: Mapping[str, str], media: Path | None = None) -> Machine:
    """The machine of a recording's header: a machine file, or legacy ranges and how much memory; and its kernel.

    Args:
        description: the header's `machine`.
        media: the folder that keeps the bytes of its persistent memory; None keeps them in memory.
    """
    return Machine.described(machine_of(description, FOLDERS), media, clock="steps")
