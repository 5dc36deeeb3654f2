"""Which process serves a mount: the attribute that the daemon sets, and how commands read it without a FUSE library."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

#: The extended attribute of the root directory that names the daemon: its process id and PID namespace.  listxattr(2)
#: does not show it.  `nvdimmfs umount` reads it and waits until that process has exited.
DAEMON_XATTR = "user.nvdimmfs.daemon"

#: The type of a mount of nvdimmfs in /proc/self/mountinfo: fuse and a subtype.
SUBTYPE = "nvdimmfs"
FILE_SYSTEM_TYPE = f"fuse.{SUBTYPE}"

#: How long to wait for a daemon to answer, in seconds, before it is reported as hanging; a loaded host needs some.
ANSWER_TIMEOUT = 10.0

#: How long to wait for a killed child to exit, in seconds.
_KILL_TIMEOUT = 1.0


def own_identity() -> bytes:
    """The value of `DAEMON_XATTR` for this process: its id, and the PID namespace in which that id is valid."""
    return f"{os.getpid()} {_pid_namespace()}".encode()


def daemon_pid(mountpoint: Path) -> int | None:
    """The id of the process that serves a mount; None when it has exited, or is in another PID namespace.

    TimeoutError when it does not answer.
    """
    value = run_with_timeout(lambda: os.getxattr(mountpoint, DAEMON_XATTR))
    number, _, namespace = value.decode(errors="replace").partition(" ")
    return int(number) if number.isdecimal() and namespace == _pid_namespace() else None


def run_with_timeout(query: Callable[[], bytes], timeout: float = ANSWER_TIMEOUT) -> bytes:
    """The result of `query`, or nothing when it raises OSError.

    TimeoutError when it runs for longer than `timeout` seconds.  The query runs in a child process, because a process
    that waits for a stopped daemon can only be killed, and keeps the mount busy until then.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        _run_query(query, write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as results:
        has_ended, _, _ = select.select([results], [], [], timeout)
        result = results.read() if has_ended else b""
    _kill(child)
    if not has_ended:
        raise TimeoutError
    return result


def _run_query(query: Callable[[], bytes], pipe: int) -> NoReturn:
    """In the child: write the result, or nothing."""
    try:
        os.write(pipe, query())
    finally:
        os._exit(0)


def _kill(child: int) -> None:
    """Kill a child and wait briefly for its exit: a child whose request the daemon has already read may not exit."""
    descriptor = os.pidfd_open(child)
    os.kill(child, signal.SIGKILL)
    select.select([descriptor], [], [], _KILL_TIMEOUT)
    os.waitpid(child, os.WNOHANG)
    os.close(descriptor)


def _pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())
