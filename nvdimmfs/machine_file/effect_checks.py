"""The checks of keys that would have no effect where they are, and of values that are listed twice."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from nvdimmfs.machine_file.dimm_checks import Problem
from nvdimmfs.machine_file.model import (
    BusDescription,
    DimmDescription,
    MachineDescription,
    PersonalityDescription,
    RangeDescription,
)
from nvdimmfs.machine_file.values import shown
from nvdimmfs.machine_file.words import SCRUB_COMMANDS, PersonalityKind, word_of

#: What a control region has, so that a DIMM without one has none of it.
_IDENTITY = (
    "vendor",
    "device",
    "rev_id",
    "subsystem_vendor",
    "subsystem_device",
    "subsystem_rev_id",
    "manufacturing_location",
    "manufacturing_date",
    "format",
    "dirty_shutdown",
)


def effect_problems(machine: MachineDescription) -> Iterator[Problem]:
    """Yield the keys of a completed machine that have a value other than the default, and no effect."""
    for index, personality in enumerate(machine.personalities):
        yield from _personality(personality, f"personality[{index}]")
    yield from _unreadable(machine)
    for bus_index, bus in enumerate(machine.buses):
        path = f"bus[{bus_index}]"
        yield from _twice(bus.commands, f"{path}.commands")
        yield from _twice(bus.test_dimms, f"{path}.test_dimms")
        if bus.has_nfit:
            yield from _bus(bus, path)
        for index, dimm in enumerate(bus.dimms):
            yield from _dimm(dimm, f"{path}.dimm[{index}]")
        for index, range_ in enumerate(bus.ranges):
            yield from _range(range_, f"{path}.range[{index}]")


def _differs(item: Any, keys: Iterable[str]) -> Iterator[str]:  # noqa: ANN401  # any class of the model
    """Yield those of the keys whose values are not the defaults."""
    fields = attrs.fields_dict(type(item))
    return (key for key in keys if getattr(item, key) != fields[key].default)


def _twice(values: tuple[Any, ...], path: str) -> Iterator[Problem]:
    """Yield a value that a list has more than once."""
    for index, value in enumerate(values):
        if value in values[:index]:
            text = f"{value:#x}" if type(value) is int else f'"{word_of(value)}"'
            yield f"{path}[{index}]", f"{text} is listed already; remove it"


def _personality(personality: PersonalityDescription, path: str) -> Iterator[Problem]:
    foreign = ("memmap", "align") if personality.kind is PersonalityKind.BTT else ("sector_size",)
    for key in _differs(personality, foreign):
        yield f"{path}.{key}", f"a {personality.kind.value} does not have it; remove it"


def _unreadable(machine: MachineDescription) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, unreadable in enumerate(machine.unreadable):
        first = seen.setdefault(unreadable.path, index)
        if first != index:
            yield f"unreadable[{index}].path", f"{shown(unreadable.path)} is also that of unreadable[{first}]; keep one"


def _bus(bus: BusDescription, path: str) -> Iterator[Problem]:
    if bus.test_dimms and not bus.is_test_platform:
        yield f"{path}.test_dimms", "only a bus of nfit_test has such devices; remove it"
    if bus.scrubs and not bus.can_scrub:
        needed = ", ".join(command.word for command in SCRUB_COMMANDS)
        yield f"{path}.scrubs", f"a bus that counts scrubs has the commands {needed}; add them, or remove scrubs"


def _dimm(dimm: DimmDescription, path: str) -> Iterator[Problem]:
    yield from _twice(dimm.commands, f"{path}.commands")
    yield from _twice(dimm.flags, f"{path}.flags")
    yield from _twice(dimm.health.alarms, f"{path}.health.alarms")
    if not dimm.control_region:
        for key in _differs(dimm, _IDENTITY):
            yield f"{path}.{key}", "a DIMM without a control region does not have it; remove one of the two"


def _range(range_: RangeDescription, path: str) -> Iterator[Problem]:
    if range_.cookie and not range_.mappings:
        yield f"{path}.cookie", "a range without DIMMs has no interleave set; remove it, or give the range DIMMs"
    bad = sorted((bad.sector, bad.sector + bad.count, index) for index, bad in enumerate(range_.badblocks))
    for (_, end, first), (start, _, second) in itertools.pairwise(bad):
        if start < end:
            later, earlier = max(first, second), min(first, second)
            yield f"{path}.badblocks[{later}]", f"it has sectors of badblocks[{earlier}]; list each sector once"
