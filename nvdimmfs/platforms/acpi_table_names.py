"""Which ACPI tables a machine's firmware has, by the names of their files."""

from __future__ import annotations

from nvdimmfs.machine_file.model import BusDescription, MachineDescription
from nvdimmfs.machine_file.ram import nodes_of
from nvdimmfs.machine_file.words import BusPlatform


def buses_with_table(machine: MachineDescription) -> list[BusDescription]:
    """The buses that an NFIT in a file describes; the module nfit_test has those of its own."""
    return [bus for bus in machine.buses if bus.has_nfit and bus.has_table and not bus.is_test_platform]


def table_names(machine: MachineDescription) -> list[str]:
    """The names of the tables; several of one kind are numbered (acpi_table_attr_init, drivers/acpi/sysfs.c).

    A machine with a device tree has none.
    """
    if any(bus.platform is BusPlatform.DEVICE_TREE for bus in machine.buses):
        return []
    count = len(buses_with_table(machine))
    names = ["NFIT"] if count == 1 else [f"NFIT{number + 1}" for number in range(count)]
    if count or machine.node_accesses or len(nodes_of(machine).possible) > 1:
        names.append("SRAT")
    if machine.distances:
        names.append("SLIT")
    if machine.node_accesses:
        names.append("HMAT")
    return [*names, *(table.signature for table in machine.acpi_tables)]
