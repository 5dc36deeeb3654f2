"""The files of a machine's ACPI tables, in /sys/firmware/acpi/tables (drivers/acpi/sysfs.c, Linux 6.1).

They have what was there at boot: memory that is plugged in later is not in them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import attrs

from nvdimmfs.core.system import System
from nvdimmfs.kernfs import BinaryAttribute, Directory, Node
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.platforms.acpi_table_names import table_names

#: Directories beside the tables, of which the machine has no content.
_FOLDERS = ("data", "dynamic")


class TableFile(BinaryAttribute):
    """A table in /sys/firmware/acpi/tables, which only root may read."""

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(name, 0o400, data)


@attrs.frozen
class TableFiles:
    """The content of /sys/firmware/acpi/tables, made at the first lookup: a machine can have ten thousand ranges.

    Attributes:
        machine: the machine as it is at boot.
    """

    machine: MachineDescription

    @property
    def names(self) -> Collection[str]:
        return (*table_names(self.machine), *_FOLDERS)

    @property
    def directories(self) -> int:
        return len(_FOLDERS)

    def instantiate(self) -> Iterator[Node]:
        """Create the files, and two empty directories."""
        from nvdimmfs.platforms.acpi_tables import tables_of  # which few programs read

        yield from (TableFile(name, data) for name, data in tables_of(self.machine).items())
        yield from map(Directory, _FOLDERS)


def create_table_files(system: System, machine: MachineDescription) -> None:
    """Create the files of a machine's tables; without tables there is no directory either."""
    if table_names(machine):
        system.directory("firmware/acpi/tables").populate_lazily(TableFiles(machine))
