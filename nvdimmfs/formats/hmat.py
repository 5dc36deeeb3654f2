"""The ACPI table of how fast memory is, bytes <-> attrs classes: HMAT (ACPI 6.4, section 5.2.27), revision 2.

Of its structures, those of memory proximity domain attributes and of latency and bandwidth of the memory itself, not of
a cache beside it.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator, Mapping

import attrs

from nvdimmfs.formats.acpi import AcpiTableError, body_of, joined_structures, split_structures, table

_REVISION = 2
_RESERVED = bytes(4)

#: Type and length of a structure.
_HEADER = struct.Struct("<H2xI")
_ATTRIBUTES, _LOCALITY = 0, 1

#: A structure of attributes: flags, the domains of processors and of memory.
_DOMAINS = struct.Struct("<H2xII20x")
_HAS_PROCESSORS = 1

#: The fixed part of a structure of latency or bandwidth: flags, type of the values, counts of initiators and of
#: targets, the base that each value is multiplied by.
_VALUES = struct.Struct("<BB2xII4xQ")
_HIERARCHY = 0xF

#: The largest value; the one above it means that there is no way to the memory, 0 that the value is not known.
LARGEST_VALUE = 0xFFFE

#: Latency is counted in picoseconds.
_PICOSECONDS = 1000


class ValueType(enum.IntEnum):
    """What the values of a structure are."""

    ACCESS_LATENCY = 0
    READ_LATENCY = 1
    WRITE_LATENCY = 2
    ACCESS_BANDWIDTH = 3
    READ_BANDWIDTH = 4
    WRITE_BANDWIDTH = 5

    @property
    def is_latency(self) -> bool:
        """Whether it counts in nanoseconds; else in MB/s."""
        return self < ValueType.ACCESS_BANDWIDTH

    @property
    def directions(self) -> tuple[ValueType, ...]:
        """The types for reads and for writes that it stands for."""
        if self in (ValueType.ACCESS_LATENCY, ValueType.ACCESS_BANDWIDTH):
            return ValueType(self + 1), ValueType(self + 2)
        return (self,)


#: Nanoseconds or MB/s of each type for reads or writes.
Values = Mapping[ValueType, int]


@attrs.frozen
class Locality:
    """How fast processors reach memory.

    Attributes:
        initiator: the domain of the processors.
        target: the domain of the memory.
        values: what is known.
    """

    initiator: int
    target: int
    values: Values


def base_of(kind: ValueType, values: Iterable[int]) -> int:
    """The base of a structure with these values, as QEMU chooses it: the largest power of 10 or 2 that divides all."""
    factor = _factor(kind)
    base = 1
    known = [value for value in values if value]
    while known and all(value % (base * factor) == 0 for value in known):
        base *= factor
    return base


def least_base(kind: ValueType, largest: int) -> int:
    """The smallest base with which a structure has room for a value; all others are multiples of it, too."""
    base = 1
    while largest > base * LARGEST_VALUE:
        base *= _factor(kind)
    return base


def _factor(kind: ValueType) -> int:
    return 10 if kind.is_latency else 2


def hmat(initiator: int, targets: Mapping[int, Values]) -> bytes:
    """Return an HMAT.

    Args:
        initiator: the domain of all processors, which is nearest to all memory.
        targets: the values of each domain of memory.  Each is `LARGEST_VALUE` times its base at most.
    """
    contents = [(_ATTRIBUTES, _DOMAINS.pack(_HAS_PROCESSORS, initiator, target)) for target in targets]
    for kind in stated_types(targets):
        column = [values.get(kind.directions[0], 0) for values in targets.values()]
        if any(column):
            contents.append((_LOCALITY, _locality(kind, initiator, list(targets), column)))
    return table("HMAT", _RESERVED + joined_structures(_HEADER, contents), _REVISION)


def stated_types(targets: Mapping[int, Values]) -> Iterator[ValueType]:
    """The types of its structures: one for both directions, where these do not differ."""
    for both in (ValueType.ACCESS_LATENCY, ValueType.ACCESS_BANDWIDTH):
        read, write = both.directions
        if all(values.get(read, 0) == values.get(write, 0) for values in targets.values()):
            yield both
        else:
            yield from (read, write)


def _locality(kind: ValueType, initiator: int, targets: list[int], values: list[int]) -> bytes:
    base = base_of(kind, values)
    unit = _PICOSECONDS if kind.is_latency else 1
    domains = struct.pack(f"<I{len(targets)}I", initiator, *targets)
    entries = struct.pack(f"<{len(values)}H", *(value // base for value in values))
    return _VALUES.pack(0, kind, 1, len(targets), base * unit) + domains + entries


def localities(data: bytes) -> list[Locality]:
    """Return what an HMAT has about each pair of processors and memory, in its order.  AcpiTableError."""
    found: dict[tuple[int, int], dict[ValueType, int]] = {}
    for kind, content in split_structures(_HEADER, body_of("HMAT", data)[len(_RESERVED) :]):
        if kind == _LOCALITY:
            for pair, types, value in _entries(content):
                found.setdefault(pair, {}).update(dict.fromkeys(types, value))
    return [Locality(*pair, values) for pair, values in found.items()]


def _entries(content: bytes) -> Iterator[tuple[tuple[int, int], tuple[ValueType, ...], int]]:
    """Yield each pair of domains with the types that a value is of, and the value.  AcpiTableError."""
    if len(content) < _VALUES.size:
        raise AcpiTableError("a structure of latency or bandwidth is not complete")
    flags, number, rows, columns, base = _VALUES.unpack_from(content)
    entries_at = _VALUES.size + 4 * (rows + columns)
    if len(content) < entries_at + 2 * rows * columns:
        raise AcpiTableError(f"the values of {rows} initiators and {columns} targets are not complete")
    if flags & _HIERARCHY or number > max(ValueType):
        return
    kind = ValueType(number)
    domains = struct.unpack_from(f"<{rows + columns}I", content, _VALUES.size)
    for place, (entry,) in enumerate(struct.iter_unpack("<H", content[entries_at : entries_at + 2 * rows * columns])):
        if 0 < entry <= LARGEST_VALUE:
            value = -(-entry * base // _PICOSECONDS) if kind.is_latency else entry * base
            pair = (domains[place // columns], domains[rows + place % columns])
            yield pair, kind.directions, value
