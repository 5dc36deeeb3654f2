"""The errors that a sandbox's set-up raises."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from nvdimmfs.errors import FAILED, REMEDIES

#: A shell's exit status for a command that does not exist, and for one that it may not run (POSIX, 2.8.2).
NOT_FOUND = 127
NOT_EXECUTABLE = 126


class SandboxError(Exception):
    """A step was not permitted or not possible.  The message is one line: which step, why, and what would help.

    Attributes:
        status: the exit status that it leads to.
    """

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


@contextlib.contextmanager
def step(what: str, remedy: str = "") -> Iterator[None]:
    """Turn an OSError raised inside into a SandboxError that names the step.

    Args:
        what: the step; completes "cannot ...".
        remedy: what would make the step possible, as a clause of its own; by default what raises the limit that it
            met.
    """
    try:
        yield
    except OSError as failure:
        why = f"{failure.strerror or failure}{f' ({failure.filename})' if failure.filename else ''}"
        remedy = remedy or REMEDIES.get(failure.errno or 0, "")
        raise SandboxError(f"cannot {what}: {why}{f'; {remedy}' if remedy else ''}") from failure


def os_error(number: int) -> OSError:
    """An error with the C library's text for an errno."""
    return OSError(number, os.strerror(number))
