"""The reaper: a process that outlives the supervisor, and removes from the host what only a process can remove."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import NoReturn

from nvdimmfs.inherited_files import close_files_except
from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.early_process import EarlyProcesses
from nvdimmfs.sandbox.errors import step
from nvdimmfs.sandbox.loop_records import LoopRecords

#: How long the supervisor waits for the reaper at the end, in seconds, or tries itself where the reaper was killed.
#: What is still in use then may be in use by the supervisor's own mount namespace, so the reaper goes on after the
#: supervisor has exited.
_WAIT = 5.0

#: For how long the reaper tries, in seconds.
_PATIENCE = 30.0

#: Signals that would end or stop it, which are meant for the processes after which it cleans up.
_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTTOU, signal.SIGPIPE)


_prepared = EarlyProcesses[str](takes_surroundings=False)


def prepare_reaper() -> None:
    """Fork the reaper of the sandbox that this process builds next.  OSError."""
    _prepared.fork(_reap)


@contextlib.contextmanager
def running_reaper(records: LoopRecords, *, waits: bool = True) -> Iterator[Callable[[], None]]:
    """Start the reaper; at the end of this process, however it comes, it deletes the loop devices.

    Yields what lets it begin before the end of this process.

    Args:
        records: the loop devices.
        waits: whether to wait for it at the end.
    """
    with step("start the process that cleans up"):
        bell, rope = os.pipe()  # the kernel closes the rope when this process ends
        reaper = _prepared.start(records.name, (bell, *records.descriptors)) or os.fork()
    if reaper == 0:
        _run_reaper(records, bell)
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
            records.delete_devices(_WAIT)


def _reap(name: str, files: list[int], _messages: socket.socket) -> NoReturn:
    """In a reaper that was prepared."""
    bell, *descriptors = files
    _run_reaper(LoopRecords.received(name, descriptors), bell)


def _run_reaper(records: LoopRecords, bell: int) -> NoReturn:
    """In the reaper.

    It stays in its parent's session, but in a process group of its own.  If it is stopped when its parent ends, the
    kernel continues it, because the group is then orphaned (kill_orphaned_pgrp, kernel/exit.c, Linux 6.1).
    """
    try:
        os.setpgid(0, 0)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)
        os.chdir("/")
        close_files_except(bell, *records.descriptors)
        while os.read(bell, 1):
            pass
        os._exit(0 if records.delete_devices(_PATIENCE) else 1)
    finally:
        os._exit(1)


def _has_succeeded(reaper: int) -> bool:
    """Wait for the reaper; whether it has cleaned up, or may still do so."""
    descriptor = os.pidfd_open(reaper)
    try:
        return not libc.has_ended(descriptor, _WAIT) or os.waitpid(reaper, 0)[1] == 0
    finally:
        os.close(descriptor)
