"""Text files whose reads and writes call functions of the kernel."""

from __future__ import annotations

import errno
import stat
from typing import Generic, Protocol, TypeVar

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs.node import Node

#: st_size of every attribute, whatever its content: one page (fs/sysfs/file.c, Linux 6.1).
ATTRIBUTE_SIZE = 4096

SubjectT = TypeVar("SubjectT")
SubjectT_contra = TypeVar("SubjectT_contra", contravariant=True)


class AttributeOps(Protocol[SubjectT_contra]):
    """The read and write functions of an attribute, kept apart from the file so that ten thousand files share them."""

    def show(self, subject: SubjectT_contra) -> bytes:
        """Return the file's content.  Raises `KernelError` if the read fails."""

    def store(self, subject: SubjectT_contra, data: bytes) -> None:
        """Carry out one write(2), already truncated to a page.  Raises `KernelError` to refuse it."""


class Attribute(Node, Generic[SubjectT]):
    """A text file whose reads and writes call functions of the kernel.

    Attributes:
        ops: show and store.
        subject: the object (mostly a device) that `ops` receives.
        events: number of calls of `notify`; poll(2) compares it with the count at the reader's last read.
        size: st_size, the same for all attributes of a class.
    """

    __slots__ = ("events", "ops", "subject")

    size = ATTRIBUTE_SIZE

    def __init__(self, name: str, permissions: int, ops: AttributeOps[SubjectT], subject: SubjectT) -> None:
        super().__init__(name, stat.S_IFREG | permissions)
        self.ops = ops
        self.subject = subject
        self.events = 0

    def show(self) -> bytes:
        """Return the current content.  ENODEV after the removal, for a file descriptor that outlives its device."""
        if self.parent is None:
            raise KernelError(errno.ENODEV, f"{self.name} was removed")
        return self.ops.show(self.subject)

    def store(self, data: bytes) -> int:
        """Carry out one write(2) and return the number of bytes used: at most one page, the rest is ignored.

        ENODEV after the removal.
        """
        if self.parent is None:
            raise KernelError(errno.ENODEV, f"{self.name} was removed")
        page = data[:ATTRIBUTE_SIZE]
        if page:
            self.ops.store(self.subject, page)
        return len(page)

    def notify(self) -> None:
        """Wake all pollers of the file (the kernel's sysfs_notify)."""
        self.events += 1
        if self.parent is not None:
            self.parent.tree.notified(self)

    def take_over(self, new: Node) -> None:
        super().take_over(new)
        if isinstance(new, Attribute):
            self.ops, self.subject, self.events = new.ops, new.subject, new.events
