"""Reading files of sysfs, /proc and the like with as few system calls as possible: on a mount each is a request."""

from __future__ import annotations

import os
from pathlib import Path

#: The longest content that is read at once; attributes have a page at most.
_SIZE = 1 << 16


def read_small(path: Path | str, directory: int | None = None) -> str:
    """The text of a file of up to 64 KiB that returns all its content by one read(2).

    Args:
        path: the file.
        directory: an open directory that a relative path begins in; None for the working directory.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(descriptor, _SIZE).decode()
    finally:
        os.close(descriptor)
