"""Refusals: as the OSError that a system call raises, and as a record."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import attrs

from nvdimmfs.errors import ERRNO_NAMES, KernelError, printable, refused_by_host
from nvdimmfs.testing.records import Records


@attrs.frozen
class Refusal:
    """A request of any process that the machine has refused.

    Attributes:
        op: `open`, `read`, `write` or `ioctl`.
        path: the file, in the machine's tree and with all links followed, or the device.
        data: what was to be written; the first 256 bytes.
        errno: the errno that the caller got.
        reason: why; what is behind it follows after semicolons.
        pid: the thread that opened the file, which is the process where that has a single thread; 0 when it is not
            known, as for an ioctl.
    """

    op: str
    path: str
    data: bytes
    errno: int
    reason: str
    pid: int

    def __str__(self) -> str:
        value = f" {printable(self.data.decode(errors='backslashreplace'))!r}" if self.data else ""
        return f"{self.op} {self.path}{value}: {ERRNO_NAMES.get(self.errno, self.errno)}: {self.reason}"


class Refusals(Records[Refusal]):
    """The requests that were refused since the machine booted, the oldest first, and a cursor.

    It grows while the machine is used.  Safe from threads.
    """


@contextlib.contextmanager
def as_os_error(path: str) -> Iterator[None]:
    """Turn a refusal of the engine, or an error of the host that keeps the media, into an OSError for this path.

    The exception has the errno, and so the subclass that Python has for it, and the path as filename.  The reasons,
    which a system call does not return, are notes (PEP 678): Python and pytest print them below the message.
    """
    try:
        yield
    except KernelError as refusal:
        raise os_error(refusal.errno, path, refusal.reasons) from None
    except OSError as failure:
        refused = refused_by_host(failure)
        raise os_error(refused.errno, path, refused.reasons) from failure


def os_error(number: int, path: str, reasons: tuple[str, ...]) -> OSError:
    """The exception for a refusal."""
    error = OSError(number, os.strerror(number), path)
    for reason in reasons:
        error.add_note(reason)
    return error


def reasons_of(error: OSError) -> str:
    """The notes of an exception in one line; without notes, its text."""
    return "; ".join(getattr(error, "__notes__", ())) or str(error)
