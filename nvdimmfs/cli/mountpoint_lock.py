"""Keeping a directory to oneself from the look at whether it is free until something is mounted on it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from nvdimmfs.cli.errors import CommandError
from nvdimmfs.cli.mount_table import require_free

#: How long whoever has the directory may take to mount, in seconds.
PATIENCE = 60.0

#: How long until the next look, in seconds.
_PAUSE = 0.02


class Vacancy:
    """A directory that is kept free: a lock (flock(2)) of the directory itself, which leaves nothing behind.

    A process that inherits the descriptor has the lock as well: it lasts until each of them has ended its own.

    Attributes:
        descriptor: the directory.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._has_ended = False

    def end(self) -> None:
        """Something is mounted, or nothing will be."""
        if not self._has_ended:
            self._has_ended = True
            os.close(self.descriptor)


@contextlib.contextmanager
def held(directory: Path) -> Iterator[Vacancy]:
    """Nothing is mounted on the directory, and meanwhile nobody who asks for the same mounts there.

    Raises:
        CommandError: as `require_free`; or somebody else has the directory for too long.
    """
    require_free(directory)
    vacancy = Vacancy(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    try:
        _lock(vacancy.descriptor, directory)
        require_free(directory)  # now that nobody is about to change it
        yield vacancy
    finally:
        vacancy.end()


def _lock(descriptor: int, directory: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not _is_locked(descriptor):
        if time.monotonic() >= end:
            raise CommandError(f"{directory} is locked by another process (flock), which mounts there or hangs")
        time.sleep(_PAUSE)


def _is_locked(descriptor: int) -> bool:
    """Take the lock, or do without where a file system has none; False when somebody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
