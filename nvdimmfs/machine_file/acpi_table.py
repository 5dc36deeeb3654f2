"""Tables of the firmware that a machine file gives byte by byte: their checks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nvdimmfs.machine_file.dimm_checks import Problem
from nvdimmfs.machine_file.model import AcpiTableDescription, MachineDescription
from nvdimmfs.machine_file.values import shown
from nvdimmfs.machine_file.words import BusPlatform

#: The tables that a machine gets from its buses, RAM and nodes, and what they are made from.
DERIVED = {"NFIT": "bus", "SRAT": "ram_range", "SLIT": "distances", "HMAT": "node_access"}

_SIGNATURE = re.compile(r"[A-Z0-9]{4}")

_LAST_REVISION = 0xFF


def table_problems(machine: MachineDescription) -> Iterator[Problem]:
    """Yield all errors of a machine's acpi_table."""
    if any(bus.platform is BusPlatform.DEVICE_TREE for bus in machine.buses):
        yield "acpi_table", "a machine with a device tree has no ACPI tables; omit it"
    seen: dict[str, int] = {}
    for index, table in enumerate(machine.acpi_tables):
        path = f"acpi_table[{index}]"
        yield from ((f"{path}.{key}", problem) for key, problem in _table(table))
        if table.signature in seen:
            yield f"{path}.signature", f"acpi_table[{seen[table.signature]}] has it, too; omit one of them"
        seen.setdefault(table.signature, index)


def _table(table: AcpiTableDescription) -> Iterator[tuple[str, str]]:
    """Yield the key and the error of each wrong value."""
    if not _SIGNATURE.fullmatch(table.signature):
        yield "signature", f"{shown(table.signature)} is not four capital letters or digits, such as PCAT"
    elif table.signature in DERIVED:
        yield "signature", f"the {table.signature} follows from {DERIVED[table.signature]}; omit it"
    if table.revision > _LAST_REVISION:
        yield "revision", f"{table.revision} is too large; the maximum is {_LAST_REVISION}"
    try:
        bytes.fromhex(table.body)
    except ValueError:
        yield "body", 'not bytes in hexadecimal; write for example "00 00 00 00"'
