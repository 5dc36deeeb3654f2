"""Answering the system calls that the seccomp filter hands over: ioctl(2) on devices, and changes of modules."""

from __future__ import annotations

import errno
from collections.abc import Callable

from nvdimmfs.sandbox.calling_thread import CallingThread, held_thread
from nvdimmfs.sandbox.ioctl_syscall import IoctlSyscall
from nvdimmfs.sandbox.module_syscalls import ModuleSyscalls
from nvdimmfs.sandbox.seccomp import Notification, NotificationListener


class SyscallDispatcher:
    """Routes each notified system call to the class that answers it.

    Args:
        ioctl: answers ioctl(2).
        modules: answers init_module(2), finit_module(2) and delete_module(2).
        proc: an open /proc that shows the calling threads.
        process_events: applies the machine's pending events.  It runs before a module call returns, so that the caller
            finds the nodes of the devices that a module has brought.
    """

    def __init__(
        self, ioctl: IoctlSyscall, modules: ModuleSyscalls, proc: int, process_events: Callable[[], None]
    ) -> None:
        self._ioctl = ioctl
        self._proc = proc
        self._process_events = process_events
        self._module_syscalls = {
            "delete_module": modules.delete_module,
            "init_module": modules.init_module,
            "finit_module": modules.finit_module,
        }

    def answer_next(self, listener: NotificationListener) -> None:
        """Receive the next notification and respond to it."""
        notification = listener.receive()
        if notification is None:
            return
        try:
            with held_thread(notification.thread, self._proc, lambda: listener.is_pending(notification)) as caller:
                value = self._execute(caller, notification)
        except OSError as failure:
            value = -(failure.errno or errno.EIO)
        if value is None:
            listener.continue_in_kernel(notification)
        else:
            listener.respond(notification, value)

    def _execute(self, caller: CallingThread, notification: Notification) -> int | None:
        """The call's return value, or a negative errno; None to have the kernel execute the call."""
        if notification.syscall == "ioctl":
            return self._ioctl.execute(caller, notification.arguments)
        value = self._module_syscalls[notification.syscall](caller, notification.arguments)
        self._process_events()
        return value
