"""The errors with which a command fails, and how they are reported."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from nvdimmfs.errors import FAILED, PERHAPS_MEMORY, REMEDIES

#: The exit status when the command line or the machine file is wrong.
MISUSED = 2


#: What the dynamic linker reports of a module in C for which there is no memory (_dl_map_segments, glibc).
_NOT_MAPPED = "failed to map segment from shared object"

#: The beginning of a line about an unexpected exception.
_BUG = "a bug in nvdimmfs"


class CommandError(Exception):
    """A command fails; the message is one line for the user.

    Attributes:
        status: the exit status, `MISUSED` or that of a failure.
    """

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def one_line(error: BaseException) -> str:
    """Any exception in one line for the user.  An unexpected one is reported as a bug, with file and line."""
    if isinstance(error, CommandError):
        return str(error)
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        if error.errno in REMEDIES:
            reason += f"; {REMEDIES[error.errno]}"
        return reason if error.filename is None else f"{error.filename}: {reason}"
    if isinstance(error, MemoryError) or (isinstance(error, ImportError) and _NOT_MAPPED in str(error)):
        return f"{os.strerror(errno.ENOMEM)}; {REMEDIES[errno.ENOMEM]}"
    if isinstance(error, BaseExceptionGroup):
        lines = [one_line(each) for each in error.exceptions]
        return next((line for line in lines if line.startswith(_BUG)), lines[0])  # the first one led to the others
    message = " ".join(str(error).split())
    if isinstance(error, SystemError):  # modules in C forget to raise MemoryError
        return f"Python fails: {message}, {PERHAPS_MEMORY}"
    return f"{_BUG}: {type(error).__name__}: {message} ({_origin(error.__traceback__)})"


def require_docstrings(what: str) -> None:
    """CommandError when Python has removed the docstrings that something is made of."""
    if sys.flags.optimize > 1:
        raise CommandError(f"{what} is made of docstrings: run it without `python -OO` or PYTHONOPTIMIZE=2")


@contextlib.contextmanager
def accessing(file: str | Path) -> Iterator[None]:
    """Read or write an open file in this context: an OSError of read(2) or write(2) gets its name, as it has none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(file)
        raise


def _origin(frames: TracebackType | None) -> str:
    """The file and line in which an exception was raised."""
    if frames is None:
        return "unknown place"
    while frames.tb_next is not None:
        frames = frames.tb_next
    return f"{frames.tb_frame.f_code.co_filename.rpartition(os.sep)[2]}:{frames.tb_lineno}"


def umount_line(directory: str | Path) -> str:
    """The command that unmounts a directory, as a message names it: it can be pasted into a shell."""
    return f"`nvdimmfs umount {shlex.quote(str(directory))}`"


def daemon_was_killed(directory: str | Path) -> CommandError:
    """The daemon of a mount ended without unmounting it."""
    return CommandError(f"the daemon of {directory} was killed: clean up with {umount_line(directory)}")


def daemon_does_not_answer(directory: str | Path) -> CommandError:
    """The daemon of a mount exists and did not answer in time."""
    return CommandError(f"the daemon of {directory} does not answer: it is stopped, or hangs")


def mount_cannot_be_read(directory: str | Path, error: OSError) -> CommandError:
    """A file of a mounted machine cannot be read, or there is no machine in the directory."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        what = "is not a mount of nvdimmfs" if Path(directory).exists() else "does not exist"
        return CommandError(f"{directory} {what}")
    return CommandError(f"{directory}: {error.strerror}")
