"""Closing the files that a forked process has inherited."""

from __future__ import annotations

import os

#: Standard input, output and error.
STANDARD_FILES = (0, 1, 2)


#: Files that a process has opened for later, by its process id.
_for_later: dict[int, set[int]] = {}


def keep_open(descriptor: int) -> None:
    """Have the next `close_files_except` leave a file open in this process, but not in those that it forks."""
    _for_later.setdefault(os.getpid(), set()).add(descriptor)


def close_files_except(*kept: int) -> None:
    """Close all files of this process except some, and replace the standard files that are not kept by /dev/null.

    Those of `keep_open` stay open as well.

    A process that forks and does not execute a program holds what its parent had open: pipes whose readers wait for
    their end, locks, loop devices.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for standard in {*STANDARD_FILES} - {*kept}:
        os.dup2(null, standard)
    first = 3
    for descriptor in sorted({*kept, *_for_later.pop(os.getpid(), ())} - {*STANDARD_FILES}):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
