"""mount(2) and fsconfig(2) with the option dax, of a file system on one of the machine's disks.

A loop device has no DAX, so a file system on it refuses the option.  Where the machine's disk has DAX, it is mounted
without; where the kernel that is emulated would refuse as well, the host's does.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from nvdimmfs.sandbox import borrowed_thread, libc
from nvdimmfs.sandbox.borrowed_call import answer_by
from nvdimmfs.sandbox.borrowed_thread import BorrowedThread, NotBorrowedError
from nvdimmfs.sandbox.calling_thread import CallingThread
from nvdimmfs.sandbox.device_node import NodeNumber
from nvdimmfs.sandbox.disk_directory import disk_directory, queue_of
from nvdimmfs.sandbox.seccomp import (
    UNFILTERED_OPTIONS,
    Notification,
    NotificationListener,
)
from nvdimmfs.sandbox.small_files import read_small
from nvdimmfs.sandbox.thread_file import ThreadFile
from nvdimmfs.units import PAGE_SIZE, U32_MASK

#: Flags of mount(2) that mount no disk: remount, bind, move, and the four that change propagation
#: (include/uapi/linux/mount.h).
_OTHER_OPERATIONS = 0x20 | 0x1000 | 0x2000 | 0x20000 | 0x40000 | 0x80000 | 0x100000

#: The magic number that old programs add to the flags (MS_MGC_VAL and MS_MGC_MSK).
_MAGIC, _MAGIC_MASK = 0xC0ED0000, 0xFFFF0000

#: Commands of fsconfig(2) (include/uapi/linux/mount.h).
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6

#: What the link in /proc to a descriptor of fsopen(2) or fspick(2) reads.
_CONTEXT = "anon_inode:[fscontext]"

#: How many contexts are remembered.  A process may close one, or end, without another call that is handed over.
_MOST_CONTEXTS = 256

#: The options that ask for DAX, and all that begin with that word.
_ASKING = ("dax", "dax=always")
_PREFIX = "dax="

#: Places in the first block of ext4 (struct ext4_super_block, fs/ext4/ext4.h, Linux 6.1): the logarithm of the block
#: size in KiB, the magic, the incompatible features; and the feature of data in inodes.
_EXT4_BLOCK = (1024, 1024)
_EXT4_FIELDS = struct.Struct("<24xI28xH38xI")
_EXT4_MAGIC = 0xEF53
_EXT4_INLINE_DATA = 0x8000


@frozen
class _Disk:
    """A disk of the machine.

    Attributes:
        node: its node.
        has_dax: whether the machine's disk has DAX.
    """

    node: Path
    has_dax: bool

    def is_refused(self, kind: bytes) -> bool:
        """Whether the file system would refuse DAX on a disk that has it (ext4_fill_super, fs/ext4/super.c).

        ext4 wants blocks of a page, and no data in inodes.
        """
        if kind != b"ext4":
            return False
        with self.node.open("rb") as file:
            offset, size = _EXT4_BLOCK
            file.seek(offset)
            block_size, magic, features = _EXT4_FIELDS.unpack_from(file.read(size).ljust(size, b"\0"))
        return magic == _EXT4_MAGIC and (1024 << block_size != PAGE_SIZE or bool(features & _EXT4_INLINE_DATA))


class MountSyscalls:
    """Executes mount(2) and fsconfig(2).  Each returns a value, `ANSWERED`, or None to have the kernel execute it.

    Args:
        node_of: the node in /dev of the machine's disk with a number; None for other disks.
        machine: the machine's mount.
    """

    def __init__(self, node_of: Callable[[NodeNumber], Path | None], machine: Path) -> None:
        self._node_of = node_of
        self._machine = machine
        #: The disks that are to be mounted, and whether their file system refuses DAX, by process and descriptor.
        self._sources: dict[tuple[int, int], _Disk] = {}

    def mount(self, caller: CallingThread, call: Notification, listener: NotificationListener) -> int | str | None:
        """Mount without the option, unless the file system refuses DAX although the disk has it: so does the kernel."""
        source, target, kind, flags, data, _ = call.arguments
        if not call.is_native or not (source and kind and data) or _is_other_operation(flags):
            return None
        try:
            options = caller.read_string(data, PAGE_SIZE).decode(errors="surrogateescape").split(",")
        except OSError:  # the kernel copies what there is of a page of options, which may be binary
            return None
        if not asks_for_dax(options):
            return None
        disk = self._disk(caller, caller.read_string(source, PAGE_SIZE))
        if disk is None or not disk.has_dax or disk.is_refused(caller.read_string(kind, PAGE_SIZE)):
            return None
        left = ",".join(option for option in options if option != "dax" and not option.startswith(_PREFIX))
        with contextlib.suppress(NotBorrowedError):
            return _mount_in_thread(caller, call, listener, (source, target, kind, flags), left)
        return None

    def fsconfig(self, caller: CallingThread, call: Notification) -> int | None:
        """Remember the source of a file system, and swallow its option dax."""
        _, _, key, value, *_ = call.arguments
        descriptor, command, *_, auxiliary = (argument & U32_MASK for argument in call.arguments[:5])
        context = caller.process, descriptor
        if command == _CREATE:
            self._sources.pop(context, None)
        if not _sets_option(command, key, value, auxiliary):
            return None
        try:
            option = caller.read_string(key, PAGE_SIZE).decode(errors="replace")
            text = caller.read_string(value, PAGE_SIZE) if command == _SET_STRING else b""
        except OSError:  # the kernel looks at the descriptor first
            return None
        if option not in ("source", "dax") or not _is_context(caller.file(descriptor)):
            return None
        if option == "source":
            self._remember(context, self._disk(caller, text))
            return None
        wanted = option if not text else f"{option}={text.decode(errors='replace')}"
        if not asks_for_dax([wanted]):
            return None
        disk = self._sources.get(context)
        return 0 if disk is not None and disk.has_dax else None

    def _remember(self, context: tuple[int, int], disk: _Disk | None) -> None:
        """Remember the source of a context, and forget the oldest beyond the limit."""
        self._sources.pop(context, None)
        if disk is None:
            return
        self._sources[context] = disk
        for oldest in list(self._sources)[:-_MOST_CONTEXTS]:
            self._sources.pop(oldest, None)

    def _disk(self, caller: CallingThread, source: bytes) -> _Disk | None:
        """The machine's disk that a path leads to; None for another file."""
        place = b"root" if source.startswith(b"/") else b"cwd"
        try:
            held = os.open(place + b"/" + source.lstrip(b"/"), os.O_PATH | os.O_CLOEXEC, dir_fd=caller.directory)
        except OSError:
            return None
        try:
            status = libc.file_status(held)
        finally:
            os.close(held)
        node = self._node_of(NodeNumber.of(status.rdev))
        return None if node is None else _Disk(node, self._has_dax(node.name))

    def _has_dax(self, name: str) -> bool:
        """Whether the machine's disk, or the disk of a partition, has DAX."""
        try:
            return read_small(queue_of(disk_directory(self._machine, name)) / "dax") == "1\n"
        except OSError:  # it is gone, or the kernel is older than the attribute
            return False


def _sets_option(command: int, key: int, value: int, auxiliary: int) -> bool:
    """Whether the arguments of fsconfig(2) set a flag or a string.  The kernel refuses any others (EINVAL)."""
    if not key or auxiliary:
        return False
    return not value if command == _SET_FLAG else command == _SET_STRING and bool(value)


def _is_context(file: ThreadFile | None) -> bool:
    """Whether an open file is a file system that is being configured."""
    return file is not None and file.path == _CONTEXT


def _is_other_operation(flags: int) -> bool:
    """Whether mount(2) with these flags mounts no disk; the magic number of old programs does not count."""
    own = flags & ~_MAGIC_MASK if flags & _MAGIC_MASK == _MAGIC else flags
    return bool(own & _OTHER_OPERATIONS)


def asks_for_dax(options: list[str]) -> bool:
    """Whether the last option about DAX asks for it."""
    about = [option for option in options if option == "dax" or option.startswith(_PREFIX)]
    return bool(about) and about[-1] in _ASKING


def _mount_in_thread(
    caller: CallingThread,
    call: Notification,
    listener: NotificationListener,
    arguments: tuple[int, int, int, int],
    options: str,
) -> str:
    """Have the calling thread mount with other options.  NotBorrowedError: the call still waits for an answer."""
    text = options.encode(errors="surrogateescape") + b"\0"
    with caller.memory() as memory:

        def use(thread: BorrowedThread, _: int) -> None:
            def mount(page: int) -> int:
                os.pwrite(memory, text, page)
                source, target, kind, own_flags = arguments
                return thread.call(borrowed_thread.MOUNT, source, target, kind, own_flags, page)

            thread.result = thread.with_page(mount, UNFILTERED_OPTIONS)

        return answer_by(use, caller, call, listener)
