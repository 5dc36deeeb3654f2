"""Nodes of families that the kernel refers to, although they are not instantiated.

A listing makes the kernel refer to every node in it.  Half a million inodes would take a gigabyte; here each is a
number in an array.  What a request does beyond stat(2) instantiates the node.
"""

from __future__ import annotations

import time
from array import array

import attrs
from pyfuse3 import InodeT

from nvdimmfs.kernfs import Directory, FamilyNumbers, Member, Node


@attrs.define(eq=False)
class _Family:
    """The lookup counts of a family.

    Attributes:
        numbers: the inode numbers of its nodes.
        seen_ns: the time of the first lookup of one of them, which stat(2) shows of all.
        lookups: FUSE's lookup counts, by position in the family.
    """

    numbers: FamilyNumbers
    seen_ns: int
    lookups: array[int]


class Members:
    """The lookup counts of nodes that are not instantiated."""

    def __init__(self) -> None:
        self._families: dict[Directory, _Family] = {}

    def refer(self, member: Member) -> None:
        """The kernel received one more reference."""
        family = self._family(member.directory)
        family.lookups[member.ino - family.numbers.first] += 1

    def seen_ns(self, member: Member) -> int:
        """The times that stat(2) shows."""
        return self._family(member.directory).seen_ns

    def get(self, number: InodeT) -> Member | None:
        """The node with that inode number, if the kernel refers to it and it is not instantiated."""
        for directory, family in self._families.items():
            position = number - family.numbers.first
            if 0 <= position < len(family.lookups) and family.lookups[position]:
                found = directory.peek(family.numbers.names.at(position))
                return found if isinstance(found, Member) else None
        return None

    def taken(self, directory: Directory, node: Node) -> tuple[int, int] | None:
        """A node was instantiated: its lookup count and times move to an inode.  None if the kernel never saw it."""
        family = self._families.get(directory)
        if family is None:
            return None
        position = node.ino - family.numbers.first
        if not 0 <= position < len(family.lookups) or not family.lookups[position]:
            return None
        lookups, family.lookups[position] = family.lookups[position], 0
        return lookups, family.seen_ns

    def forget(self, number: InodeT, lookups: int) -> None:
        """Subtract from the lookup count."""
        for family in self._families.values():
            position = number - family.numbers.first
            if 0 <= position < len(family.lookups):
                family.lookups[position] = max(0, family.lookups[position] - lookups)

    def _family(self, directory: Directory) -> _Family:
        family = self._families.get(directory)
        if family is None:
            assert directory.numbers is not None, "a member has a number"
            counts = array("Q", bytes(array("Q").itemsize * len(directory.numbers.names)))
            family = self._families[directory] = _Family(directory.numbers, time.time_ns(), counts)
        return family
