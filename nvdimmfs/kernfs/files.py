"""Files and links that many directories have in common: declared once, instantiated for each directory on demand."""

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
