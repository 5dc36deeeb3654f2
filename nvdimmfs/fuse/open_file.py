"""Open files: attributes, the bytes of devices, directories."""

from __future__ import annotations

import errno
import os
import select
from typing import Protocol

from nvdimmfs.errors import KernelError, refused_by_host
from nvdimmfs.fuse.inode import file_size
from nvdimmfs.kernfs import Attribute, BinaryFile, Channel, Directory, Node

#: What poll(2) answers for files that never block (DEFAULT_POLLMASK, include/linux/poll.h, Linux 6.1).
ALWAYS_READY = select.POLLIN | select.POLLOUT | select.POLLRDNORM | select.POLLWRNORM

#: What poll(2) answers for a channel without news.
_WRITABLE = select.POLLOUT | select.POLLWRNORM

#: What poll(2) adds when an attribute was notified since it was last read (kernfs_generic_poll, fs/kernfs/file.c).
#: POLLERR reaches also those who asked for no event at all, as ndctl does.
NOTIFIED = select.POLLERR | select.POLLPRI

#: Nothing was read yet; no number of notifications equals it.
_NEVER = -1


class OpenFile(Protocol):
    """What an open file can be asked for.  A refusal is a `KernelError`."""

    @property
    def node(self) -> Node:
        """The file in the tree."""

    @property
    def direct(self) -> bool:
        """Whether reads and writes come here one by one, past the kernel's page cache."""

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on; fewer at the end of the file."""

    def write(self, offset: int, data: bytes) -> int:
        """Take a write and return how many bytes of it count."""

    def sync(self) -> None:
        """fsync(2)."""

    def ready(self) -> int:
        """The events that poll(2) reports."""


class OpenAttribute:
    """An attribute that somebody has open, with the habits of the kernel's seq_file (fs/seq_file.c, Linux 6.1).

    A read at offset 0 asks the attribute; reads that go on where the last one ended serve the rest of that answer,
    however the attribute changes meanwhile; a read anywhere else asks anew.  An answer once given stays readable when
    the device vanishes, everything else is ENODEV then.

    Opening one for reading or writing without any bit of its mode that allows it is EACCES, for root too; sysfs wants
    it so (KERNFS_ROOT_EXTRA_OPEN_PERM_CHECK).  The fourth access mode, 3, is for ioctls alone, and nothing is asked.
    O_DIRECT is EINVAL, and a removed attribute ENODEV.
    """

    direct = True

    def __init__(self, attribute: Attribute[object], flags: int) -> None:
        if attribute.parent is None:
            raise KernelError(errno.ENODEV, f"{attribute.name} was removed")
        access = flags & os.O_ACCMODE
        if access in (os.O_WRONLY, os.O_RDWR) and not attribute.mode & 0o222:
            raise KernelError(errno.EACCES, f"{attribute.path} is not writable")
        if access in (os.O_RDONLY, os.O_RDWR) and not attribute.mode & 0o444:
            raise KernelError(errno.EACCES, f"{attribute.path} is not readable")
        if flags & os.O_DIRECT:
            raise KernelError(errno.EINVAL, "no O_DIRECT")
        self.node = attribute
        self._position = 0
        self._rest = b""
        self._events_seen = _NEVER

    def read(self, offset: int, size: int) -> bytes:
        if offset == 0 or offset != self._position:
            self._ask(offset)
        elif not self._rest and self.node.parent is None:
            raise KernelError(errno.ENODEV, f"{self.node.name} was removed")
        piece, self._rest = self._rest[:size], self._rest[size:]
        self._position = offset + len(piece)
        return piece

    def write(self, offset: int, data: bytes) -> int:  # noqa: ARG002  # kernfs hands every write to the store whole
        return self.node.store(data)

    def sync(self) -> None:
        """Nothing to do."""

    @property
    def is_notified(self) -> bool:
        """Whether it was notified since it was last read, or has gone."""
        return self.node.parent is None or self._events_seen != self.node.events

    def ready(self) -> int:
        return ALWAYS_READY | NOTIFIED if self.is_notified else ALWAYS_READY

    def _ask(self, offset: int) -> None:
        self._position, self._rest = 0, b""
        if self.node.parent is not None:
            self._events_seen = self.node.events
        self._rest = bytes(self.node.show())[offset:]


class OpenBinaryFile:
    """The bytes of a device, as open block devices behave (block/fops.c, Linux 6.1).

    Reads end at the device's end; a write that starts there or behind is ENOSPC, one that crosses it is cut.  Once the
    device has vanished there is nothing to read, a write is ENOSPC and fsync(2) EIO; opening it anew is ENXIO.  EPERM
    for a device that is read-only comes before all else that is said of a write.
    With O_DIRECT, an offset or a length within a block is EINVAL; where the caller's memory lies nobody tells.
    What the host refuses (its disk is full, its medium fails) keeps the host's errno.
    """

    direct = False

    def __init__(self, node: BinaryFile, flags: int) -> None:
        if node.parent is None:
            raise KernelError(errno.ENXIO, f"{node.name} was removed")
        self.node = node
        self._unit = node.block_size if flags & os.O_DIRECT else 1

    def read(self, offset: int, size: int) -> bytes:
        length = min(size, file_size(self.node) - offset)
        if length <= 0:
            return b""
        self._check_alignment(offset, length)
        try:
            return self.node.data.read(offset, length)
        except OSError as failure:
            raise refused_by_host(failure) from failure

    def write(self, offset: int, data: bytes) -> int:
        return self._write(offset, data, file_size(self.node))

    def write_late(self, offset: int, data: bytes) -> int:
        """As `write`, although the device is about to vanish."""
        return self._write(offset, data, self.node.size)

    def _write(self, offset: int, data: bytes, size: int) -> int:
        piece = data[: max(0, size - offset)]
        try:
            if not piece or self._is_unaligned(offset, len(piece)):
                # What may not be written at all says so first.
                self.node.data.write(self.node.size, b"")
            if not piece:
                raise KernelError(errno.ENOSPC, f"{self.node.name} ends at {size}")
            self._check_alignment(offset, len(piece))
            self.node.data.write(offset, piece)
        except OSError as failure:
            raise refused_by_host(failure) from failure
        return len(piece)

    def sync(self) -> None:
        if self.node.parent is None:
            raise KernelError(errno.EIO, f"{self.node.name} was removed")
        try:
            self.node.data.flush()
        except OSError as failure:
            raise refused_by_host(failure) from failure

    def ready(self) -> int:
        return ALWAYS_READY

    def _check_alignment(self, offset: int, length: int) -> None:
        """EINVAL unless both are multiples of what the open file's requests are made of."""
        if self._is_unaligned(offset, length):
            raise KernelError(errno.EINVAL, f"{length} bytes at {offset} are no whole blocks of {self._unit}")

    def _is_unaligned(self, offset: int, length: int) -> bool:
        return bool(offset % self._unit or length % self._unit)


class OpenChannel:
    """A channel that somebody has open: each read gives one message, or what did not fit of the last one.

    Offsets mean nothing.  poll(2) tells of a message; a read that finds none is at the end of the file.
    """

    direct = True

    def __init__(self, node: Channel) -> None:
        if node.parent is None:
            raise KernelError(errno.ENODEV, f"{node.name} was removed")
        self.node = node
        self.session = node.open_session(node)
        self._rest = b""

    def read(self, offset: int, size: int) -> bytes:  # noqa: ARG002  # messages come in their order
        message = self._rest or self.session.read()
        self._rest = message[size:]
        return message[:size]

    def write(self, offset: int, data: bytes) -> int:  # noqa: ARG002
        self.session.write(data)
        return len(data)

    def sync(self) -> None:
        """Nothing to do."""

    def ready(self) -> int:
        if self._rest or self.session.has_message:
            return ALWAYS_READY
        return _WRITABLE


class OpenDirectory:
    """A directory that somebody lists.

    The names are those of the moment in which a listing starts, so that changes meanwhile make it neither skip nor
    repeat one.  Of what leaves the directory before it is told nothing is told.
    """

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self._nodes: list[Node] = []

    def listing(self, start: int) -> list[Node]:
        """The nodes of one listing, in a fixed order; a new one when `start` is 0."""
        if start == 0:
            self._nodes = list(self.directory)
        return self._nodes
