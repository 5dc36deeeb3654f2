"""/sys inside a sandbox: the machine's, and what else the host has."""

from __future__ import annotations

from pathlib import Path

#: Folders in which the host's entries stay visible beside the machine's; none of them ever leaves the machine.  Where
#: drivers, disks and modules are listed (bus/nd, block, dev, module, ...) the machine's are all there are.
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

#: The nodes of the machine: of each it only has what leads to its memory.
_NODES = "devices/system/node"

#: Folders that are file systems of their own, and their names in /proc/mounts: who does not find debugfs there mounts
#: the host's over it.
FILE_SYSTEMS = {"kernel/debug": "debugfs"}

#: The firmware's tree of devices, which persistent memory is a part of.
_FIRMWARE_TREE = "devices/LNXSYSTM:00"

#: Devices below which everything is the machine's: those that announce persistent memory.
_PROVIDERS = ("e820_pmem", "ACPI0012:", "nfit_test.", "hmem", "ndbus")


def is_merged(path: str) -> bool:
    """Whether a folder of /sys, given below it, shows what either has."""
    if path.startswith(_FIRMWARE_TREE):
        return not any(name.startswith(_PROVIDERS) for name in path.split("/"))
    return path in _MERGED or path.startswith(_NODES)


def hosts_own(root: Path) -> frozenset[str]:
    """What the host has, below its /sys, and nobody in a sandbox may see."""
    return _persistent_memory(root) | _memory_of_nodes(root)


def _memory_of_nodes(root: Path) -> frozenset[str]:
    """The blocks of the host's own RAM, as its nodes have them; all others are the machine's already."""
    links = (root / _NODES).glob("node*/memory*")
    return frozenset(str(link.relative_to(root)) for link in links)


def _persistent_memory(root: Path) -> frozenset[str]:
    """The devices that announce the host's own persistent memory, below its /sys; nothing of them may be seen."""
    return frozenset(
        str(_provider(device).relative_to(root))
        for bus in ("nd", "dax")
        for device in _devices(root / "bus" / bus / "devices")
        if device.is_relative_to(root)
    )


def _devices(folder: Path) -> list[Path]:
    return [entry.resolve() for entry in folder.iterdir()] if folder.is_dir() else []


def _provider(device: Path) -> Path:
    """The outermost device of those that a device of the bus belongs to."""
    providers = [parent for parent in (device, *device.parents) if parent.name.startswith(_PROVIDERS)]
    return providers[-1] if providers else device
