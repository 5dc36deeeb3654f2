"""The rules by which a sandbox's /sys is merged from the machine's and the host's."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from attrs import frozen

from nvdimmfs.sandbox.merged_view import Addition, Kind, entries_of
from nvdimmfs.sandbox.small_files import read_small

#: Directories that show the host's entries beside the machine's; the machine never removes any of them.  Directories
#: that list drivers, disks and modules (bus/nd, block, dev, module, ...) show the machine's entries alone.
_MERGED = frozenset(
    {
        "bus",
        "class",
        "devices",
        "devices/platform",
        "devices/system",
        "devices/virtual",
        "firmware",
        "firmware/acpi",
        "firmware/acpi/tables",
        "kernel",
        "kernel/debug",
    }
)

#: The NUMA nodes, which are the machine's.  The host's processors are on the first one.
_NUMA_NODES = "devices/system/node"
_FIRST_NODE = f"{_NUMA_NODES}/node0"
_PROCESSORS = "devices/system/cpu"

#: ACPI tables, and the names of those about memory.
_TABLES = "firmware/acpi/tables"
_MEMORY_TABLES = ("NFIT", "SRAT", "SLIT", "HMAT", "PCAT", "PMTT")

_NODE = re.compile(r"node[0-9]+")
_PROCESSOR = re.compile(r"cpu[0-9]+")

#: Directories that are file systems of their own, and their names in /proc/mounts.  A tool that does not find debugfs
#: mounted would mount the host's over the directory.
FILE_SYSTEMS = {"kernel/debug": "debugfs"}

#: The ACPI device tree, which the NVDIMM root device is a part of.
_ACPI_TREE = "devices/LNXSYSTM:00"

#: Names of the devices that announce persistent memory; everything below them is the machine's.
_PROVIDERS = ("e820_pmem", "ACPI0012:", "nfit_test.", "hmem", "ndbus")


@frozen
class HostSysfs:
    """What has to be known of the host's /sys, which is read while the machine is mounted.

    Attributes:
        hidden: the paths that must not be visible in a sandbox.
        added: what takes the place of entries of both, by path.
        listed: the entries of the directories that are merged, by name.
    """

    hidden: frozenset[str]
    added: Mapping[str, Addition]
    listed: Mapping[str, Mapping[str, Kind]]

    @classmethod
    def read(cls, root: Path) -> Self:
        """Read it.

        Args:
            root: the host's /sys.
        """
        listed = {directory: entries_of(f"{root}/{directory}") for directory in merged_directories()}
        return cls(hidden_host_paths(root), processors_of_nodes(root), listed)


def is_merged(path: str) -> bool:
    """Whether a directory, given by its path below /sys, shows the entries of both."""
    if path.startswith(_ACPI_TREE):
        return not any(name.startswith(_PROVIDERS) for name in path.split("/"))
    return path in _MERGED or path in (_NUMA_NODES, _FIRST_NODE)


def merged_directories() -> tuple[str, ...]:
    """Paths of directories that are merged, if the machine has them, too."""
    return ("", *sorted(_MERGED), _NUMA_NODES, _FIRST_NODE)


def known_link(path: str) -> str | None:
    """What a link of a NUMA node contains, to one of the machine's memory blocks or its bus; None for other entries."""
    directory, _, name = path.rpartition("/")
    if not directory.startswith(f"{_NUMA_NODES}/"):
        return None
    if name.startswith("memory") and name.removeprefix("memory").isdecimal():
        return f"../../memory/{name}"
    return "../../../../bus/node" if name == "subsystem" else None


def hidden_host_paths(root: Path) -> frozenset[str]:
    """Paths below the host's /sys that must not be visible in a sandbox."""
    return _persistent_memory(root) | _entries_of_nodes(root) | _tables_about_memory(root)


def _tables_about_memory(root: Path) -> frozenset[str]:
    """The host's ACPI tables that describe memory."""
    return frozenset(f"{_TABLES}/{name}" for name in _names(f"{root}/{_TABLES}") if name.startswith(_MEMORY_TABLES))


def _entries_of_nodes(root: Path) -> frozenset[str]:
    """The host's NUMA nodes, and what is in the first one."""
    return frozenset(f"{place}/{name}" for place in (_NUMA_NODES, _FIRST_NODE) for name in _names(f"{root}/{place}"))


def processors_of_nodes(root: Path) -> Mapping[str, Addition]:
    """The files and links by which the machine's first node has the host's processors; none if the host has no nodes.

    The host has them on several nodes, maybe, but the machine has a single processor.
    """
    nodes = [f"{root}/{_NUMA_NODES}/{name}" for name in _names(f"{root}/{_NUMA_NODES}") if _NODE.fullmatch(name)]
    try:
        masks = [read_small(f"{node}/cpumap").strip() for node in nodes]
        online = read_small(f"{root}/{_PROCESSORS}/online")
    except OSError:
        return {}
    if not masks:
        return {}
    added = {"cpumap": Addition(f"{_joined(masks)}\n"), "cpulist": Addition(online)}
    for name in sorted(name for node in nodes for name in _names(node) if _PROCESSOR.fullmatch(name)):
        added[name] = Addition(f"../../cpu/{name}", is_link=True)
    return {f"{_FIRST_NODE}/{name}": addition for name, addition in added.items()}


def _joined(masks: list[str]) -> str:
    """The union of bitmaps, each in words of 32 bits, hexadecimal, such as 00000001,ffffffff."""
    mask = 0
    for each in masks:
        mask |= int(each.replace(",", ""), 16)
    digits = f"{mask:0{len(masks[0].replace(',', ''))}x}"
    head = len(digits) % 8 or 8
    return ",".join([digits[:head], *(digits[at : at + 8] for at in range(head, len(digits), 8))])


def _names(directory: str) -> list[str]:
    """The names in a directory; none where there is no directory."""
    try:
        return os.listdir(directory)  # noqa: PTH208  # a host has thousands of memory blocks
    except (FileNotFoundError, NotADirectoryError):
        return []


def _persistent_memory(root: Path) -> frozenset[str]:
    """The devices that announce the host's persistent memory."""
    return frozenset(
        str(_provider(device).relative_to(root))
        for bus in ("nd", "dax")
        for device in _devices(root / "bus" / bus / "devices")
        if device.is_relative_to(root)
    )


def _devices(directory: Path) -> list[Path]:
    return [entry.resolve() for entry in directory.iterdir()] if directory.is_dir() else []


def _provider(device: Path) -> Path:
    """The outermost provider that a device of the bus is below; the device itself when there is none."""
    providers = [parent for parent in (device, *device.parents) if parent.name.startswith(_PROVIDERS)]
    return providers[-1] if providers else device
