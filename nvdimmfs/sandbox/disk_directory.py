"""Where a disk of the machine is in its sysfs, as the supervisor reads it through the mount."""

from __future__ import annotations

from pathlib import Path

from attrs import frozen

from nvdimmfs.sandbox.small_files import read_small


@frozen
class DiskDescription:
    """What is to be known of a disk or partition before it becomes a block device.

    Attributes:
        block_size: bytes of a logical block.
        read_only: whether it refuses writes.
    """

    block_size: int
    read_only: bool


def describe_disk(machine: Path, name: str) -> DiskDescription:
    """Describe a disk or partition; arguments as `disk_directory`.  OSError for one that is gone."""
    directory = disk_directory(machine, name)
    block_size = int(read_small(queue_of(directory) / "logical_block_size"))
    return DiskDescription(block_size, read_small(directory / "ro") == "1\n")


def disk_directory(machine: Path, name: str) -> Path:
    """The directory of a disk or partition, which exists unless it is gone.

    Args:
        machine: the machine's mount.
        name: the name of its node.
    """
    return (machine / "sys/class/block" / name).resolve()


def queue_of(directory: Path) -> Path:
    """The directory of the queue of a disk or partition with that directory: a partition uses its disk's."""
    queue = directory / "queue"
    return queue if queue.exists() else directory.parent / "queue"
