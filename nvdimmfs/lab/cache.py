"""The folder of what is made once and used often: kernels, images of guests, guests that have booted.

Several processes may use it at the same time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from nvdimmfs.lab.errors import LabError

#: The folder of what exists as long as a guest runs.
_RUNNING = "running"

#: The end of the name of a lock file, which stands beside what it locks.
_LOCK = ".lock"


#: What helps where the cache is not the user's, and the errnos of that.
_REMEDY = "set XDG_CACHE_HOME to a folder of yours"
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)


def cache_folder() -> Path:
    """The lab's folder in the user's cache (XDG Base Directory Specification 0.8).  LabError for a user without one."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not Path(base).is_absolute():
        try:
            base = str(Path.home() / ".cache")
        except RuntimeError:
            raise LabError(f"this user has no home folder, in whose .cache the lab keeps kernels; {_REMEDY}") from None
    return Path(base, "nvdimmfs", "lab")


def made_once(place: Path, make: Callable[[Path], None]) -> Path:
    """Return a folder, which is made if it does not exist.

    Args:
        place: the folder.
        make: fills a new folder, which becomes `place` when it returns; an exception leaves nothing behind.
    """
    if not place.is_dir():
        with locked(place):
            if not place.is_dir():
                _make(place, make)
    return place


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """Exclude other processes that lock the same place, and wait for them (flock(2)).  LabError."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        file = place.with_name(place.name + _LOCK).open("w")
    except OSError as error:
        line = f"cannot write to the lab's cache: {error.filename}: {error.strerror}"
        raise LabError(f"{line}; {_REMEDY}" if error.errno in _NOT_OURS else line) from None
    with file as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def temporary() -> Iterator[Path]:
    """A new folder, which is removed at the end; if this process is killed, the next one removes it."""
    running = cache_folder() / _RUNNING
    with locked(running):
        running.mkdir(exist_ok=True)
        for folder in running.iterdir():
            _remove_if_unused(folder)
        folder = Path(tempfile.mkdtemp(dir=running))
        lock = _held(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        os.close(lock)


def _remove_if_unused(folder: Path) -> None:
    """Remove a folder whose process has ended: no process holds its lock."""
    try:
        os.close(_held(folder))
    except (BlockingIOError, FileNotFoundError):
        return
    shutil.rmtree(folder)


def _held(folder: Path) -> int:
    """A descriptor that locks a folder until it is closed, or its process ends.  BlockingIOError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


def _make(place: Path, make: Callable[[Path], None]) -> None:
    """Only what is complete has its name, so that a process that is killed meanwhile leaves nothing that is used."""
    for unfinished in place.parent.glob(f".{place.name}.*"):
        shutil.rmtree(unfinished)
    folder = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    try:
        make(folder)
        folder.rename(place)
    except BaseException:
        shutil.rmtree(folder)
        raise
