"""The sandbox's server: the process that builds the machine and serves its mount."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NoReturn

from nvdimmfs.errors import PERHAPS_MEMORY
from nvdimmfs.inherited_files import STANDARD_FILES, close_files_except
from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.errors import SandboxError, step

#: Mounts a machine at a path and serves it until SIGTERM; calls its second argument once the mount answers.
Serve = Callable[[Path, Callable[[], None]], None]

#: The server's report that the mount answers; any other report is an error message.
_READY = b"+"


@contextlib.contextmanager
def running_server(serve: Serve, mountpoint: Path, keep: Collection[int] = ()) -> Iterator[int]:
    """Start the server, wait until its mount answers, and stop it at the end.  Yields its process id.

    Args:
        serve: what the server does.
        mountpoint: where it mounts the machine.
        keep: further descriptors that stay open in the server.

    Raises:
        SandboxError: the machine cannot be built or mounted.
    """
    with step("start the machine's process"):
        reports, report = os.pipe()
        supervisor = os.pidfd_open(os.getpid())
        server = os.fork()
    if server == 0:
        _run_server(serve, mountpoint, report, supervisor, keep)
    os.close(supervisor)
    os.close(report)
    try:
        with os.fdopen(reports, "rb") as lines:
            received = lines.read()
        if received != _READY:
            raise SandboxError(
                received.decode(errors="replace") or f"the machine's process was killed, {PERHAPS_MEMORY}"
            )
        yield server
    finally:
        os.kill(server, signal.SIGTERM)
        os.kill(server, signal.SIGCONT)
        os.waitpid(server, 0)


def _run_server(serve: Serve, mountpoint: Path, report: int, supervisor: int, keep: Collection[int]) -> NoReturn:
    """In the server: serve the mount, and report on the pipe that it answers, or why it does not."""
    try:
        # The terminal's signals are meant for the command.  In a group of its own within its parent's session, a server
        # that is stopped is continued by the kernel when its parent ends (kill_orphaned_pgrp, kernel/exit.c).
        os.setpgid(0, 0)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        libc.die_with_parent(signal.SIGTERM, supervisor)
        close_files_except(*STANDARD_FILES, report, *keep)

        def on_ready() -> None:
            os.write(report, _READY)
            os.close(report)

        serve(mountpoint, on_ready)
    except BaseException as failure:  # the supervisor must learn of any error
        with contextlib.suppress(OSError):
            os.write(report, str(failure).encode(errors="replace") or repr(failure).encode())
        os._exit(1)
    os._exit(0)
