"""The mark `nvdimm`: which machine a test gets, or which ones, a test for each."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import attrs

from nvdimmfs.machine_file.files import is_name
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.testing.selection import TYPES, WORDS, described

#: A machine as `Engine` accepts it.
AnyMachine: TypeAlias = str | os.PathLike[str] | MachineDescription

#: What the mark can set.
KEYS = ("machine", "kernel", "memmap", "ram", "clock", "media")

#: The keys whose value may be a list.
_PARAMETRISED = KEYS[:-1]

_TYPES: Mapping[str, tuple[type, ...]] = {**TYPES, "media": (bool,)}
_WORDS: Mapping[str, str] = {**WORDS, "media": "True or False"}


class MarkError(ValueError):
    """A mark or an option that selects no machine; str() is the message for the user."""


class Mark(Protocol):
    """A mark, as pytest keeps it."""

    @property
    def args(self) -> tuple[object, ...]:
        """The arguments without a name."""

    @property
    def kwargs(self) -> Mapping[str, object]:
        """The arguments with a name."""


@attrs.frozen
class Selection:
    """The machine that a test gets: the arguments of `Engine`, but a new folder where `media` is set."""

    machine: AnyMachine | None = None
    kernel: str | None = None
    memmap: str | None = None
    ram: int | str | None = None
    clock: str | None = None
    media: bool = False

    def described(self) -> MachineDescription:
        """The whole machine.  ValueError when there is none, or it cannot exist."""
        return described(self.machine, memmap=self.memmap, ram=self.ram, kernel=self.kernel, clock=self.clock)

    def __str__(self) -> str:
        parts = [_word("machine", self.machine or "the default machine")]
        parts += [
            f"{key}={_word(key, value)}" for key in KEYS[1:] if (value := getattr(self, key)) not in (None, False)
        ]
        return ", ".join(parts)


@attrs.frozen
class Variant:
    """One of the tests that a mark with lists makes.

    Attributes:
        name: its part of the test's id.
        chosen: the value of each key with a list.
    """

    name: str
    chosen: Mapping[str, object]


def merged(marks: Iterable[Mark], defaults: Mapping[str, object]) -> dict[str, object]:
    """The values of all marks of a test; of two marks with the same key, the closer one counts.  MarkError.

    Args:
        marks: the closest first: that of the function, then those of its class and module.
        defaults: the values of keys that no mark has.
    """
    found: dict[str, object] = {}
    for mark in marks:
        if mark.args:
            raise MarkError(f"{mark.args[0]!r} needs a name, as in machine=...; the names are {', '.join(KEYS)}")
        for key, value in mark.kwargs.items():
            if key not in KEYS:
                raise MarkError(f"unknown name {key}; the names are {', '.join(KEYS)}")
            found.setdefault(key, value)
    return {**defaults, **found}


def variants(values: Mapping[str, object]) -> list[Variant]:
    """One for each combination of the values in lists, the first list varying slowest; none without a list.

    MarkError for a list that is empty, or whose key can have none.
    """
    lists = [(key, list(value)) for key in KEYS if isinstance(value := values.get(key), list | tuple)]
    for key, choices in lists:
        if key not in _PARAMETRISED:
            raise MarkError(f"{key} must be {_WORDS[key]}, not a list")
        if not choices:
            raise MarkError(f"{key} has no value: the list is empty")
    if not lists:
        return []
    keys = [key for key, _ in lists]
    found = []
    for combination in itertools.product(*(choices for _, choices in lists)):
        chosen = dict(zip(keys, combination, strict=True))
        found.append(Variant("-".join(_word(key, value) for key, value in chosen.items()), chosen))
    return found


def selection(values: Mapping[str, object], folder: Path) -> Selection:
    """The machine, checked.  MarkError.

    Args:
        values: one for each key.
        folder: that of the test's file; a relative path of a machine file begins there.
    """
    for key, value in values.items():
        if not isinstance(value, (*_TYPES[key], type(None))) or (key == "ram" and isinstance(value, bool)):
            raise MarkError(f"{key} must be {_WORDS[key]}, not {_shown(value)}")
    wanted = attrs.evolve(Selection(), **cast("dict[str, Any]", values))
    if not isinstance(wanted.machine, MachineDescription | None):
        wanted = attrs.evolve(wanted, machine=located(wanted.machine, folder))
    try:
        wanted.described()
    except ValueError as error:
        raise MarkError(str(error)) from None
    return wanted


def located(machine: str | os.PathLike[str], folder: Path) -> str | Path:
    """A machine's name as it is, and the path of a machine file from a folder on."""
    return machine if isinstance(machine, str) and is_name(machine) else folder / machine


def _word(key: str, value: object) -> str:
    """A value, short."""
    if key != "machine":
        return str(value)
    if isinstance(value, MachineDescription):
        return value.name or "described"
    text = os.fspath(cast("str | os.PathLike[str]", value)) if isinstance(value, str | os.PathLike) else repr(value)
    return text if is_name(text) else Path(text).stem


def _shown(value: object) -> str:
    """A value of a type that a key cannot have."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "a list; only a mark of a function, class or module can have one"
    return f"{value!r}"
