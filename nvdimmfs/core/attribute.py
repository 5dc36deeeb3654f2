"""Attributes declared beside their show and store, and the groups that put them, and links, into a directory.

@attribute("read_only")
def read_only(region: RegionDevice) -> str:
    return "1" if region.read_only else "0"

@read_only.on_store
def _store_read_only(region: RegionDevice, data: bytes) -> None:
    region.read_only = truth_value(region, data)

An attribute names the first kernel that has it, `@attribute("align", since="5.7")`, and with `until` the first one that
dropped it.
"""

from __future__ import annotations

import errno
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import attrs

from nvdimmfs.core.clock import Clock
from nvdimmfs.core.parse import parse_bool
from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.durations import READ
from nvdimmfs.kernels.kernel import Kernel
from nvdimmfs.kernfs import Directory, FileKind, Files, FileTable, LinkKind, Node, joined

#: The mode bits that a file loses when only root may read it.
_READ_BY_OTHERS = 0o044


class HasSystem(Protocol):
    """An object with attributes.  A store may queue work on its system."""

    @property
    def system(self) -> AttributeHost:
        """The system it belongs to."""


class AttributeHost(Protocol):
    """The system, as attributes use it."""

    @property
    def kernel(self) -> Kernel:
        """The kernel that is emulated."""

    @property
    def clock(self) -> Clock:
        """The machine's clock; reading an attribute takes time."""

    def begin_write(self) -> None:
        """User space is about to write to an attribute."""

    def end_write(self) -> None:
        """User space has written: run queued work until there is none, and let time pass."""


def truth_value(subject: HasSystem, data: bytes) -> bool:
    """A truth value as the subject's kernel reads it.  EINVAL for anything else."""
    return parse_bool(data, with_letters=subject.system.kernel.devices.t_and_f_are_truth_values)


SubjectT = TypeVar("SubjectT", bound=HasSystem)
SubjectT_contra = TypeVar("SubjectT_contra", bound=HasSystem, contravariant=True)


class KernelAttribute(Generic[SubjectT_contra]):
    """One attribute of one kind of subject, shared by all subjects of that kind.

    Attributes:
        name: the file's name.
        permissions: mode bits when a group does not decide otherwise.
        since: the first kernel that has it; None for all.
        until: the first kernel after `since` that does not have it; None when none dropped it.
        private_since: the first kernel that lets only root read it; None for none, or for all.
    """

    __slots__ = ("_show", "_store", "name", "permissions", "private_since", "since", "until")

    #: For snapshots: it is declared when its module is loaded, and knows no machine.
    NEVER_CHANGES: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        permissions: int,
        show: Callable[[SubjectT_contra], str] | None,
        store: Callable[[SubjectT_contra, bytes], None] | None,
        *,
        since: str | None = None,
        until: str | None = None,
        private_since: str | None = None,
    ) -> None:
        self.name = name
        self.permissions = permissions
        self.since = since
        self.until = until
        self.private_since = private_since
        self._show = show
        self._store = store

    @property
    def reading(self) -> str:
        """What a read returns, as text for the reference; empty when the attribute cannot be read."""
        return inspect.getdoc(self._show) or "" if self._show else ""

    @property
    def writing(self) -> str:
        """What a write does and its errors, as text for the reference; empty when the attribute cannot be written."""
        return inspect.getdoc(self._store) or "" if self._store else ""

    def on_store(self, function: Callable[[SubjectT_contra, bytes], None]) -> Callable[[SubjectT_contra, bytes], None]:
        """Declare the function that a write calls; the file becomes writable for its owner."""
        self._store = function
        self.permissions |= 0o200
        return function

    def exists_in(self, kernel: Kernel) -> bool:
        """Whether a kernel has it."""
        if self.until and kernel.has(self.until):
            return False
        return self.since is None or kernel.has(self.since)

    def permissions_in(self, kernel: Kernel, permissions: int) -> int:
        """The mode bits in a kernel; 0 if that kernel does not have the attribute."""
        if not permissions or not self.exists_in(kernel):
            return 0
        if self.private_since and not kernel.has(self.private_since):
            return permissions | _READ_BY_OTHERS
        return permissions

    def show(self, subject: SubjectT_contra) -> bytes:
        """The content.  EIO when the attribute has no show, but chmod(2) made the file readable."""
        if self._show is None:
            raise KernelError(errno.EIO, f"{self.name} cannot be read")
        clock = subject.system.clock
        if clock.scheduled:
            clock.run_due()
        try:
            return self._show(subject).encode("latin-1")
        finally:
            clock.spend(READ)

    def store(self, subject: SubjectT_contra, data: bytes) -> None:
        """Carry out a write, and then all work that it queued.  EIO as for `show`."""
        if self._store is None:
            raise KernelError(errno.EIO, f"{self.name} cannot be written")
        subject.system.begin_write()
        try:
            self._store(subject, data)
        finally:
            subject.system.end_write()


def attribute(
    name: str,
    permissions: int = 0o444,
    *,
    since: str | None = None,
    until: str | None = None,
    private_since: str | None = None,
) -> Callable[[Callable[[SubjectT], str]], KernelAttribute[SubjectT]]:
    """Declare an attribute by its show; `on_store` of the result makes it writable."""

    def declare(show: Callable[[SubjectT], str]) -> KernelAttribute[SubjectT]:
        return KernelAttribute(name, permissions, show, None, since=since, until=until, private_since=private_since)

    return declare


def write_only_attribute(
    name: str,
) -> Callable[[Callable[[SubjectT, bytes], None]], KernelAttribute[SubjectT]]:
    """Declare an attribute that can only be written (0200), by its store."""

    def declare(store: Callable[[SubjectT, bytes], None]) -> KernelAttribute[SubjectT]:
        return KernelAttribute(name, 0o200, None, store)

    return declare


def constant(name: str, text: str, *, since: str | None = None, until: str | None = None) -> KernelAttribute[HasSystem]:
    """A read-only attribute with constant content."""

    def show(_subject: HasSystem) -> str:
        return text

    show.__doc__ = f"Always `{text.strip()}`." if text.strip() else "Always empty."
    return KernelAttribute(name, 0o444, show, None, since=since, until=until)


@attrs.frozen(eq=False)
class AttributeGroup(Generic[SubjectT_contra]):
    """Attributes that come and go together.

    Attributes:
        attributes: the table.
        name: the directory that holds them, as a path; None: the subject's own directory.
        visible: mode bits of an attribute for this subject, 0 for "not there" (the kernel's is_visible); None: all are
            there with the permissions that they declare.
        since: the first kernel that has the group; None for all.
    """

    attributes: tuple[KernelAttribute[SubjectT_contra], ...]
    name: str | None = None
    visible: Callable[[SubjectT_contra, KernelAttribute[SubjectT_contra]], int] | None = None
    since: str | None = None

    def modes(self, subject: SubjectT_contra) -> tuple[int, ...]:
        """The mode bits of each attribute for this subject."""
        if self.visible is None:
            return tuple(candidate.permissions for candidate in self.attributes)
        return tuple([self.visible(subject, candidate) for candidate in self.attributes])

    def files(self, subject: SubjectT_contra) -> FileTable[SubjectT_contra]:
        """The files of the group that the subject has."""
        kernel = subject.system.kernel
        if self.since and not kernel.has(self.since):
            return FileTable({})
        files = {
            candidate.name: FileKind(permissions, candidate)
            for candidate, mode in zip(self.attributes, self.modes(subject), strict=True)
            if (permissions := candidate.permissions_in(kernel, mode))
        }
        table = FileTable(files)
        for name in reversed(self.name.split("/") if self.name else ()):
            table = FileTable({name: table})
        return table

    def create(self, directory: Directory, subject: SubjectT_contra) -> None:
        """Create the group's files for the subject in `directory`."""
        create_files(directory, subject, (self,))

    def remove(self, directory: Directory) -> None:
        """Remove a named group."""
        assert self.name, "only a group with a directory of its own is removed before its subject"
        directory.remove(self.name)


@attrs.frozen(eq=False)
class LinkGroup(Generic[SubjectT_contra]):
    """Links that exist as long as their subject.

    Attributes:
        targets: the target of each link, by the link's name.
    """

    targets: Mapping[str, Callable[[SubjectT_contra], Node]]

    #: All are there.
    visible: ClassVar[None] = None

    def files(self, _subject: SubjectT_contra) -> FileTable[SubjectT_contra]:
        """The links."""
        return FileTable({name: LinkKind(target) for name, target in self.targets.items()})


#: Tables of files by kernel, groups and modes: ten thousand devices share one table.
_tables: dict[tuple[object, ...], FileTable[Any]] = {}


def create_files(
    directory: Directory, subject: SubjectT, groups: tuple[AttributeGroup[SubjectT] | LinkGroup[SubjectT], ...]
) -> None:
    """Create the files and links of several groups for one subject in `directory`, as far as its kernel has them.

    Visibility is decided in this call, although the nodes are made when they are looked up: in the kernel, too, it does
    not change afterwards.
    """
    varying = [group.modes(subject) for group in groups if group.visible]
    key = (subject.system.kernel.name, groups, *varying)
    table = _tables.get(key)
    if table is None:
        table = _tables[key] = joined(group.files(subject) for group in groups)
    directory.populate_lazily(Files(table, subject))
