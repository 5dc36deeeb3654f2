"""Files and links that many directories have alike: described once, made in one when somebody looks at it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Generic, TypeAlias, TypeVar

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs.node import Attribute, AttributeOps, Directory, Node, Symlink

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


@attrs.frozen(eq=False)
class LinkKind(Generic[SubjectT_contra]):
    """A symbolic link that each of many subjects has.

    Attributes:
        target: where that of a subject leads, as long as the subject has a directory.
    """

    target: Callable[[SubjectT_contra], Node]


class FileTable(Generic[SubjectT_contra]):
    """The files about a subject of one kind, shared by all such subjects that have the same.

    Attributes:
        entries: attributes, links, and directories with tables of their own, by name and in order.
        directories: how many are directories.
    """

    __slots__ = ("directories", "entries")

    def __init__(self, entries: Mapping[str, Entry[SubjectT_contra]]) -> None:
        self.entries = entries
        self.directories = sum(isinstance(entry, FileTable) for entry in entries.values())


#: What a table has under a name.
Entry: TypeAlias = FileKind[SubjectT_contra] | LinkKind[SubjectT_contra] | FileTable[SubjectT_contra]


def joined(tables: Iterable[FileTable[SubjectT]]) -> FileTable[SubjectT]:
    """One table of all the files, those of directories with the same name joined.  EEXIST when a name is taken."""
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
            elif isinstance(entry, LinkKind):
                yield Symlink(name, entry.target(self.subject))
            else:
                yield Attribute(name, entry.permissions, entry.ops, self.subject)
