"""Where a disk of the machine is in its sysfs, as the supervisor reads it through the mount."""

from __future__ import annotations

from pathlib import Path


def disk_directory(machine: Path, name: str) -> Path:
    """The directory of a disk or partition, which exists unless it has gone.

    Args:
        machine: the machine's mount.
        name: the name of its node.
    """
    return (machine / "sys/class/block" / name).resolve()


def queue_of(directory: Path) -> Path:
    """The directory of the queue of a disk or partition with that directory: a partition uses its disk's."""
    queue = directory / "queue"
    return queue if queue.exists() else directory.parent / "queue"
