"""Open files: the bytes of devices, channels, directories; and how a file of any kind is opened."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
from typing import Protocol

from nvdimmfs.errors import KernelError, PartialTransferError, refused_by_host
from nvdimmfs.faults.faults import Caller
from nvdimmfs.faults.rule import Operation
from nvdimmfs.formats.name_hash import FIRST_OFFSET
from nvdimmfs.kernfs.attribute import Attribute
from nvdimmfs.kernfs.binary_attribute import BinaryAttribute
from nvdimmfs.kernfs.binary_file import BinaryFile
from nvdimmfs.kernfs.channel import Channel
from nvdimmfs.kernfs.device_memory import DeviceMemory
from nvdimmfs.kernfs.faulty import Place, Replacement, faulty_open, faulty_read, faulty_write
from nvdimmfs.kernfs.file_stat import file_size
from nvdimmfs.kernfs.listing import Listing
from nvdimmfs.kernfs.node import Directory, Member, Node
from nvdimmfs.kernfs.open_attribute import ALWAYS_READY, OpenAttribute, OpenBinaryAttribute, OpenRecords
from nvdimmfs.kernfs.records import RecordFile

#: The events that poll(2) reports for a channel without a message.
_WRITABLE = select.POLLOUT | select.POLLWRNORM


class OpenFile(Protocol):
    """The operations of an open file.  Each raises `KernelError` to refuse.

    Attributes:
        opener: the id of the thread that opened it.
        caller: the process that opened it; None when it is not known.
    """

    opener: int
    caller: Caller | None

    @property
    def node(self) -> Node:
        """The file in the tree."""

    @property
    def direct(self) -> bool:
        """Whether every read and write arrives here, past the kernel's page cache."""

    def read(self, offset: int, size: int) -> bytes:
        """Read at most `size` bytes from `offset`; fewer at the end of the file."""

    def write(self, offset: int, data: bytes) -> int:
        """Write, and return how many bytes were written."""

    def sync(self) -> None:
        """fsync(2)."""

    def ready(self) -> int:
        """The events that poll(2) reports."""


class OpenBinaryFile:
    """The bytes of a device, which behave as an open block device does (block/fops.c, Linux 6.1).

    Reads end at the device's end.  A write that starts at or beyond the end is ENOSPC, and one that crosses it is
    short.  Once the device has been removed, reads return nothing, a write is ENOSPC and fsync(2) EIO; opening it again
    is ENXIO.  A read-only device refuses a write with EPERM before any other check.
    With O_DIRECT, an offset or a length that is no multiple of the block size is EINVAL; the alignment of the caller's
    buffer is not checked, because FUSE does not pass its address on.
    An error of the host (its disk is full, its medium fails) keeps the host's errno.
    """

    direct = False
    opener = 0
    caller: Caller | None = None

    def __init__(self, node: BinaryFile, flags: int) -> None:
        if node.parent is None:
            raise KernelError(errno.ENXIO, f"{node.name} was removed")
        self.node = node
        self._faults = node.parent.tree.faults
        self._unit = node.block_size if flags & os.O_DIRECT else 1
        self._data = node.direct_data if flags & os.O_DIRECT else node.data

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self.view(offset, size))

    def view(self, offset: int, size: int) -> bytes | memoryview:
        """As `read`, but perhaps not a copy: it is valid until the next write."""
        garbage: Replacement | None = None
        if self._faults.reads:
            size, garbage = faulty_read(Place(self.node, self._faults, self.caller), size)
        length = min(size, file_size(self.node) - offset)
        if length <= 0:
            return b""
        self._check_alignment(offset, length)
        try:
            data = self._data.view(offset, length)
        except OSError as failure:
            raise refused_by_host(failure) from failure
        return data if garbage is None else garbage(length)

    def write(self, offset: int, data: bytes) -> int:
        if self._faults.writes:
            data = faulty_write(Place(self.node, self._faults, self.caller), data)
            if not data:
                return 0
        return self._write(offset, data, file_size(self.node))

    def write_late(self, offset: int, data: bytes) -> int:
        """As `write`, but for a device that is being removed."""
        return self._write(offset, data, self.node.size)

    def _write(self, offset: int, data: bytes, size: int) -> int:
        piece = data[: max(0, size - offset)]
        try:
            if not piece or self._is_unaligned(offset, len(piece)):
                # A read-only device refuses the write before its size and alignment are checked.
                self._data.write(self.node.size, b"")
            if not data:
                return 0
            if not piece:
                raise KernelError(errno.ENOSPC, f"{self.node.name} ends at {size}")
            self._check_alignment(offset, len(piece))
            self._data.write(offset, piece)
        except PartialTransferError as failure:
            if not failure.done:
                raise
            return failure.done
        except OSError as failure:
            raise refused_by_host(failure) from failure
        return len(piece)

    def sync(self) -> None:
        if self.node.parent is None:
            raise KernelError(errno.EIO, f"{self.node.name} was removed")
        self.sync_late()

    def sync_late(self) -> None:
        """As `sync`, but for a device that is being removed."""
        try:
            self._data.flush()
        except OSError as failure:
            raise refused_by_host(failure) from failure

    def ready(self) -> int:
        return ALWAYS_READY

    def _check_alignment(self, offset: int, length: int) -> None:
        """EINVAL unless both are multiples of the open file's block size."""
        if self._is_unaligned(offset, length):
            raise KernelError(errno.EINVAL, f"{length} bytes at {offset} are not a multiple of {self._unit} bytes")

    def _is_unaligned(self, offset: int, length: int) -> bool:
        return bool(offset % self._unit or length % self._unit)


class OpenDeviceMemory(OpenBinaryFile):
    """The memory of a device.  To open it without a driver is ENXIO, as is to read it once the driver is gone."""

    def __init__(self, node: DeviceMemory, flags: int) -> None:
        node.require_available()
        super().__init__(node, flags)
        self._memory = node

    def view(self, offset: int, size: int) -> bytes | memoryview:
        self._memory.require_available()
        return super().view(offset, size)


class OpenChannel:
    """An open channel: each read returns one message, or the rest of one that did not fit into the last read.

    Offsets are ignored.  poll(2) reports a pending message; a read without one returns end of file.
    """

    direct = True
    opener = 0
    caller: Caller | None = None

    def __init__(self, node: Channel) -> None:
        if node.parent is None:
            raise KernelError(errno.ENODEV, f"{node.name} was removed")
        self.node = node
        self.session = node.open_session(node)
        self._rest = b""

    def read(self, offset: int, size: int) -> bytes:  # noqa: ARG002  # messages are read in order
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
    """An open directory.

    Where the offset of a name is its hash, a listing goes on in the directory as it is now: a name that was added since
    is listed if its hash is still to come.  Where offsets are counted, a listing has the names that there were when it
    began, without those that were removed since; so no change makes it skip or repeat a name.

    Attributes:
        node: the directory.
        opener: the id of the thread that opened it.
        may_cache: whether the kernel may cache the names and attributes that the listing returns.
    """

    def __init__(self, directory: Directory, opener: int, *, may_cache: bool) -> None:
        self.node = directory
        self.opener = opener
        self.may_cache = may_cache
        self._counted: Listing | None = None
        # The name that was offered last: where several names have one hash, a listing goes on with this one.
        self._offered = ""

    def entries(self, start: int) -> Iterator[tuple[str, Node | Member, int]]:
        """Names, nodes, and the offsets after them, from an offset on; 0 begins a new listing.

        A caller that has no room for an entry takes no more, and goes on later with the offset before it.
        """
        listing = self._listing(start)
        if start < 1:
            yield ".", self.node, 1
        if start <= 1:
            yield "..", self.node.parent or self.node, listing.offsets[0]
        names, peek, offsets = listing.names, self.node.peek, listing.offsets
        for index in range(listing.index(max(start, FIRST_OFFSET), self._offered), len(names)):
            name = self._offered = names[index]
            node = peek(name)
            if node is not None:
                yield name, node, offsets[index + 1]

    def _listing(self, start: int) -> Listing:
        current = self.node.listing
        if not current.is_counted:
            return current
        if start == 0 or self._counted is None:
            self._counted = current
        return self._counted


def open_node(node: Node, flags: int, caller: Caller | None = None) -> OpenFile:
    """Open a file, as open(2) with these flags does.

    EISDIR for a directory, ELOOP for a symbolic link, the errnos of the classes above, and those of fault rules.

    Args:
        node: the file.
        flags: those of open(2).
        caller: the process that opens it; None when it is not known.
    """
    if node.parent is not None and node.parent.tree.faults.opens:
        faulty_open(Place(node, node.parent.tree.faults, caller))
    opened: OpenFile
    if isinstance(node, BinaryAttribute):
        opened = OpenBinaryAttribute(node, flags)
    elif isinstance(node, RecordFile):
        opened = OpenRecords(node, flags)
    elif isinstance(node, Attribute):
        opened = OpenAttribute(node, flags)
    elif isinstance(node, DeviceMemory):
        opened = OpenDeviceMemory(node, flags)
    elif isinstance(node, BinaryFile):
        opened = OpenBinaryFile(node, flags)
    elif isinstance(node, Channel):
        opened = OpenChannel(node)
    else:
        number = errno.EISDIR if isinstance(node, Directory) else errno.ELOOP
        raise KernelError(number, f"{node.path} is not a file")
    opened.caller = caller
    return opened


def read_call(file: OpenFile, offset: int, size: int) -> bytes:
    """As read(2) of a process: what is before a page that cannot be read; for the host's page cache that is EIO."""
    try:
        return file.read(offset, size)
    except PartialTransferError as failure:
        if not failure.done:
            raise
        return file.read(offset, failure.done)


def delay_of(operation: Operation, node: Node, caller: Caller | None) -> int:
    """How long a request for a file must wait before it is carried out, in nanoseconds of the host's time.

    Ask once for each request.
    """
    return 0 if node.parent is None else Place(node, node.parent.tree.faults, caller).delay(operation)


def read_delay(opened: OpenFile, offset: int) -> int:
    """How long a read must wait, likewise."""
    if isinstance(opened, OpenAttribute) and not opened.calls_show(offset):
        return 0
    return delay_of(Operation.READ, opened.node, opened.caller)


def write_delay(opened: OpenFile) -> int:
    """How long a write must wait, likewise."""
    return delay_of(Operation.WRITE, opened.node, opened.caller)


def open_delay(node: Node, caller: Caller) -> int:
    """How long an open(2) must wait, likewise."""
    return delay_of(Operation.OPEN, node, caller)
