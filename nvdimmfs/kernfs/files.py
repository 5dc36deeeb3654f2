"""Files that many directories have alike: described once, made in a directory when somebody looks at it."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs.node import Attribute, AttributeOps, Directory, Node

SubjectT = TypeVar("SubjectT")
SubjectT_contra = TypeVar("SubjectT_contra", contravariant=True)


@attrs.frozen(eq=False)
class FileKind(Generic[SubjectT_contra]):
    """An attribute that each of many subjects has.

    Attributes:
        permissions: mode bits.
        ops: what reading and writing mean.
    """

    permissions: int
    ops: AttributeOps[SubjectT_contra]


class FileTable(Generic[SubjectT_contra]):
    """The files about a subject of one kind, shared by all such subjects that have the same.

    Attributes:
        entries: attributes, and directories with tables of their own, by name and in order.
        directories: how many are directories.
    """

    __slots__ = ("directories", "entries")

    def __init__(self, entries: Mapping[str, FileKind[SubjectT_contra] | FileTable[SubjectT_contra]]) -> None:
        self.entries = entries
        self.directories = sum(isinstance(entry, FileTable) for entry in entries.values())


def joined(tables: Iterable[FileTable[SubjectT]]) -> FileTable[SubjectT]:
    """One table of all the files, those of directories with the same name joined.  EEXIST when a name is taken."""
    entries: dict[str, FileKind[SubjectT] | FileTable[SubjectT]] = {}
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
class Files(Generic[SubjectT]):
    """The files about one subject, as the contents of a directory.

    Attributes:
        table: what there is.
        subject: what it is about.
    """

    table: FileTable[SubjectT]
    subject: SubjectT

    @property
    def names(self) -> Collection[str]:
        return self.table.entries

    @property
    def directories(self) -> int:
        return self.table.directories

    def make(self) -> Iterator[Node]:
        """The nodes; those in the directories are made when somebody looks at these."""
        for name, entry in self.table.entries.items():
            if isinstance(entry, FileTable):
                directory = Directory(name)
                directory.fill_later(Files(entry, self.subject))
                yield directory
            else:
                yield Attribute(name, entry.permissions, entry.ops, self.subject)
