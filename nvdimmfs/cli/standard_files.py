"""stdin, stdout and stderr of a command: closed ones, and a stdout that cannot be written to."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from nvdimmfs.cli.errors import CommandError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDIN, _STDOUT, _STDERR = range(3)


class _Stdout(io.FileIO):
    """The descriptor of stdout, below a buffer.

    argparse ignores an OSError of what it prints, and that of write(2) names no file.  So it is a CommandError from
    the beginning.
    """

    def write(self, data: ReadableBuffer, /) -> int:
        """Write as many bytes as there is room for.  BrokenPipeError when the reader is gone, or CommandError."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as failure:
            raise CommandError(f"cannot write to stdout: {failure.strerror}") from None


def open_standard_files() -> None:
    """Open /dev/null in place of a closed stdin, stdout or stderr, so that no other file gets its number.

    That of stdout cannot be written to, so that a command that prints its answer fails instead of losing it.  Python's
    object for a closed standard file is None.  The descriptor is closed again in programs that this process executes.
    """
    for number, access in ((_STDIN, os.O_RDWR), (_STDOUT, os.O_RDONLY), (_STDERR, os.O_RDWR)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, access)  # open(2) returns the lowest free number
    sys.stderr = sys.stderr or open(_STDERR, "w", closefd=False)  # noqa: SIM115  # stays open
    _open_stdout()


def _open_stdout() -> None:
    """Replace Python's stdout, unless a test has done so.

    It has a buffer even with PYTHONUNBUFFERED: without one, Python drops what a short write(2) has left.  Commands that
    print as things happen flush after each of them.
    """
    file = sys.stdout
    encoding = errors = None
    if file is not None:
        if type(file) is not io.TextIOWrapper or file.fileno() != _STDOUT:  # that of pytest is of a derived class
            return
        encoding, errors = file.encoding, file.errors
    binary = io.BufferedWriter(_Stdout(_STDOUT, "wb", closefd=False))
    sys.stdout = io.TextIOWrapper(binary, encoding, errors, line_buffering=os.isatty(_STDOUT))


def discard_unwritten_output() -> None:
    """Discard output that cannot be written, which the interpreter would otherwise report at exit."""
    try:
        sys.stdout.flush()
    except (OSError, CommandError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
