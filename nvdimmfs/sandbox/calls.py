"""Answering the system calls that the filter hands over: ioctls on the machine's devices, and changes of modules."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Container

from nvdimmfs.formats.control import Ioctl
from nvdimmfs.sandbox.caller import Caller, CallerMemory, OpenFile
from nvdimmfs.sandbox.link import MachineLink
from nvdimmfs.sandbox.module_calls import ModuleCalls
from nvdimmfs.sandbox.namespaces import CAP_SYS_ADMIN
from nvdimmfs.sandbox.node import NodeNumber
from nvdimmfs.sandbox.seccomp import BLKROSET, BLKRRPART, Listener, Notification

_WORD = 0xFFFFFFFF


class Calls:
    """Answers calls.

    Args:
        link: the machine.
        devices: the kinds and numbers of the machine's nodes.
        terminals: the file system (st_dev) of its character devices; the host's terminals have numbers alike.
        proc: an open /proc in which the callers are.
        act: acts on what the machine has told; a caller finds the nodes of what a module has brought.
        has_claimed_partitions: whether a partition of the disk of a number is mounted, or claimed otherwise.
    """

    def __init__(
        self,
        link: MachineLink,
        devices: Container[tuple[str, NodeNumber]],
        terminals: int,
        proc: int,
        act: Callable[[], None],
        has_claimed_partitions: Callable[[NodeNumber], bool],
    ) -> None:
        self._link = link
        self._devices = devices
        self._terminals = terminals
        self._proc = proc
        self._act = act
        self._has_claimed_partitions = has_claimed_partitions
        modules = ModuleCalls(link)
        self._module_calls = {
            "delete_module": modules.delete_module,
            "init_module": modules.init_module,
            "finit_module": modules.finit_module,
        }

    def answer(self, listener: Listener) -> None:
        """Take the next call and answer it."""
        notification = listener.receive()
        if notification is None:
            return
        caller = Caller(notification.thread, self._proc, lambda: listener.still_waits(notification))
        try:
            value = self._value(caller, notification)
        except OSError as failure:
            value = -(failure.errno or errno.EIO)
        if value is None:
            listener.let_pass(notification)
        else:
            listener.answer(notification, value)

    def _value(self, caller: Caller, notification: Notification) -> int | None:
        """What the call returns, an errno negative; None to have the kernel do it."""
        if notification.call == "ioctl":
            return self._ioctl(caller, notification.arguments)
        value = self._module_calls[notification.call](caller, notification.arguments)
        self._act()
        return value

    def _ioctl(self, caller: Caller, arguments: tuple[int, ...]) -> int | None:
        descriptor, request, address, *_ = arguments
        file = caller.file(descriptor & _WORD)
        if file is None or not self._is_machines(file):
            return None
        call = Ioctl(
            file.kind,
            file.number.major,
            file.number.minor,
            request & _WORD,
            address,
            writable=file.is_writable,
            privileged=caller.has_capability(CAP_SYS_ADMIN),
        )
        if file.kind == "block" and call.request == BLKRRPART:
            if call.privileged and self._has_claimed_partitions(file.number):
                return -errno.EBUSY
            self._sync(caller, file)
        value = self._link.ioctl(call, CallerMemory(caller, address))
        if file.kind == "block":
            self._act()
            if call.request == BLKROSET and value == 0:
                return None  # the block device before the disk has to know as well
        return value

    def _is_machines(self, file: OpenFile) -> bool:
        """Whether it is a device of the machine's."""
        if file.kind == "char" and file.status.st_dev != self._terminals:
            return False
        return (file.kind, file.number) in self._devices

    def _sync(self, caller: Caller, file: OpenFile) -> None:
        """Let the machine have what was written to the block device before the disk, such as a new table."""
        device = caller.open(file)
        try:
            os.fsync(device)
        finally:
            os.close(device)
