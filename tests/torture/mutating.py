"""Malformed inputs: random bytes, and valid ones with a few changes; and what receives them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

import attrs

#: Numbers that break arithmetic: limits, and values just beside them.
INTERESTING = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x1000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)


class Subject:
    """Code that decodes inputs of one kind.

    Attributes:
        samples: valid inputs.
        places: offsets near which the fields are.
        may_resize: whether an input may be longer or shorter than a sample.
    """

    may_resize = True
    places: tuple[int, ...] = ()

    def __init__(self) -> None:
        self.samples: list[bytes] = []

    def repaired(self, data: bytes) -> bytes:
        """The input with checksums that fit, so that it gets past their check."""
        return data

    def feed(self, data: bytes) -> None:
        """Give the input to the code that decodes it.  An exception is a bug."""
        raise NotImplementedError


class Change(Protocol):
    """One change of an input."""

    def apply(self, data: bytearray) -> None:
        """Change the bytes in place; an offset beyond their end counts from the beginning again."""


@attrs.frozen
class Put:
    """Replace bytes."""

    offset: int
    data: bytes

    def apply(self, data: bytearray) -> None:
        if data:
            start = self.offset % len(data)
            data[start : start + len(self.data)] = self.data[: len(data) - start]


@attrs.frozen
class Flip:
    """Invert one bit."""

    offset: int
    bit: int

    def apply(self, data: bytearray) -> None:
        if data:
            data[self.offset % len(data)] ^= 1 << self.bit


@attrs.frozen
class Insert:
    """Insert bytes."""

    offset: int
    data: bytes

    def apply(self, data: bytearray) -> None:
        start = self.offset % (len(data) + 1)
        data[start:start] = self.data


@attrs.frozen
class Delete:
    """Remove bytes."""

    offset: int
    count: int

    def apply(self, data: bytearray) -> None:
        start = self.offset % (len(data) + 1)
        del data[start : start + self.count]


@attrs.frozen
class Copy:
    """Write a part of the input over another part."""

    source: int
    offset: int
    count: int

    def apply(self, data: bytearray) -> None:
        if data:
            source, start = self.source % len(data), self.offset % len(data)
            piece = data[source : source + self.count][: len(data) - start]
            data[start : start + len(piece)] = piece


def random_changes(chance: random.Random, length: int, places: Sequence[int], *, may_resize: bool) -> list[Change]:
    """A few changes of an input of `length` bytes, half of them near `places`, where its fields are."""
    changes: list[Change] = []
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 8))):
        near = chance.choice(places) + chance.randrange(-8, 64) if places and chance.random() < 0.5 else 0
        offset = max(0, near) or chance.randrange(max(1, length))
        kind = chance.random()
        width = chance.choice((1, 2, 4, 8))
        if kind < 0.4:
            value = chance.choice(INTERESTING) & (1 << 8 * width) - 1
            changes.append(Put(offset // width * width, value.to_bytes(width, "little")))
        elif kind < 0.6:
            changes.append(Flip(offset, chance.randrange(8)))
        elif kind < 0.75 or not may_resize:
            other = chance.randrange(max(1, length))
            changes.append(Copy(other, offset, chance.choice((4, 16, 128, 256, 512))))
        elif kind < 0.85:
            changes.append(Delete(offset, chance.choice((1, 2, 8, 64))))
        else:
            changes.append(Insert(offset, chance.randbytes(chance.choice((1, 2, 8)))))
    return changes


def changed(base: bytes, changes: Sequence[Change]) -> bytes:
    """The input after some changes."""
    data = bytearray(base)
    for change in changes:
        change.apply(data)
    return bytes(data)
