"""The reaper: a process that outlives the supervisor, and removes from the host what only a process can remove."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from typing import NoReturn

from nvdimmfs.inherited_files import close_files_except
from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.errors import step

#: How long the supervisor waits for the reaper at the end, in seconds, or tries itself where the reaper was killed.
#: What is still in use then may be in use by the supervisor's own mount namespace, so the reaper goes on after the
#: supervisor has exited.
_WAIT = 5.0

#: For how long the reaper tries, in seconds.
_PATIENCE = 30.0

#: Signals that would end or stop it, which are meant for the processes after which it cleans up.
_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTTOU, signal.SIGPIPE)


@contextlib.contextmanager
def running_reaper(
    clean: Callable[[float], bool], keep: tuple[int, ...], *, waits: bool = True
) -> Iterator[Callable[[], None]]:
    """Start the reaper; at the end of this process, however it comes, it cleans up.

    Yields what lets it begin before the end of this process.

    Args:
        clean: removes what is left, and waits up to as many seconds for what is in use; whether nothing is left.
        keep: the descriptors that `clean` needs.
        waits: whether to wait for it at the end.
    """
    with step("start the process that cleans up"):
        bell, rope = os.pipe()  # the kernel closes the rope when this process ends
        reaper = os.fork()
    if reaper == 0:
        _run_reaper(clean, bell, keep)
    os.close(bell)
    held = [rope]

    def let_go() -> None:
        while held:
            os.close(held.pop())

    try:
        yield let_go
    finally:
        let_go()
        if waits and not _has_succeeded(reaper):
            clean(_WAIT)


def _run_reaper(clean: Callable[[float], bool], bell: int, keep: tuple[int, ...]) -> NoReturn:
    """In the reaper.

    It stays in its parent's session, but in a process group of its own.  If it is stopped when its parent ends, the
    kernel continues it, because the group is then orphaned (kill_orphaned_pgrp, kernel/exit.c, Linux 6.1).
    """
    try:
        os.setpgid(0, 0)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        os.chdir("/")
        close_files_except(bell, *keep)
        while os.read(bell, 1):
            pass
        os._exit(0 if clean(_PATIENCE) else 1)
    finally:
        os._exit(1)


def _has_succeeded(reaper: int) -> bool:
    """Wait for the reaper; whether it has cleaned up, or may still do so."""
    descriptor = os.pidfd_open(reaper)
    try:
        return not libc.has_ended(descriptor, _WAIT) or os.waitpid(reaper, 0)[1] == 0
    finally:
        os.close(descriptor)
