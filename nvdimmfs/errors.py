"""The one exception of the model, with the kernel's errno and a reason, and the escaping of messages."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

#: "Memory page has hardware error" (include/uapi/asm-generic/errno.h), which Python has only since 3.14.
EHWPOISON = 133

#: Names of errnos, by number.
ERRNO_NAMES = {EHWPOISON: "EHWPOISON", **errno.errorcode}

#: Errnos by name, and names by errno; of two names, the kernel's (include/uapi/asm-generic/errno.h).
ERRNOS: dict[str, int] = {name: getattr(errno, name) for name in dir(errno) if name.startswith("E")} | {
    "EHWPOISON": EHWPOISON
}
KERNEL_ERRNO_NAMES = {**ERRNO_NAMES, errno.EOPNOTSUPP: "EOPNOTSUPP", errno.EDEADLK: "EDEADLK", errno.EAGAIN: "EAGAIN"}

#: The exit status of a command that failed.
FAILED = 1

#: What may have killed a process that no user has ended.
PERHAPS_MEMORY = "perhaps because memory ran out (dmesg)"

_MACHINE_HAS_ENDED = f"the machine's process has ended, {PERHAPS_MEMORY}"

#: What explains or raises a limit that a process met, by errno.
REMEDIES = {
    errno.EMFILE: "`ulimit -n 1024` in the shell raises the limit",
    errno.EAGAIN: "`ulimit -u` shows the limit of processes, and so does pids.max of the cgroup",
    errno.ENOMEM: "`ulimit -v` shows the limit of memory, and so does memory.max of the cgroup",
    errno.ENOTCONN: _MACHINE_HAS_ENDED,
    errno.ECONNABORTED: _MACHINE_HAS_ENDED,
}


class KernelError(Exception):
    """A refusal with the errno that Linux returns.

    The model raises it, and `nvdimmfs.fuse` turns it into the reply.  Any other exception is a bug.

    Attributes:
        errno: a value of the `errno` module.
        reason: one line for the log; user space does not receive it.
    """

    def __init__(self, number: int, reason: str = "") -> None:
        super().__init__(number, reason)
        self.errno = number
        self.reason = reason

    @property
    def code(self) -> str:
        """The errno's name, for example `EBUSY`."""
        return ERRNO_NAMES.get(self.errno, str(self.errno))

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reason, then those of the refusals behind it: a driver's probe, behind the errno of a bind."""
        return tuple(self._reasons())

    def _reasons(self) -> Iterator[str]:
        if self.reason:
            yield printable(self.reason)
        cause = self.__cause__
        while isinstance(cause, KernelError):
            yield f"because of {printable(str(cause))}"
            cause = cause.__cause__

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}" if self.reason else self.code


class PartialTransferError(KernelError):
    """A transfer of which only the beginning is possible: read(2) and write(2) return how much that is.

    Attributes:
        done: bytes that can be read, or were written, before the first that cannot; 0 for none.
    """

    def __init__(self, number: int, reason: str, done: int) -> None:
        super().__init__(number, reason)
        self.done = done


class PowerIsCut(OSError):  # noqa: N818  # it states what happened
    """The power of the machine is cut: as when the host fails, nothing that belongs together is kept in part."""


def refused_by_host(failure: OSError) -> KernelError:
    """Convert an error of the host, such as a full disk or an I/O error, to a refusal with the same errno."""
    if isinstance(failure, PowerIsCut):
        return KernelError(failure.errno or errno.EIO, failure.strerror or "")
    return KernelError(failure.errno or errno.EIO, f"error of the host: {failure.strerror or failure}")


def printable(text: str) -> str:
    """Escape unprintable characters, so that a text is one line and cannot control a terminal."""
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    r"""An unprintable character as Python writes it; a byte of a file's name that is not UTF-8 as \xff."""
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{os.fsencode(letter)[0]:02x}"
    return ascii(letter)[1:-1]
