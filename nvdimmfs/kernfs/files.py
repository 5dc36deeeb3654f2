"""Files and links that many directories have in common: declared once, instantiated for each directory on demand."""

from __future__ import annotations

import errno
import itertools
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import ClassVar, Generic, TypeAlias, TypeVar

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.name_hash import number_hashes
from nvdimmfs.kernfs.attribute import Attribute, AttributeOps
from nvdimmfs.kernfs.name_order import places_by_hash
from nvdimmfs.kernfs.node import Directory, Node, Symlink

#: The most digits of a number of the kernel's (2 to the power of 64 has 20).
_MOST_DIGITS = 20

#: Families whose order is kept: a machine has one of memory blocks, which is listed in two directories.
_KEPT_FAMILIES = 4

SubjectT = TypeVar("SubjectT")
SubjectT_contra = TypeVar("SubjectT_contra", contravariant=True)


@attrs.frozen(eq=False)
class FileKind(Generic[SubjectT_contra]):
    """An attribute that many subjects share.

    Attributes:
        permissions: mode bits.
        ops: show and store.
    """

    permissions: int
    ops: AttributeOps[SubjectT_contra]


@attrs.frozen(eq=False)
class LinkKind(Generic[SubjectT_contra]):
    """A symbolic link that many subjects share.

    Attributes:
        target: returns the target of a subject's link; valid while the subject has a directory.
    """

    target: Callable[[SubjectT_contra], Node]


class FileTable(Generic[SubjectT_contra]):
    """The files of one kind of subject, shared by all subjects that have the same files.

    Attributes:
        entries: attributes, links and directories (as tables of their own) by name, in order.
        directories: number of entries that are directories.
    """

    __slots__ = ("directories", "entries")

    #: For snapshots: machines share it.
    NEVER_CHANGES: ClassVar[bool] = True

    def __init__(self, entries: Mapping[str, Entry[SubjectT_contra]]) -> None:
        self.entries = entries
        self.directories = sum(isinstance(entry, FileTable) for entry in entries.values())


#: One entry of a table.
Entry: TypeAlias = FileKind[SubjectT_contra] | LinkKind[SubjectT_contra] | FileTable[SubjectT_contra]


def joined(tables: Iterable[FileTable[SubjectT]]) -> FileTable[SubjectT]:
    """Merge tables into one.  Directories with the same name are merged, too.  EEXIST for any other duplicate name."""
    entries: dict[str, Entry[SubjectT]] = {}
    for table in tables:
        for name, entry in table.entries.items():
            before = entries.get(name)
            if isinstance(before, FileTable) and isinstance(entry, FileTable):
                entries[name] = joined((before, entry))
            elif before is not None:
                raise KernelError(errno.EEXIST, f"{name} exists already")
            else:
                entries[name] = entry
    return FileTable(entries)


@attrs.frozen
class NumberedNames(Collection[str]):
    """The names that consist of a prefix and a number, for many numbers.

    Attributes:
        prefix: the same for all; it does not end with a digit.
        ranges: the numbers, ascending.
    """

    prefix: str
    ranges: tuple[range, ...]

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str) or not name.startswith(self.prefix):
            return False
        digits = name.removeprefix(self.prefix)
        if not (digits.isascii() and digits.isdecimal()) or (digits[0] == "0" and digits != "0"):
            return False
        number = int(digits) if len(digits) <= _MOST_DIGITS else -1
        return any(number in each for each in self.ranges)

    def __iter__(self) -> Iterator[str]:
        return (f"{self.prefix}{number}" for each in self.ranges for number in each)

    def __len__(self) -> int:
        return sum(map(len, self.ranges))

    def position(self, name: str) -> int:
        """The position of one of these names, from 0."""
        number, position = self.number(name), 0
        for each in self.ranges:
            if number in each:
                return position + each.index(number)
            position += len(each)
        raise ValueError(f"{name} is none of these names")

    def at(self, position: int) -> str:
        """The name at a position.  IndexError."""
        for each in self.ranges:
            if position < len(each):
                return f"{self.prefix}{each[position]}"
            position -= len(each)
        raise IndexError(position)

    def number(self, name: str) -> int:
        """The number in one of these names."""
        return int(name.removeprefix(self.prefix))

    @property
    def hashes(self) -> array[int]:
        """The hash of each name, in order."""
        return _hashes(self)

    @property
    def by_hash(self) -> array[int]:
        """The positions of the names, in the order of kernfs."""
        return _by_hash(self)


@lru_cache(maxsize=_KEPT_FAMILIES)
def _hashes(names: NumberedNames) -> array[int]:
    return array("I", number_hashes(names.prefix, itertools.chain.from_iterable(names.ranges)))


@lru_cache(maxsize=_KEPT_FAMILIES)
def _by_hash(names: NumberedNames) -> array[int]:
    return places_by_hash(range(len(names)), names.hashes, names.at)


@attrs.frozen
class NumberedNodes:
    """Nodes with such names, as the family of a directory.

    Attributes:
        names: their names.
        create: creates the node with a number.
        are_directories: whether they are directories.
    """

    names: NumberedNames
    create: Callable[[int], Node]
    are_directories: bool

    @property
    def directories(self) -> int:
        return len(self.names) if self.are_directories else 0

    def instantiate(self, name: str) -> Node:
        """Create the node with that name."""
        return self.create(self.names.number(name))


@attrs.frozen(weakref_slot=False)
class Files(Generic[SubjectT]):
    """The files of one subject, as the contents of a directory.

    Attributes:
        table: the files.
        subject: the object that their show and store functions receive.
    """

    table: FileTable[SubjectT]
    subject: SubjectT

    @property
    def names(self) -> Collection[str]:
        return self.table.entries

    @property
    def directories(self) -> int:
        return self.table.directories

    def instantiate(self) -> Iterator[Node]:
        """Create the nodes.  A subdirectory is populated lazily in its turn."""
        for name, entry in self.table.entries.items():
            if isinstance(entry, FileTable):
                directory = Directory(name)
                directory.populate_lazily(Files(entry, self.subject))
                yield directory
            elif isinstance(entry, LinkKind):
                yield Symlink(name, entry.target(self.subject))
            else:
                yield Attribute(name, entry.permissions, entry.ops, self.subject)
