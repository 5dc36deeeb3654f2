"""mmap(2) and madvise(2) on the memory of dax devices.

The node of a dax device is one that cannot be mapped.  What is mapped is the device's file in the machine's mount.  The
caller's thread maps it itself (`borrowed_thread`); where that is not possible, the file takes the place of the node in
the caller's descriptor, and the call goes on with that.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import struct
from collections.abc import Callable

from attrs import frozen

from nvdimmfs.formats.control import Map
from nvdimmfs.host import CAP_SYS_ADMIN
from nvdimmfs.sandbox import borrowed_thread
from nvdimmfs.sandbox.borrowed_call import answer_by
from nvdimmfs.sandbox.borrowed_thread import BorrowedThread, NotBorrowedError
from nvdimmfs.sandbox.calling_thread import CallingThread
from nvdimmfs.sandbox.control_client import ControlClient
from nvdimmfs.sandbox.device_node import NodeNumber
from nvdimmfs.sandbox.errors import os_error
from nvdimmfs.sandbox.libc import FileStatus
from nvdimmfs.sandbox.seccomp import (
    MADV_SOFT_OFFLINE,
    MAP_ANONYMOUS,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_TYPE,
    UNFILTERED_MMAP,
    Notification,
    NotificationListener,
)
from nvdimmfs.sandbox.thread_file import ThreadFile
from nvdimmfs.units import PAGE_SIZE, U32_MASK, align_down, align_up

# Protection and flags of mmap(2) (include/uapi/asm-generic/mman-common.h, mman.h).
_PROT_WRITE, _PROT_EXEC = 0x2, 0x4
_MAP_FIXED = 0x10
_MAP_32BIT = 0x40
_MAP_GROWSDOWN = 0x100
_MAP_NORESERVE = 0x4000
_MAP_HUGETLB = 0x40000
_MAP_SYNC = 0x80000

#: All that MAP_SHARED_VALIDATE accepts of a dax device: LEGACY_MAP_MASK (include/linux/mman.h) and MAP_SYNC (dax_fops,
#: drivers/dax/device.c; Linux 6.1).
_VALID_FLAGS = 0x7C07F973 | _MAP_SYNC

#: Where user space ends (TASK_SIZE_MAX of x86-64 with four levels of page tables), and offsets that have no sign.
_END_OF_ADDRESSES = 1 << 47
_END_OF_OFFSETS = 1 << 63

#: si_code of a SIGBUS because of memory that the process was about to use (include/uapi/asm-generic/siginfo.h).
_BUS_MCEERR_AR = 4
#: struct siginfo of SIGBUS: signo, errno, code, address and the logarithm of its granularity.
_SIGINFO = struct.Struct("=iii4xQh102x")
_SIGINFO_OF_32_BITS = struct.Struct("=iiiIh110x")


@frozen
class _Mapping:
    """A call of mmap(2) on a dax device.

    Attributes:
        address: as it was passed.
        length: bytes, a multiple of the page size.
        protection, flags: as they were passed.
        offset: in the device, bytes.
    """

    address: int
    length: int
    protection: int
    flags: int
    offset: int

    @classmethod
    def of(cls, notification: Notification) -> _Mapping:
        address, length, protection, flags, _, offset = notification.arguments
        unit = 1 if notification.is_native else PAGE_SIZE  # mmap2(2) counts in pages
        return cls(address, align_up(length, PAGE_SIZE), protection, flags, offset * unit)

    @property
    def is_shared(self) -> bool:
        return self.flags & MAP_TYPE in (MAP_SHARED, MAP_SHARED_VALIDATE)

    @property
    def is_fixed(self) -> bool:
        return bool(self.flags & (_MAP_FIXED | MAP_FIXED_NOREPLACE))

    @property
    def start(self) -> int:
        """Where it would begin; the kernel chooses an address with the alignment of the offset."""
        return align_down(self.address, PAGE_SIZE) or self.offset

    @property
    def file_flags(self) -> int:
        """The flags with which the file in the mount is mapped, which knows no MAP_SYNC."""
        return self.flags & ~(MAP_TYPE | _MAP_SYNC) | MAP_SHARED

    def is_refused_earlier(self, file: ThreadFile) -> bool:
        """Whether any kernel refuses it before it asks the device; the host's then finds the same errno."""
        return (
            not file.is_readable
            or (self.is_shared and bool(self.protection & _PROT_WRITE) and not file.is_writable)
            or not 0 < self.length <= _END_OF_ADDRESSES
            or self.offset % PAGE_SIZE != 0
            or self.offset >= _END_OF_OFFSETS
            or bool(self.flags & _MAP_HUGETLB)
            or (self.is_fixed and self.address % PAGE_SIZE != 0)
        )

    def check_flags(self) -> None:
        """EOPNOTSUPP for flags that a device with MAP_SYNC does not know, EINVAL for a stack."""
        if self.flags & MAP_TYPE == MAP_SHARED_VALIDATE and self.flags & ~_VALID_FLAGS:
            raise os_error(errno.EOPNOTSUPP)
        if self.flags & _MAP_GROWSDOWN:
            raise os_error(errno.EINVAL)


class MemorySyscalls:
    """Executes mmap(2) and madvise(2).  Each returns a value, `ANSWERED`, or None to have the kernel execute the call.

    Args:
        client: the machine.
        is_machine_device: whether a file is the node of one of the machine's devices.
        is_gone_dax: whether a file is the node of a dax device that is gone.
        files: an open directory, that of the machine's files in its mount.
    """

    def __init__(
        self,
        client: ControlClient,
        is_machine_device: Callable[[ThreadFile], bool],
        is_gone_dax: Callable[[ThreadFile], bool],
        files: int,
    ) -> None:
        self._client = client
        self._is_machine_device = is_machine_device
        self._is_gone_dax = is_gone_dax
        self._files = files
        self._filesystem = os.fstat(files).st_dev
        #: The numbers of devices whose files have been mapped, by file system and inode.
        self._mapped: dict[tuple[int, int], NodeNumber] = {}

    def may_concern(self, status: FileStatus) -> bool:
        """Whether a mapping of a file with that status may be one of a dax device's, or of an attribute."""
        return stat.S_ISCHR(status.mode) or status.filesystem == self._filesystem

    def mmap(self, caller: CallingThread, call: Notification, listener: NotificationListener) -> int | str | None:
        """Map a dax device.  Errors in the kernel's order: those of `_Mapping` first, those of `check_mapping` last."""
        descriptor = call.arguments[4] & U32_MASK
        file = caller.file(descriptor)
        mapping = _Mapping.of(call)
        if file is None or mapping.is_refused_earlier(file):
            return None
        number = self._device(file)
        if number is None:
            return self._refusal(file, mapping)
        mapping.check_flags()
        place = mapping.start, mapping.length, mapping.is_shared
        found = self._client.map(Map("char", number.major, number.minor, *place, caller.thread, caller.comm))
        if isinstance(found, int):
            return None if found == -errno.ENODEV else found
        try:
            memory = os.open(found.name, file.flags & os.O_ACCMODE | os.O_CLOEXEC, dir_fd=self._files)
        except FileNotFoundError:  # the device has been unbound since it was asked
            return -errno.ENXIO
        try:
            status = os.fstat(memory)
            self._mapped[status.st_dev, status.st_ino] = number
            if borrowed_thread.is_possible():
                with contextlib.suppress(NotBorrowedError):
                    return _map_in_thread(caller, call, listener, memory, mapping, found.align)
            listener.replace_file(call, memory, descriptor, file.flags & os.O_CLOEXEC)
        finally:
            os.close(memory)
        return None

    def _refusal(self, file: ThreadFile, mapping: _Mapping) -> int | None:
        """The error for a file that is no device of the machine's; None where the host's kernel decides.

        An attribute cannot be mapped: ENODEV (kernfs_fop_mmap, fs/kernfs/file.c, Linux 6.1), and EPERM as a program,
        since no file of sysfs is one (SB_I_NOEXEC, kernfs_fill_super, fs/kernfs/mount.c).  FUSE would map it privately.
        """
        if self._is_attribute(file):
            return -errno.EPERM if mapping.protection & _PROT_EXEC else -errno.ENODEV
        return -errno.ENXIO if self._is_gone_dax(file) else None

    def _is_attribute(self, file: ThreadFile) -> bool:
        """Whether a file is one of the machine's /sys, at which the sandbox shows it."""
        is_in_mount = file.is_regular and file.status.filesystem == self._filesystem
        return is_in_mount and file.path.startswith("/sys/")

    def madvise(self, caller: CallingThread, call: Notification, listener: NotificationListener) -> int | str | None:
        """Inject an error into memory.  Of the host's memory, it may be injected everywhere but in a dax device."""
        address, length, advice, *_ = call.arguments
        end = address + align_up(length, PAGE_SIZE)
        if address % PAGE_SIZE or address >= end:
            return None
        align = self._align_of_mapped(caller, address)
        if not align:
            return None
        if not caller.has_capability(CAP_SYS_ADMIN):
            return -errno.EPERM
        if advice == MADV_SOFT_OFFLINE:
            return -errno.EIO
        with contextlib.suppress(NotBorrowedError):
            return _poison_in_thread(caller, call, listener, align_down(address, align), align)
        return -errno.EPERM

    def device_of(self, mapped: tuple[int, int]) -> NodeNumber | None:
        """The number of the device that is mapped by a file, by file system and inode; None for other files."""
        return self._mapped.get(mapped)

    def _device(self, file: ThreadFile) -> NodeNumber | None:
        """The number of the device that a file is, or whose file in the mount it is."""
        if file.kind == "char":
            return file.number if self._is_machine_device(file) else None
        return self._mapped.get((file.status.filesystem, file.status.inode)) if file.is_regular else None

    def _align_of_mapped(self, caller: CallingThread, address: int) -> int:
        """The alignment of the dax device that is mapped at an address; 0 for other memory."""
        found = caller.mapped_file(address)
        number = None if found is None else self._mapped.get(found)
        if number is None:
            return 0
        answer = self._client.map(Map("char", number.major, number.minor, 0, 0, shared=True))
        return PAGE_SIZE if isinstance(answer, int) else answer.align


def _map_in_thread(
    caller: CallingThread,
    call: Notification,
    listener: NotificationListener,
    memory: int,
    mapping: _Mapping,
    align: int,
) -> str:
    """Have the calling thread map a file.  NotBorrowedError: the call still waits for an answer."""

    def use(thread: BorrowedThread, descriptor: int) -> None:
        if descriptor < 0:
            thread.result = -errno.ENOMEM
            return
        thread.result = _map(thread, descriptor, mapping, align)
        thread.call(borrowed_thread.CLOSE, descriptor)

    return answer_by(use, caller, call, listener, memory)


def _map(thread: BorrowedThread, descriptor: int, mapping: _Mapping, align: int) -> int:
    """Map a file; the address, or a negative errno."""

    def mmap(address: int, flags: int) -> int:
        protection = mapping.protection | UNFILTERED_MMAP
        return thread.call(borrowed_thread.MMAP, address, mapping.length, protection, flags, descriptor, mapping.offset)

    if mapping.is_fixed or align_down(mapping.address, PAGE_SIZE) or align == PAGE_SIZE:
        address = mmap(mapping.address, mapping.file_flags)
        if address < 0 or address % align == 0:
            return address
        thread.call(borrowed_thread.MUNMAP, address, mapping.length)
        return -errno.EINVAL
    flags = MAP_PRIVATE | MAP_ANONYMOUS | _MAP_NORESERVE | mapping.flags & _MAP_32BIT
    room_size = mapping.length + align
    room = thread.call(borrowed_thread.MMAP, 0, room_size, 0, flags, -1, 0)
    if room < 0:
        return room
    start = align_up(room, align)
    address = mmap(start, mapping.file_flags | _MAP_FIXED)
    end = start if address < 0 else start + mapping.length
    for first, last in ((room, start), (end, room + room_size)):
        if first < last:
            thread.call(borrowed_thread.MUNMAP, first, last - first)
    return address


def _poison_in_thread(
    caller: CallingThread, call: Notification, listener: NotificationListener, address: int, align: int
) -> str:
    """Send the calling thread the signal that it gets for a page with an error; errors as `_map_in_thread`.

    The whole page of the device is concerned (memory_failure_dev_pagemap, mm/memory-failure.c, Linux 6.1).
    """
    layout = _SIGINFO if call.is_native else _SIGINFO_OF_32_BITS
    info = layout.pack(signal.SIGBUS, 0, _BUS_MCEERR_AR, address, align.bit_length() - 1)
    with caller.memory() as memory:

        def use(thread: BorrowedThread, _: int) -> None:
            def send(place: int) -> int:
                os.pwrite(memory, info, place)
                process, own = thread.call(borrowed_thread.GETPID), thread.call(borrowed_thread.GETTID)
                return thread.call(borrowed_thread.RT_TGSIGQUEUEINFO, process, own, signal.SIGBUS, place)

            # The stack may be where an address of 32 bits does not reach.
            thread.result = send(thread.scratch(len(info))) if thread.is_native else thread.with_page(send)

        return answer_by(use, caller, call, listener)
