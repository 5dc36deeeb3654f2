"""The base of classes that stand for a packed C structure: bytes <-> named fields."""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable
from typing import ClassVar, Self, TypeAlias

import attrs


class Structure:
    """A little-endian C structure without variable parts.  Subclasses are frozen attrs classes.

    Attributes:
        layout: the bytes of the fields, in the order in which the class names them.  Padding ("x") is for reserved
            bytes that are written as zeros; reserved bytes that a writer must leave alone are a field.
    """

    __slots__ = ()

    layout: ClassVar[struct.Struct]

    def __init__(self, *fields: int | bytes) -> None:
        """Replaced by attrs; declares the types of fields: numbers and bytes."""

    @classmethod
    def size(cls) -> int:
        """Bytes of the structure."""
        return cls.layout.size

    @classmethod
    def from_bytes(cls, data: bytes | bytearray, offset: int = 0) -> Self:
        """Decode the structure at `offset`.  The caller makes sure that all of it is there."""
        return cls(*cls.layout.unpack_from(data, offset))

    def to_bytes(self) -> bytes:
        """The structure's bytes."""
        return self.layout.pack(*_reader(type(self))(self))

    def write_to(self, buffer: bytearray) -> None:
        """Encode into the beginning of `buffer`, in place.  The caller makes sure that there is room."""
        self.layout.pack_into(buffer, 0, *_reader(type(self))(self))


_Reader: TypeAlias = Callable[[Structure], tuple[int | bytes, ...]]
_READERS: dict[type[Structure], _Reader] = {}


def _reader(structure: type[Structure]) -> _Reader:
    """Returns all fields of a structure at once, several times as fast as attrs.astuple."""
    reader = _READERS.get(structure)
    if reader is None:
        reader = _READERS[structure] = _new_reader(structure)
    return reader


def _new_reader(structure: type[Structure]) -> _Reader:
    names = [field.name for field in attrs.fields(structure)]  # type: ignore[arg-type]  # subclasses are attrs classes
    if len(names) == 1:
        return lambda value: (getattr(value, names[0]),)
    return operator.attrgetter(*names)
