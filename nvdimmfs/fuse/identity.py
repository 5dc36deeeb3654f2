"""Which process serves a mount: how a daemon tells, and how a command line asks.  Needs no FUSE library."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

#: The root directory's extended attribute that names the daemon: its process id and pid namespace.  No listing shows
#: it.  `nvdimmfs umount` reads it, to wait until that process has ended.
DAEMON_XATTR = "user.nvdimmfs.daemon"

#: The type of such a mount in /proc/self/mountinfo: fuse and a subtype.
SUBTYPE = "nvdimmfs"
FILE_SYSTEM_TYPE = f"fuse.{SUBTYPE}"

#: How long a daemon may take to answer, in seconds, before it is said to hang.
ANSWER_PATIENCE = 2.0

#: How long a killed child may take to end, in seconds.
_KILL_PATIENCE = 1.0


def own_identity() -> bytes:
    """What `DAEMON_XATTR` holds: this process's id, and the namespace in which it means something."""
    return f"{os.getpid()} {_pid_namespace()}".encode()


def daemon_of(mountpoint: Path) -> int | None:
    """The id of the process that serves a mount.  None when it has died, or lives in another pid namespace.

    TimeoutError when it does not answer.
    """
    answer = answer_in_time(lambda: os.getxattr(mountpoint, DAEMON_XATTR))
    number, _, namespace = answer.decode(errors="replace").partition(" ")
    return int(number) if number.isdecimal() and namespace == _pid_namespace() else None


def answer_in_time(question: Callable[[], bytes], patience: float = ANSWER_PATIENCE) -> bytes:
    """What `question` returns, or nothing when it fails with OSError.

    TimeoutError when that takes longer than `patience` seconds.  A process of its own asks: whoever waits for a
    daemon that is stopped can only be killed, and keeps the mount busy until then.
    """
    read_end, write_end = os.pipe()
    asking = os.fork()
    if asking == 0:
        _ask(question, write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answers:
        answered, _, _ = select.select([answers], [], [], patience)
        answer = answers.read() if answered else b""
    _end(asking)
    if not answered:
        raise TimeoutError
    return answer


def _ask(question: Callable[[], bytes], tell: int) -> NoReturn:
    """In the process that asks: pass on the answer, or nothing."""
    try:
        os.write(tell, question())
    finally:
        os._exit(0)


def _end(asking: int) -> None:
    """Kill a child and wait for its end, but not for long: a daemon that hangs in its answer lets nobody go."""
    descriptor = os.pidfd_open(asking)
    os.kill(asking, signal.SIGKILL)
    select.select([descriptor], [], [], _KILL_PATIENCE)
    os.waitpid(asking, os.WNOHANG)
    os.close(descriptor)


def _pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())
