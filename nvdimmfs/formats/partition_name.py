"""The names of partitions on disks of persistent memory (add_partition, block/partitions/core.c, Linux 6.1)."""

from __future__ import annotations

import re

#: The name of a disk ends in a digit (pmem0, pmem0.1), or in the `s` of a BTT (pmem0s).
_PARTITION = re.compile(r"(pmem[0-9.]*[0-9])p[0-9]+|(pmem[0-9.]+s)[0-9]+")


def partition_name(disk: str, number: int) -> str:
    """The name of a partition: a `p` separates the number from a digit."""
    return f"{disk}p{number}" if disk[-1].isdigit() else f"{disk}{number}"


def disk_of_partition(name: str) -> str:
    """The name of the disk that a partition is on; empty for a name that is no partition's."""
    match = _PARTITION.fullmatch(name)
    return (match[1] or match[2]) if match else ""
