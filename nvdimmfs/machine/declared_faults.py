"""The fault rules that a machine file declares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nvdimmfs.errors import ERRNOS
from nvdimmfs.faults.rule import BadSectors, Fail, Operation, Rule, literal
from nvdimmfs.machine_file.faults import rule_of_description
from nvdimmfs.machine_file.model import MachineDescription, RangeDescription
from nvdimmfs.media.base import range_medium


def rules_of(machine: MachineDescription) -> Iterator[Rule]:
    """The rules that hold from the boot on: for bad sectors of ranges, then those that the file names as such."""
    for bus in machine.buses:
        yield from bad_sector_rules(bus.ranges)
    yield from map(rule_of_description, machine.faults)


def bad_sector_rules(ranges: Iterable[RangeDescription]) -> Iterator[Rule]:
    """The rules for `badblocks`."""
    for range_ in ranges:
        for bad in range_.badblocks:
            yield Rule(
                operation=Operation.MEDIA_READ,
                path=range_medium(range_.start, range_.size),
                action=BadSectors(bad.sector, bad.count),
            )


def unreadable_rule(path: str, errno: str) -> Rule:
    """The rule for an attribute that cannot be read, given its path from the root of the tree."""
    return Rule(operation=Operation.READ, path=literal(path.removeprefix("/")), action=Fail(ERRNOS[errno]))
