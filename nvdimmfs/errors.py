"""The one exception of the model: what the kernel would have returned, and why.  And how any complaint is printed."""

from __future__ import annotations

import errno


class KernelError(Exception):
    """A refusal with the errno that Linux gives.

    The model raises it, `nvdimmfs.fuse` turns it into the reply.  Any other exception is a bug.

    Attributes:
        errno: a value of the `errno` module.
        reason: one line for the log; the caller never sees it.
    """

    def __init__(self, number: int, reason: str = "") -> None:
        super().__init__(number, reason)
        self.errno = number
        self.reason = reason

    @property
    def code(self) -> str:
        """The errno's name, for example `EBUSY`."""
        return errno.errorcode.get(self.errno, str(self.errno))

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}" if self.reason else self.code


def refused_by_host(failure: OSError) -> KernelError:
    """What the host refuses (its disk is full, its medium fails) keeps the host's errno."""
    return KernelError(failure.errno or errno.EIO, f"the host says: {failure.strerror or failure}")


def printable(text: str) -> str:
    """A text that is one line and does nothing to a terminal: what cannot be printed is escaped."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
