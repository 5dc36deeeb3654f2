"""Memory per namespace: ten thousand namespaces fit into a hundred MiB."""

from __future__ import annotations

import gc
import tracemalloc
import uuid

import pytest

from nvdimmfs.drivers.nd_pmem import PmemDisk
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine_file import model
from nvdimmfs.machine_file.defaults import completed
from nvdimmfs.units import KIB, MIB

#: Bytes that one more namespace may occupy, as Python counts them: of 100 MiB, a machine without namespaces takes 37.
MOST_BYTES = 5_900

FEW, MANY = 20, 220


def machine_of(namespaces: int) -> model.MachineDescription:
    """A DIMM with so many namespaces, each bound."""
    label = model.LabelAreaDescription(256 * KIB, initialised="1.2")
    named = [model.NamespaceDescription(str(uuid.UUID(int=number)), 16 * MIB) for number in range(1, namespaces + 1)]
    range_ = model.RangeDescription(
        size=(MANY + 1) * 16 * MIB, mappings=(model.MappingDescription("dimm"),), namespaces=tuple(named)
    )
    bus = model.BusDescription(dimms=(model.DimmDescription("dimm", label=label),), ranges=(range_,))
    return completed(model.MachineDescription(buses=(bus,)))


@pytest.fixture(scope="module")
def described():
    """Machines that have booted once, so that what is made once is there."""
    machines = {count: machine_of(count) for count in (FEW, MANY)}
    for machine in machines.values():
        Machine.described(machine)
    return machines


def traced_bytes(description: model.MachineDescription) -> int:
    """Bytes of a booted machine."""
    gc.collect()
    tracemalloc.start()
    try:
        machine = Machine.described(description)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] if machine else 0
    finally:
        tracemalloc.stop()


def test_one_more_namespace_occupies_a_few_kilobytes(described):
    few, many = (traced_bytes(described[count]) for count in (FEW, MANY))

    assert (many - few) / (MANY - FEW) < MOST_BYTES


def test_disks_share_the_names_of_their_attributes(described):
    """Python keeps the names once for a class with at most 29; a disk with more has a dictionary of 1.5 KiB."""
    machine = Machine.described(described[FEW])
    disks = [disk for disk in machine.persistent_memory.blocks.disks.values() if isinstance(disk, PmemDisk)]

    assert disks
    assert len(vars(disks[0])) <= 29
