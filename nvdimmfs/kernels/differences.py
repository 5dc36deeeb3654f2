"""The type of a difference between kernels: a description, the source in the kernel, and the value in each release.

    class Rules:
        granularity = Difference(
            "Unit in which device memory is added", "mm/sparse.c", {"rfc": 128 * MIB, "5.7": 2 * MIB}, show=size
        )

    Rules(version("4.15")).granularity == 128 * MIB

The releases are samples: each value was read off the named release and applies up to the next named release.  The
change itself may have come with any release after the previous sample.
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

#: The series "'struct page' driver for persistent memory" of August 2015, and the release that it applies to.
RFC = "rfc"
_RFC_BASE = (4, 2)

#: Placeholder for a missing value in tables and texts.
NOTHING = "-"

T_co = TypeVar("T_co", covariant=True)


def version(name: str) -> Version:
    """Parse a release such as `4.15`.  The RFC counts as 4.2."""
    return _RFC_BASE if name == RFC else tuple(map(int, name.split(".")))


def plain(value: object) -> str:
    """Format a value for the documentation."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, enum.Enum):
        return value.name.lower().replace("_", " ")
    return NOTHING if value is None or value == "" else str(value)


def member_value(member: enum.Enum) -> str:
    """Format a member of an enumeration whose values are words."""
    return str(member.value)


def listed(values: object) -> str:
    """Format several values for one cell.  A set is sorted."""
    if isinstance(values, frozenset):
        values = sorted(values)
    assert isinstance(values, tuple | list)
    return ", ".join(map(plain, values)) or "none"


def errno_name(number: object) -> str:
    """Format an errno.  0 means success, None that the original errno is returned unchanged."""
    if number == errno.EOPNOTSUPP:
        return "EOPNOTSUPP"  # the kernel's name of the two
    if isinstance(number, int) and number:
        return errno.errorcode[number]
    return "accepted" if number == 0 else "unchanged"


def errno_names(numbers: object) -> str:
    """Format a set of errnos."""
    assert isinstance(numbers, frozenset)
    return ", ".join(sorted(map(errno_name, numbers)))


def size(number: object) -> str:
    """Format a number of bytes with the largest unit that divides it."""
    assert isinstance(number, int)
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if number and number % unit == 0:
            return f"{number // unit} {name}"
    return str(number)


class Difference(Generic[T_co]):
    """One difference between kernels: a descriptor on a subclass of `Rules`, which returns the value for its kernel.

    Attributes:
        name: name of the attribute.
        description: the difference in one line, as a heading of its values.
        source: functions and files of the kernel that it was read off.
        values: the value in each release that changed it, oldest first.  Older releases have no value, and product
            code does not read it for them.
        commit: the commit that made the last change, its id and subject, where an archive of mail or of commits names
            it; else empty.
    """

    def __init__(
        self,
        description: str,
        source: str,
        values: Mapping[str, T_co],
        show: Callable[[T_co], str] = plain,
        commit: str = "",
    ) -> None:
        self.name = ""
        self.description = description
        self.source = source
        self.values = dict(values)
        self.commit = commit
        self._show = show
        # Cache of the last lookup: all devices of a machine use the same kernel.
        self._cached_version: Version | None = None
        self._cached_value: T_co
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
        if rules.version is not self._cached_version:
            self._cached_version, self._cached_value = rules.version, self._at(rules.version)
        return self._cached_value

    def shown(self, release: Version) -> str:
        """Format the value in a release for the documentation."""
        return self._show(self._at(release)) if self._steps[-1][0] <= release else NOTHING

    def _at(self, release: Version) -> T_co:
        for since, value in self._steps:
            if since <= release:
                return value
        raise AssertionError(f"{self.name} has no value before {self._steps[-1][0]}")


@attrs.frozen
class Rules:
    """The values of some differences in one kernel.

    Attributes:
        version: the kernel's release.
    """

    version: Version

    @classmethod
    def differences(cls) -> tuple[Difference[object], ...]:
        """All differences of the class, in the order of their declaration."""
        return tuple(value for value in vars(cls).values() if isinstance(value, Difference))

    def has(self, release: str) -> bool:
        """Whether the kernel is at least that release."""
        return self.version >= version(release)
