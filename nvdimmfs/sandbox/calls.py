"""Answering the system calls that the filter hands over: ioctls on the machine's devices, and changes of modules."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Container
from pathlib import PurePath

from attrs import frozen

from nvdimmfs.formats.control import Ioctl
from nvdimmfs.sandbox import syscalls
from nvdimmfs.sandbox.link import MachineLink
from nvdimmfs.sandbox.namespaces import CAP_SYS_ADMIN
from nvdimmfs.sandbox.node import NodeNumber
from nvdimmfs.sandbox.seccomp import BLKROSET, BLKRRPART, Listener, Notification

#: Bytes of a module's name at most, with its end (MODULE_NAME_LEN, include/linux/module.h, 64-bit).
_MODULE_NAME_LENGTH = 56

#: The largest module image that is looked into for its name.
_LARGEST_IMAGE = 64 << 20

_WORD = 0xFFFFFFFF
_PAGE = 4096


@frozen
class CallerMemory:
    """The memory of a thread that waits for an answer, from an address on."""

    thread: int
    address: int

    def read(self, offset: int, length: int) -> bytes:
        return syscalls.read_memory(self.thread, self.address + offset, length)

    def write(self, offset: int, data: bytes) -> None:
        syscalls.write_memory(self.thread, self.address + offset, data)


class Calls:
    """Answers calls.

    Args:
        link: the machine.
        devices: the kinds and numbers of the machine's nodes.
        proc: an open /proc in which the callers are.
        act: acts on what the machine has told; a caller finds the nodes of what a module has brought.
    """

    def __init__(
        self, link: MachineLink, devices: Container[tuple[str, NodeNumber]], proc: int, act: Callable[[], None]
    ) -> None:
        self._link = link
        self._devices = devices
        self._proc = proc
        self._act = act

    def answer(self, listener: Listener) -> None:
        """Take the next call and answer it."""
        notification = listener.receive()
        if notification is None:
            return
        try:
            value = self._value(listener, notification)
        except OSError as failure:
            value = -(failure.errno or errno.EIO)
        if value is None:
            listener.let_pass(notification)
        else:
            listener.answer(notification, value)

    def _value(self, listener: Listener, notification: Notification) -> int | None:
        """What the call returns, an errno negative; None to have the kernel do it."""
        if notification.call == "ioctl":
            return self._ioctl(listener, notification)
        if notification.call == "delete_module":
            value = self._link.unload(self._name(notification))
        else:
            value = self._link.load(self._module(notification))
        self._act()
        return value

    def _ioctl(self, listener: Listener, notification: Notification) -> int | None:
        descriptor, request, address, *_ = notification.arguments
        descriptor &= _WORD
        kind, number = self._file(notification.thread, descriptor)
        if (kind, number) not in self._devices or not listener.still_waits(notification):
            return None
        flags = int(self._field(f"{notification.thread}/fdinfo/{descriptor}", "flags"), 8)
        capabilities = int(self._field(f"{notification.thread}/status", "CapEff"), 16)
        call = Ioctl(
            kind,
            number.major,
            number.minor,
            request & _WORD,
            address,
            writable=flags & os.O_ACCMODE != os.O_RDONLY,
            privileged=bool(capabilities >> CAP_SYS_ADMIN & 1),
        )
        if kind == "block" and call.request == BLKRRPART:
            self._sync(f"{notification.thread}/fd/{descriptor}")
        value = self._link.ioctl(call, CallerMemory(notification.thread, address))
        if kind == "block":
            self._act()
            if call.request == BLKROSET and value == 0:
                return None  # the block device before the disk has to know as well
        return value

    def _sync(self, path: str) -> None:
        """Let the machine have what was written to the block device before the disk, such as a new table."""
        device = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
        try:
            os.fsync(device)
        finally:
            os.close(device)

    def _file(self, thread: int, descriptor: int) -> tuple[str, NodeNumber]:
        """The kind and the device number of an open file; of something else the number is nobody's."""
        try:
            status = os.stat(f"{thread}/fd/{descriptor}", dir_fd=self._proc)
        except OSError:
            return "", NodeNumber(-1, -1)
        kind = {stat.S_IFCHR: "char", stat.S_IFBLK: "block"}.get(stat.S_IFMT(status.st_mode), "")
        return kind, NodeNumber(os.major(status.st_rdev), os.minor(status.st_rdev))

    def _field(self, path: str, name: str) -> str:
        """A field of a file of /proc; 0 when it is not there."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
        with os.fdopen(descriptor) as lines:
            return next((line.split()[1] for line in lines if line.startswith(f"{name}:")), "0")

    def _name(self, notification: Notification) -> str:
        """The name that delete_module(2) is given."""
        memory = CallerMemory(notification.thread, notification.arguments[0])
        name = bytearray()
        while b"\0" not in name and len(name) < _MODULE_NAME_LENGTH:
            rest_of_page = _PAGE - (memory.address + len(name)) % _PAGE
            name += memory.read(len(name), min(_MODULE_NAME_LENGTH - len(name), rest_of_page))
        return name.partition(b"\0")[0].decode("latin-1")

    def _module(self, notification: Notification) -> str:
        """The module that is to be loaded: by the name of its file, or by what its image says."""
        first, size, *_ = notification.arguments
        if notification.call == "finit_module":
            path = os.readlink(f"{notification.thread}/fd/{first & _WORD}", dir_fd=self._proc)
            return PurePath(path).name.partition(".")[0].replace("-", "_")
        if size > _LARGEST_IMAGE:
            raise OSError(errno.ENOEXEC, os.strerror(errno.ENOEXEC))
        image = CallerMemory(notification.thread, first).read(0, size)
        match = re.search(rb"\0name=([A-Za-z0-9_-]+)\0", image)
        if match is None:
            raise OSError(errno.ENOEXEC, os.strerror(errno.ENOEXEC))
        return match[1].decode("ascii")
