"""The number types of a machine file: how they are parsed and formatted."""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, get_args, get_origin

import attrs

from nvdimmfs.errors import printable
from nvdimmfs.mm.pc_memory_map import PHYSICAL_BITS
from nvdimmfs.units import U64_MASK

# The number types.  For the type checker all are int; the annotation is a key of `_KINDS`.

#: Bytes: an integer, or a string with one of the suffixes K M G T P E (powers of 1024).
Size = Annotated[int, "size"]

#: A physical address, or one within a DIMM; parsed like a size, but formatted in hexadecimal.
Address = Annotated[int, "address"]

#: A number that is usually written in hexadecimal; the second argument is its width in bits.
Hexadecimal16 = Annotated[int, "hexadecimal", 16]
Hexadecimal32 = Annotated[int, "hexadecimal", 32]
Hexadecimal64 = Annotated[int, "hexadecimal", 64]

#: The same, where -1 means unknown.
MaybeHexadecimal8 = Annotated[int, "hexadecimal or -1", 8]
MaybeHexadecimal16 = Annotated[int, "hexadecimal or -1", 16]
MaybeHexadecimal64 = Annotated[int, "hexadecimal or -1", 64]

#: A count of something.
Count = Annotated[int, "count"]

#: A NUMA node, from 0 upward; -1 for none.
NumaNode = Annotated[int, "node"]

#: A number that a file has from 0 upward; one that it omits is chosen.
Index = Annotated[int, "index"]

#: A number that may be negative.
Number = Annotated[int, "number"]

#: Percent; -1 means unknown.
MaybePercent = Annotated[int, "percent or -1"]

#: A temperature: degrees Celsius in a file, sixteenths of a degree here.  `NO_TEMPERATURE` means unknown.
Temperature = Annotated[int, "temperature"]
SIXTEENTHS = 16
NO_TEMPERATURE = -1 << 15

#: Marks an omitted number whose default depends on the rest of the machine; `completed` replaces it.
TO_BE_CHOSEN = -1
#: The same for a NUMA node, where -1 is none.
NODE_TO_BE_CHOSEN = -2

#: Powers of 1024 that may follow a number.
_SUFFIXES = "KMGTPE"

#: The digits of a number; a longer one does not fit into 64 bits.
_DIGITS = "0x[0-9a-f]{1,30}|0|[1-9][0-9]{0,30}"
_SIZE = re.compile(rf"({_DIGITS})([{_SUFFIXES}]?)", re.ASCII | re.IGNORECASE)
_NUMBER = re.compile(_DIGITS, re.ASCII | re.IGNORECASE)

#: The largest integer of TOML; a larger number is written as a string.
LARGEST_TOML_INTEGER = (1 << 63) - 1

#: Length beyond which an error message abbreviates a value.
LONGEST_VALUE = 40

#: A number with more bits is formatted in hexadecimal, as Python refuses to convert thousands of digits to decimal.
_MOST_BITS = 128


def lists_as_tuples(_: type[Any], fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """Have a class take lists where its fields are tuples: its instances are keys of dicts (`field_transformer`)."""
    return [field.evolve(converter=_as_tuple) if str(field.type).startswith("tuple[") else field for field in fields]


def _as_tuple(value: Any) -> Any:  # noqa: ANN401  # whatever the caller gives
    """A list, and those in it, as tuples; anything else as it is."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


@attrs.frozen
class NumberKind:
    """The syntax and limits of a number type.

    Attributes:
        name: its name in error messages.
        article: "a" or "an".
        example: a valid value.
        minimum: the least valid value.
        limit: the least value that is too large.
        beyond: why a number is too large, where its limit explains little.
        suffixes: whether a string with a suffix such as 512M is accepted.
        hexadecimal: whether it is formatted in hexadecimal.
        fraction: how many parts one has in a file; a file may then have a floating-point number.
    """

    name: str
    example: str
    minimum: int = 0
    limit: int = U64_MASK + 1  # addresses and sizes have 64 bits; the checks decide what the machine makes of them
    article: str = "a"
    beyond: str = ""
    suffixes: bool = False
    hexadecimal: bool = False
    fraction: int = 1

    def read(self, value: object) -> int:
        """Parse a value.  ValueError, whose message includes a correction."""
        number = self._number(value)
        if number is None:
            raise ValueError(f"{shown(value)} is not {self.article} {self.name}; write for example {self.example}")
        if number < self.minimum:
            raise ValueError(f"{shown(value)} is too small; the minimum is {self.show(self.minimum)}")
        if number >= self.limit:
            reason = self.beyond or f"the maximum is {self.show(self.limit - 1)}"
            raise ValueError(f"{shown(value)} is too large; {reason}")
        return number

    def _number(self, value: object) -> int | None:
        if isinstance(value, bool):
            return None
        if isinstance(value, int):
            return value * self.fraction
        if isinstance(value, float) and self.fraction > 1 and math.isfinite(value):
            return round(value * self.fraction)
        if not isinstance(value, str):
            return None
        if self.suffixes:
            return parse_size(value)
        return int(value, 0) if self.hexadecimal and _NUMBER.fullmatch(value) else None

    def show(self, number: int) -> str:
        """Format a number for a file."""
        if self.hexadecimal:
            return f"{number:#x}" if number >= 0 else str(number)
        if self.fraction > 1:
            return f"{number / self.fraction:g}" if number % self.fraction else str(number // self.fraction)
        return show_size(number) if self.suffixes else str(number)


#: Why a size or an address of more than 64 bits is too large.
_BEYOND = f"physical addresses end at {1 << PHYSICAL_BITS:#x} (4P)"

_KINDS: dict[tuple[object, ...], NumberKind] = {
    ("size",): NumberKind("size", '"512M" or 536870912', beyond=_BEYOND, suffixes=True),
    ("address",): NumberKind(
        "address", '0x100000000 or "4G"', article="an", beyond=_BEYOND, suffixes=True, hexadecimal=True
    ),
    ("hexadecimal", 16): NumberKind("number", "0x8680", 0, 1 << 16, hexadecimal=True),
    ("hexadecimal", 32): NumberKind("number", "0x101", 0, 1 << 32, hexadecimal=True),
    ("hexadecimal", 64): NumberKind("number", "0x3a0", 0, 1 << 64, hexadecimal=True),
    ("hexadecimal or -1", 8): NumberKind("number", "0xa", -1, 1 << 8, hexadecimal=True),
    ("hexadecimal or -1", 16): NumberKind("number", "0x7e0", -1, 1 << 16, hexadecimal=True),
    ("hexadecimal or -1", 64): NumberKind("number", "0x70", -1, 1 << 64, hexadecimal=True),
    ("percent or -1",): NumberKind("percentage", "75", -1, 101),
    ("temperature",): NumberKind("temperature", "23.5 (degrees Celsius)", -(1 << 15) + 1, 1 << 15, fraction=SIXTEENTHS),
    ("count",): NumberKind("number", "8", 0, 1 << 32),
    ("node",): NumberKind("node", "1 (-1 is none)", -1, 1 << 10),
    ("index",): NumberKind("number", "1", 0, 1 << 31),
    ("number",): NumberKind("number", "1", -1, 1 << 31),
}


def number_kind(type_: object) -> NumberKind | None:
    """The kind of a number type; None for other types."""
    if get_origin(type_) is not Annotated:
        return None
    return _KINDS[get_args(type_)[1:]]


def parse_size(text: str) -> int | None:
    """Parse a size such as 512M or 0x20000000, in bytes; None when the text is not a size."""
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    power = _SUFFIXES.index(match[2].upper()) + 1 if match[2] else 0
    return int(match[1], 0) << 10 * power


def show_size(number: int) -> str:
    """Format bytes with the largest suffix that divides them, quoted if there is one: 8192 as "8K", 520 as 520."""
    if number <= 0:
        return str(number)
    power = min((number & -number).bit_length() // 10 * 10, 10 * len(_SUFFIXES))
    power = next(p for p in range(power, -1, -10) if number % (1 << p) == 0)
    return f'"{number >> power}{_SUFFIXES[power // 10 - 1]}"' if power else str(number)


def plain_size(number: int) -> str:
    """Format bytes for a person: 512M."""
    return show_size(number).strip('"')


def shown(value: Any) -> str:  # noqa: ANN401  # any value of a file
    """Format a value for an error message, abbreviated."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"{value:#x}"[:LONGEST_VALUE] + "..."
    text = json.dumps(value, ensure_ascii=False, default=str)
    return printable(text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 4]}..." + text[-1])
