"""Listings: the names of a directory in the order of its file system, and the offset of each."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from typing import ClassVar, Protocol, overload

import attrs

from nvdimmfs.formats.name_hash import FIRST_OFFSET, INT_MAX, by_hash
from nvdimmfs.kernfs.name_order import Order, by_length, hashes, places_by_hash


class FamilyNames(Collection[str], Protocol):
    """Names whose positions are known without a search, as is whether a name is one of them."""

    def position(self, name: str) -> int:
        """The position of one of the names, from 0."""

    def at(self, position: int) -> str:
        """The name at a position.  IndexError."""

    @property
    def hashes(self) -> array[int]:
        """The hash of each name, in order."""

    @property
    def by_hash(self) -> array[int]:
        """The positions of the names, in the order of kernfs."""


@attrs.frozen(eq=False)
class _Merged(Sequence[str]):
    """The names of a family among other names.

    Attributes:
        family: the names of the family.
        others: the other names.
        places: for each name in order, its position in the family; the positions in `others` count on from those.
    """

    family: FamilyNames
    others: Sequence[str]
    places: array[int]

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self.at(place) for place in self.places[index]]
        return self.at(self.places[index])

    def at(self, place: int) -> str:
        """The name at a place."""
        count = len(self.family)
        return self.family.at(place) if place < count else self.others[place - count]


@attrs.frozen(eq=False)
class Listing:
    """The names of a directory, without `.` and `..`.

    Attributes:
        names: in order.
        offsets: the offset of each (d_off of the entry before it), and of the end.  In kernfs it is the name's hash;
            in other file systems offsets are counted, and this is a range.
    """

    #: For snapshots.
    NEVER_CHANGES: ClassVar[bool] = True

    names: Sequence[str]
    offsets: Sequence[int]

    @property
    def is_counted(self) -> bool:
        """Whether offsets are counted."""
        return isinstance(self.offsets, range)

    def index(self, offset: int, name: str) -> int:
        """The index of the first name at an offset, or after it if there is none; of several there, that of `name`.

        A kernel that finds none may also begin with the name before it: its search ends at a leaf of a balanced tree,
        whose form depends on the order of all additions (kernfs_dir_pos, fs/kernfs/dir.c, Linux 6.1).
        """
        if self.is_counted:
            return offset - FIRST_OFFSET
        count = len(self.names)
        first = index = bisect_left(self.offsets, offset, 0, count)
        while index < count and self.offsets[index] == offset:
            if self.names[index] == name:
                return index
            index += 1
        return first


def _counted(names: Sequence[str]) -> Listing:
    return Listing(names, range(FIRST_OFFSET, FIRST_OFFSET + len(names) + 1))


def _hashed(names: Sequence[str], hashes_of: array[int]) -> Listing:
    hashes_of.append(INT_MAX)
    return Listing(names, hashes_of)


def listing_of(order: Order, names: Iterable[str]) -> Listing:
    """The listing of names that are in the order in which they were added."""
    match order:
        case Order.NEWEST:
            return _counted(list(names)[::-1])
        case Order.LENGTH:
            return _counted(by_length(names))
    ordered = by_hash(names)
    return _hashed(ordered, hashes(ordered))


def listing_with_family(family: FamilyNames, gone: Collection[str], names: Iterable[str]) -> Listing:
    """The listing of a kernfs directory that holds a family.

    Args:
        family: the names of the family.
        gone: those of its nodes that were removed.
        names: the other names.
    """
    others = by_hash(names)
    hash_of = family.hashes + hashes(others)
    places = family.by_hash
    if gone:
        lost = set(map(family.position, gone))
        places = array("I", (place for place in places if place not in lost))
    merged = _Merged(family, others, places)
    if others:
        places = places + array("I", range(len(family), len(hash_of)))
        merged = _Merged(family, others, places_by_hash(places, hash_of, merged.at))
    return _hashed(merged, array("I", map(hash_of.__getitem__, merged.places)))
