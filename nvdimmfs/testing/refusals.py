"""Refusals of the engine as the OSError that a system call raises."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from nvdimmfs.errors import KernelError, refused_by_host


@contextlib.contextmanager
def as_os_error(path: str) -> Iterator[None]:
    """Turn a refusal of the engine, or an error of the host that keeps the media, into an OSError for this path.

    The exception has the errno, and so the subclass that Python has for it, and the path as filename.  The reasons,
    which a system call does not return, are notes (PEP 678): Python and pytest print them below the message.
    """
    try:
        yield
    except KernelError as refusal:
        raise os_error(refusal, path) from None
    except OSError as failure:
        raise os_error(refused_by_host(failure), path) from failure


def os_error(refusal: KernelError, path: str) -> OSError:
    """The exception for a refusal."""
    error = OSError(refusal.errno, os.strerror(refusal.errno), path)
    for reason in refusal.reasons:
        error.add_note(reason)
    return error
