"""What differs between kernels, each thing written down once: its value in each kernel, what it is, and its source.

    class Rules:
        granularity = Difference(
            "What device memory is added in", "mm/sparse.c", {"rfc": 128 * MIB, "5.7": 2 * MIB}, show=size
        )

    Rules(version("4.15")).granularity == 128 * MIB

The releases are samples: a value was seen in the kernel that it stands at, and holds for all up to the next one that
is named.  The exact release of a change lies somewhere after the sample before.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar, overload

import attrs

from nvdimmfs.units import GIB, KIB, MIB

#: A release as numbers that compare: (4, 15).
Version = tuple[int, ...]

#: The series "'struct page' driver for persistent memory" of August 2015, and the release that it was made for.
RFC = "rfc"
_RFC_BASE = (4, 2)

#: Stands in texts for people where there is nothing to say.
NOTHING = "-"

T_co = TypeVar("T_co", covariant=True)


def version(name: str) -> Version:
    """The numbers of a release such as `4.15`; those of 4.2 for the RFC."""
    return _RFC_BASE if name == RFC else tuple(map(int, name.split(".")))


def plain(value: object) -> str:
    """A value as the documentation shows it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, enum.Enum):
        return value.name.lower().replace("_", " ")
    return NOTHING if value is None or value == "" else str(value)


def listed(values: object) -> str:
    """Several values in one cell; in order, unless they have none."""
    if isinstance(values, frozenset):
        values = sorted(values)
    assert isinstance(values, tuple | list)
    return ", ".join(map(plain, values)) or "none"


def errno_name(number: object) -> str:
    """An errno; 0 for none, None for whatever it was."""
    if number == errno.EOPNOTSUPP:
        return "EOPNOTSUPP"  # the kernel's name of the two
    if isinstance(number, int) and number:
        return errno.errorcode[number]
    return "taken" if number == 0 else "its own"


def errno_names(numbers: object) -> str:
    """Several errnos."""
    assert isinstance(numbers, frozenset)
    return ", ".join(sorted(map(errno_name, numbers)))


def size(number: object) -> str:
    """Bytes, in the largest unit that divides them."""
    assert isinstance(number, int)
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if number and number % unit == 0:
            return f"{number // unit} {name}"
    return str(number)


class Difference(Generic[T_co]):
    """One thing that is not the same in all kernels: an attribute of `Rules`, which reads as their kernel's value.

    Attributes:
        name: of the attribute.
        what: what it is about, in one line.
        source: where that stands in the kernel.
        values: from each kernel that changed it; oldest first.  What has no value yet is not asked for.
    """

    def __init__(self, what: str, source: str, values: Mapping[str, T_co], show: Callable[[T_co], str] = plain) -> None:
        self.name = ""
        self.what = what
        self.source = source
        self.values = dict(values)
        self._show = show
        # What was asked last: all devices of a machine ask about the same kernel.
        self._asked: Version | None = None
        self._answer: T_co
        self._steps: list[tuple[Version, T_co]] = [(version(name), value) for name, value in values.items()]
        self._steps.reverse()

    def __set_name__(self, _owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, rules: None, owner: type) -> Difference[T_co]: ...
    @overload
    def __get__(self, rules: Rules, owner: type) -> T_co: ...
    def __get__(self, rules: Rules | None, owner: type) -> Difference[T_co] | T_co:
        if rules is None:
            return self
        if rules.version is not self._asked:
            self._asked, self._answer = rules.version, self._at(rules.version)
        return self._answer

    def shown(self, release: Version) -> str:
        """The value in a release, for the documentation."""
        return self._show(self._at(release)) if self._steps[-1][0] <= release else NOTHING

    def _at(self, release: Version) -> T_co:
        for since, value in self._steps:
            if since <= release:
                return value
        raise AssertionError(f"{self.name} means nothing before {self._steps[-1][0]}")


@attrs.frozen
class Rules:
    """Differences as they are in one kernel.

    Attributes:
        version: its release.
    """

    version: Version

    @classmethod
    def differences(cls) -> tuple[Difference[object], ...]:
        """All there are, in the order in which they are declared."""
        return tuple(value for value in vars(cls).values() if isinstance(value, Difference))

    def has(self, release: str) -> bool:
        """Whether the kernel is that release or a later one."""
        return self.version >= version(release)
