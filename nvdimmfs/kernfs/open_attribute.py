"""Open attributes of sysfs and debugfs, and open files of /proc."""

from __future__ import annotations

import errno
import os
import select

from nvdimmfs.errors import KernelError
from nvdimmfs.faults.faults import Caller
from nvdimmfs.kernfs.attribute import Attribute
from nvdimmfs.kernfs.binary_attribute import BinaryAttribute
from nvdimmfs.kernfs.faulty import Notice, Place, Replacement, faulty_notice, faulty_read, faulty_write
from nvdimmfs.kernfs.records import RecordFile
from nvdimmfs.units import PAGE_SIZE

#: The events that poll(2) reports for files that never block (DEFAULT_POLLMASK, include/linux/poll.h, Linux 6.1).
ALWAYS_READY = select.POLLIN | select.POLLOUT | select.POLLRDNORM | select.POLLWRNORM

#: The events that poll(2) adds when an attribute was notified since it was last read (kernfs_generic_poll,
#: fs/kernfs/file.c).  POLLERR also wakes pollers that requested no event at all, such as ndctl.
NOTIFIED = select.POLLERR | select.POLLPRI

#: Flags of open(2), and the access modes that read and write: each name of `os` is looked up once.
_O_ACCMODE, _O_DIRECT = os.O_ACCMODE, os.O_DIRECT
_READS, _WRITES = (os.O_RDONLY, os.O_RDWR), (os.O_WRONLY, os.O_RDWR)

#: The attribute was not read yet; differs from every count of notifications.
_NEVER = -1


class OpenAttribute:
    """An open attribute, which reads like the kernel's seq_file (fs/seq_file.c, Linux 6.1).

    A read at offset 0 calls the attribute's show.  A read that continues where the last one ended returns the rest of
    that text, even if the attribute has changed in the meantime; a read at any other offset calls show again.  A text
    once produced stays readable after the device is removed; any other read then is ENODEV.

    Opening an attribute for reading or writing is EACCES when no bit of its mode permits that, for root too, as in
    sysfs (KERNFS_ROOT_EXTRA_OPEN_PERM_CHECK).  The fourth access mode, 3, permits only ioctls and is not checked.
    O_DIRECT is EINVAL, and a removed attribute ENODEV.
    """

    direct = True
    opener = 0
    caller: Caller | None = None
    _checks_mode = True

    def __init__(self, attribute: Attribute[object], flags: int) -> None:
        if attribute.parent is None:
            raise KernelError(errno.ENODEV, f"{attribute.name} was removed")
        access = flags & _O_ACCMODE
        if self._checks_mode and access in _WRITES and not attribute.mode & 0o222:
            raise KernelError(errno.EACCES, f"{attribute.path} is not writable")
        if self._checks_mode and access in _READS and not attribute.mode & 0o444:
            raise KernelError(errno.EACCES, f"{attribute.path} is not readable")
        if flags & _O_DIRECT:
            raise KernelError(errno.EINVAL, "O_DIRECT is not supported for attributes")
        self.node = attribute
        self._faults = attribute.parent.tree.faults
        self._position = 0
        self._rest = b""
        self._events_seen = _NEVER
        self._notice: Notice | None = None

    def read(self, offset: int, size: int) -> bytes:
        garbage: Replacement | None = None
        if offset == 0 or offset != self._position:
            if self._faults.reads:
                size, garbage = faulty_read(Place(self.node, self._faults, self.caller), size)
            self._show(offset)
        elif not self._rest and self.node.parent is None:
            raise KernelError(errno.ENODEV, f"{self.node.name} was removed")
        piece = self._rest
        self._rest = b"" if len(piece) <= size else piece[size:]
        if self._rest:
            piece = piece[:size]
        self._position = offset + len(piece)
        return piece if garbage is None else garbage(len(piece))

    def calls_show(self, offset: int) -> bool:
        """Whether a read there calls the attribute's show.  Fault rules are about such reads alone."""
        return offset == 0 or offset != self._position

    def write(self, offset: int, data: bytes) -> int:  # noqa: ARG002  # kernfs passes every write to the store, whatever its offset
        if self._faults.writes:
            data = faulty_write(Place(self.node, self._faults, self.caller), data)
        return self.node.store(data)

    def sync(self) -> None:
        """Nothing to do."""

    @property
    def is_notified(self) -> bool:
        """Whether it was notified since it was last read, or is gone, as poll(2) reports it by the fault rules."""
        if self.node.parent is None:
            return True
        is_notified = self._events_seen != self.node.events
        if self._faults.polls or self._notice is not None:
            return self._is_reported(is_notified=is_notified)
        return is_notified

    def _is_reported(self, *, is_notified: bool) -> bool:
        if self._notice is None:
            self._notice = Notice()
        if faulty_notice(self._notice, Place(self.node, self._faults, self.caller), is_notified=is_notified):
            self._events_seen = self.node.events
        return self._notice.is_reported

    def ready(self) -> int:
        return ALWAYS_READY | NOTIFIED if self.is_notified else ALWAYS_READY

    def _show(self, offset: int) -> None:
        node = self.node
        self._position, self._rest, self._notice = 0, b"", None
        if node.parent is not None:
            self._events_seen = node.events
        text = node.show()
        self._rest = text[offset:] if offset else text


class OpenRecords(OpenAttribute):
    """An open file of records (seq_read_iter, fs/seq_file.c, Linux 6.1).

    A read returns what is left of the last record, and then the records that fit into a buffer, until it has as many
    bytes as were asked for.  The buffer is a page, or the smallest power of two that is larger than a record.  So a
    read may be short long before the end of the file.

    What the records show depends on who opened the file, not on who reads it (file_ns_capable, kernel/capability.c).

    Unlike a file of sysfs, root can open it for writing; a write is EIO, and fsync(2) EINVAL.
    """

    _checks_mode = False

    def __init__(self, file: RecordFile, flags: int) -> None:
        super().__init__(file, flags)
        self._source = file.source
        self._record = 0
        self._buffer = PAGE_SIZE

    def read(self, offset: int, size: int) -> bytes:
        piece = super().read(offset, size)
        missing = size - len(piece)
        if not missing or not (records := self._records()[self._record :]):
            return piece
        filled = self._filled(records, missing)
        self._rest = filled[missing:]
        self._position += min(len(filled), missing)
        return piece + filled[:missing]

    @property
    def is_notified(self) -> bool:
        return False

    def write(self, offset: int, data: bytes) -> int:  # noqa: ARG002  # whatever they are
        raise KernelError(errno.EIO, f"{self.node.path} has no write function")

    def sync(self) -> None:
        raise KernelError(errno.EINVAL, f"{self.node.path} has no function for fsync(2)")

    def _show(self, offset: int) -> None:
        """Go to an offset: what is left of the record there is read first (traverse)."""
        self._position, self._rest, self._record, self._notice = 0, b"", 0, None
        for record in self._records() if offset else ():
            self._record += 1
            if len(record) > offset:
                self._rest = record[offset:]
                return
            offset -= len(record)

    def _records(self) -> list[bytes]:
        """Those for its opener.  The user who serves the tree is the machine's root."""
        caller = self.caller
        return self._source.records(privileged=caller is None or caller.uid in (0, os.geteuid()))

    def _filled(self, records: list[bytes], missing: int) -> bytes:
        """The next records that fit into the buffer, one at least, until there are as many bytes as are missing."""
        while len(records[0]) >= self._buffer:
            self._buffer *= 2
        filled = b""
        for record in records:
            if filled and (len(filled) >= missing or len(filled) + len(record) >= self._buffer):
                break
            filled += record
            self._record += 1
        return filled


class OpenBinaryAttribute(OpenAttribute):
    """An open attribute of bytes, which is not buffered: each read asks for it again."""

    def __init__(self, attribute: BinaryAttribute, flags: int) -> None:
        super().__init__(attribute, flags)
        self._is_read_from_start = attribute.is_read_from_start

    def read(self, offset: int, size: int) -> bytes:
        if offset and self.node.parent is None:
            raise KernelError(errno.ENODEV, f"{self.node.name} was removed")
        if self._is_read_from_start and 0 < offset < self.node.size:
            raise KernelError(errno.EINVAL, f"{self.node.path} is read from its beginning, not from byte {offset} on")
        return super().read(offset, size)
