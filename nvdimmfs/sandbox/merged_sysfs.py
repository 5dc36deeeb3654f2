"""The rules by which a sandbox's /sys is merged from the machine's and the host's."""

from __future__ import annotations

import os
from pathlib import Path

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
        "kernel",
        "kernel/debug",
    }
)

#: The NUMA nodes.  The machine's have only the entries that lead to its memory blocks.
_NUMA_NODES = "devices/system/node"

#: Directories that are file systems of their own, and their names in /proc/mounts.  A tool that does not find debugfs
#: mounted would mount the host's over the directory.
FILE_SYSTEMS = {"kernel/debug": "debugfs"}

#: The ACPI device tree, which the NVDIMM root device is a part of.
_ACPI_TREE = "devices/LNXSYSTM:00"

#: Names of the devices that announce persistent memory; everything below them is the machine's.
_PROVIDERS = ("e820_pmem", "ACPI0012:", "nfit_test.", "hmem", "ndbus")


def is_merged(path: str) -> bool:
    """Whether a directory, given by its path below /sys, shows the entries of both."""
    if path.startswith(_ACPI_TREE):
        return not any(name.startswith(_PROVIDERS) for name in path.split("/"))
    return path in _MERGED or path.startswith(_NUMA_NODES)


def merged_directories(root: Path) -> tuple[str, ...]:
    """Paths of directories that are merged, if the machine has them, too; those of NUMA nodes are the host's."""
    nodes = ["", *(f"/{name}" for name in _names(f"{root}/{_NUMA_NODES}") if name.startswith("node"))]
    return ("", *sorted(_MERGED), *(f"{_NUMA_NODES}{node}{part}" for node in nodes for part in ("", "/power")))


def known_link(path: str) -> str | None:
    """What a link of a NUMA node to one of the machine's memory blocks contains; None for other entries."""
    directory, _, name = path.rpartition("/")
    is_block = name.startswith("memory") and name.removeprefix("memory").isdecimal()
    if is_block and directory.startswith(f"{_NUMA_NODES}/"):
        return f"../../memory/{name}"
    return None


def hidden_host_paths(root: Path) -> frozenset[str]:
    """Paths below the host's /sys that must not be visible in a sandbox."""
    return _persistent_memory(root) | _memory_blocks_of_nodes(root)


def _memory_blocks_of_nodes(root: Path) -> frozenset[str]:
    """The links from the NUMA nodes to the host's memory blocks.  All other paths to them are the machine's anyway."""
    nodes = [name for name in _names(f"{root}/{_NUMA_NODES}") if name.startswith("node")]
    return frozenset(
        f"{_NUMA_NODES}/{node}/{name}"
        for node in nodes
        for name in _names(f"{root}/{_NUMA_NODES}/{node}")
        if name.startswith("memory")
    )


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
