"""Closing the files that a forked process has inherited."""

from __future__ import annotations

import os

#: Standard input, output and error.
STANDARD_FILES = (0, 1, 2)


def close_files_except(*kept: int) -> None:
    """Close all files of this process except some, and replace the standard files that are not kept by /dev/null.

    A process that forks and does not execute a program holds what its parent had open: pipes whose readers wait for
    their end, locks, loop devices.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for standard in {*STANDARD_FILES} - {*kept}:
        os.dup2(null, standard)
    first = 3
    for descriptor in sorted({*kept} - {*STANDARD_FILES}):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
