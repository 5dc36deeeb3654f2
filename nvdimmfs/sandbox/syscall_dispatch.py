"""Answering the system calls that the seccomp filter hands over: on devices and their memory, and on modules."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable
from functools import partial

from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.call_limits import Call, CallLimits
from nvdimmfs.sandbox.calling_thread import CallingThread, calling_thread
from nvdimmfs.sandbox.errors import SandboxError
from nvdimmfs.sandbox.ioctl_syscall import IoctlSyscall
from nvdimmfs.sandbox.known_thread import KnownThread
from nvdimmfs.sandbox.memory_syscalls import MemorySyscalls
from nvdimmfs.sandbox.module_syscalls import ModuleSyscalls
from nvdimmfs.sandbox.mount_syscalls import MountSyscalls
from nvdimmfs.sandbox.seccomp import Notification, NotificationListener
from nvdimmfs.units import U32_MASK

log = logging.getLogger(__name__)


class _CallWaitsError(Exception):
    """A call is answered later."""


class SyscallDispatcher:
    """Routes each notified system call to the class that answers it.  Several threads may do so at the same time.

    Args:
        ioctl: answers ioctl(2).
        modules: answers init_module(2), finit_module(2) and delete_module(2).
        memory: answers mmap(2) and madvise(2).
        mounts: answers mount(2) and fsconfig(2).
        proc: an open /proc that shows the calling threads.
        process_events: applies the machine's pending events.  It runs before a module call returns, so that the caller
            finds the nodes of the devices that a module has brought.
    """

    def __init__(
        self,
        ioctl: IoctlSyscall,
        modules: ModuleSyscalls,
        memory: MemorySyscalls,
        mounts: MountSyscalls,
        proc: int,
        process_events: Callable[[], None],
    ) -> None:
        self._ioctl = ioctl
        self._memory = memory
        self._mounts = mounts
        self._proc = proc
        self._process_events = process_events
        self._limits = CallLimits()
        #: Of calls on a file: which argument is the descriptor, and whether the file may be one of the machine's.
        self._looks = {"ioctl": (0, ioctl.may_concern), "mmap": (4, memory.may_concern)}
        self._module_syscalls = {
            "delete_module": modules.delete_module,
            "init_module": modules.init_module,
            "finit_module": modules.finit_module,
        }

    def answer(self, notification: Notification, listener: NotificationListener, known: KnownThread) -> None:
        """Execute a call and respond to it, then to calls that had to wait for its end (`CallLimits`).

        The caller gets EIO for an unexpected exception, which is a bug and is logged.

        Args:
            notification: the call.
            listener: receives the response.
            known: what this thread holds of the caller before.

        Raises:
            SandboxError: the machine is gone.  The caller gets EIO.
        """
        if self._is_for_kernel(notification, known):
            listener.continue_in_kernel(notification)
            return
        call: Call | None = Call(notification)
        while call is not None:
            call = self._answer(call, listener, known)

    def _is_for_kernel(self, notification: Notification, known: KnownThread) -> bool:
        """Whether a call is an ioctl or a mapping of a file that is not the machine's, as most are.

        This look is quick, and holds nothing: if another thread replaces the descriptor at this moment, the kernel
        executes the call on what it finds.
        """
        look = self._looks.get(notification.syscall)
        if look is None:
            return False
        place, may_concern = look
        descriptor = notification.arguments[place] & U32_MASK
        if known.may_have(notification.thread, descriptor):
            return False  # a look at what is known is quicker
        try:
            status = libc.file_status(self._proc, f"{notification.thread}/fd/{descriptor}")
        except OSError:
            return True  # not open, or a thread that this /proc does not show
        return not may_concern(status)

    def _answer(self, call: Call, listener: NotificationListener, known: KnownThread) -> Call | None:
        """Answer a call, or let it wait.  Returns a call that may be answered in its place."""
        notification = call.notification
        value: int | str | None = -errno.EIO
        try:
            value = self._execute_held(call, listener, known)
        except _CallWaitsError:
            return None
        except SandboxError:
            listener.respond(notification, -errno.EIO)
            raise
        except Exception:
            log.exception("a bug in nvdimmfs: %s fails with EIO", notification.syscall)
        if value is None:
            listener.continue_in_kernel(notification)
        elif isinstance(value, int):
            listener.respond(notification, value)
        return self._limits.end(call)

    def _execute_held(self, call: Call, listener: NotificationListener, known: KnownThread) -> int | str | None:
        """As `_execute`, while the calling thread is held; an OSError becomes a negative errno.

        Raises:
            _CallWaitsError: too many calls are being answered.
        """
        notification = call.notification
        with contextlib.ExitStack() as held:
            try:
                still_waits = partial(listener.is_pending, notification)
                caller = calling_thread(notification.thread, self._proc, still_waits, known, held)
            except OSError:
                # It is gone, or this /proc does not show it: then it cannot be a caller of the machine's devices.
                return -errno.EPERM if notification.syscall in self._module_syscalls else None
            if call.user is None and not self._limits.begin(call, caller.user):
                raise _CallWaitsError
            try:
                return self._execute(caller, notification, listener)
            except OSError as failure:
                return -(failure.errno or errno.EIO)

    def _execute(
        self, caller: CallingThread, notification: Notification, listener: NotificationListener
    ) -> int | str | None:
        """The call's return value, or a negative errno; None to have the kernel execute the call; else `ANSWERED`."""
        if notification.syscall == "ioctl":
            return self._ioctl.execute(caller, notification.arguments, is_native=notification.is_native)
        if notification.syscall == "mmap":
            return self._memory.mmap(caller, notification, listener)
        if notification.syscall == "madvise":
            return self._memory.madvise(caller, notification, listener)
        if notification.syscall == "mount":
            return self._mounts.mount(caller, notification, listener)
        if notification.syscall == "fsconfig":
            return self._mounts.fsconfig(caller, notification)
        value = self._module_syscalls[notification.syscall](caller, notification.arguments)
        self._process_events()
        return value
