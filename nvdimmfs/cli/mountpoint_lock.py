"""Locking a mount point from the check that it is free until something is mounted on it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from nvdimmfs.cli.errors import CommandError
from nvdimmfs.cli.mount_table import require_free

#: How long to wait for another process that holds the lock, in seconds.
LOCK_TIMEOUT = 600.0

#: Time between two attempts to take the lock, in seconds.
_RETRY_INTERVAL = 0.02


class MountpointLock:
    """A held lock (flock(2)) of a mount point: of the directory itself, so that no lock file is left behind.

    A process that inherits the descriptor shares the lock, which lasts until every such process has released it.

    Attributes:
        descriptor: the open directory.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._is_released = False

    def release(self) -> None:
        """Release this process's share of the lock: something is mounted now, or nothing will be."""
        if not self._is_released:
            self._is_released = True
            os.close(self.descriptor)


@contextlib.contextmanager
def locked_mountpoint(directory: Path) -> Iterator[MountpointLock]:
    """Hold the lock of a free directory, on which meanwhile no other `nvdimmfs mount` mounts.

    Raises:
        CommandError: as `require_free`; or another process holds the lock for longer than `LOCK_TIMEOUT`.
    """
    require_free(directory)
    lock = MountpointLock(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    try:
        _wait_for_lock(lock.descriptor, directory)
        require_free(directory)  # again, because another process may have mounted before it released the lock
        yield lock
    finally:
        lock.release()


def _wait_for_lock(descriptor: int, directory: Path) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT
    while not _try_lock(descriptor):
        if time.monotonic() >= deadline:
            raise CommandError(f"{directory} is locked by another process (flock), which mounts there or hangs")
        time.sleep(_RETRY_INTERVAL)


def _try_lock(descriptor: int) -> bool:
    """Take the lock.  False when another process holds it; True also where the file system supports no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
