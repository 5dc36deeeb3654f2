"""How fast the memory of nodes is, as a machine file gives it: what it omits, and what a table has no room for."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from nvdimmfs.formats.hmat import Values, ValueType, least_base
from nvdimmfs.machine_file.dimm_checks import Problem
from nvdimmfs.machine_file.model import MachineDescription, NodeAccessDescription
from nvdimmfs.machine_file.ram import nodes_of
from nvdimmfs.machine_file.values import TO_BE_CHOSEN
from nvdimmfs.machine_file.words import BusPlatform
from nvdimmfs.units import align_down

#: The values of a node by the types that the table has, and the key whose value each has by default.
KEYS = {
    ValueType.READ_LATENCY: ("read_latency", ""),
    ValueType.WRITE_LATENCY: ("write_latency", "read_latency"),
    ValueType.READ_BANDWIDTH: ("read_bandwidth", ""),
    ValueType.WRITE_BANDWIDTH: ("write_bandwidth", "read_bandwidth"),
}


def completed_access(access: NodeAccessDescription) -> NodeAccessDescription:
    """Fill in the default values: a write is as fast as a read."""
    omitted = {key: usual for key, usual in KEYS.values() if usual and getattr(access, key) == TO_BE_CHOSEN}
    return attrs.evolve(access, **{key: getattr(access, usual) for key, usual in omitted.items()})


def abridged_access(access: NodeAccessDescription) -> NodeAccessDescription:
    """Omit the values that `completed_access` would fill in."""
    implied = [key for key, usual in KEYS.values() if usual and getattr(access, key) == getattr(access, usual)]
    return attrs.evolve(access, **dict.fromkeys(implied, TO_BE_CHOSEN))


def access_of(node: int, values: Values) -> NodeAccessDescription:
    """What a table has about a node."""
    return NodeAccessDescription(node, **{key: values.get(kind, 0) for kind, (key, _) in KEYS.items()})


def values_of(machine: MachineDescription) -> dict[int, Values]:
    """What the table of a completed machine has about each node."""
    return {
        access.node: {kind: getattr(access, key) for kind, (key, _) in KEYS.items()} for access in machine.node_accesses
    }


def access_problems(machine: MachineDescription) -> Iterator[Problem]:
    """Yield all errors of a completed machine's node_access."""
    if machine.node_accesses and any(bus.platform is BusPlatform.DEVICE_TREE for bus in machine.buses):
        yield "node_access", "a machine with a device tree has no HMAT; omit it"
    possible = nodes_of(machine).possible
    seen: dict[int, int] = {}
    for index, access in enumerate(machine.node_accesses):
        path = f"node_access[{index}].node"
        if access.node not in possible:
            last = max(possible)
            yield path, f"the machine has no node {access.node}; write {f'0 to {last}' if last else '0'}"
        elif access.node in seen:
            yield path, f"node_access[{seen[access.node]}] is about node {access.node}, too; omit one of them"
        seen.setdefault(access.node, index)
        if not any(getattr(access, key) for key, _ in KEYS.values()):
            yield f"node_access[{index}]", "it has no value; give read_latency or read_bandwidth"
    for kind, (key, usual) in KEYS.items():
        values = [getattr(access, key) for access in machine.node_accesses]
        largest = max(values, default=0)
        unit = least_base(kind, largest)
        for index, value in enumerate(values):
            if value % unit and value != getattr(machine.node_accesses[index], usual, None):
                reason = f"{value} is not a multiple of {unit}, the unit of a table with {largest}"
                yield f"node_access[{index}].{key}", f"{reason}; write {max(align_down(value, unit), unit)}"
