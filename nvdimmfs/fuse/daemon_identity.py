"""Which process serves a mount: the attribute that the daemon sets, and how commands read it without a FUSE library."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NoReturn

from nvdimmfs.fuse.peers import ProcFolder
from nvdimmfs.fuse.requirements import FUSE_DEVICE

#: The extended attribute of the root directory that names the daemon: its process id and PID namespace.  listxattr(2)
#: does not show it.  `nvdimmfs umount` reads it and waits until that process has exited.
DAEMON_XATTR = "user.nvdimmfs.daemon"

#: The type of a mount of nvdimmfs in /proc/self/mountinfo: fuse and a subtype.
SUBTYPE = "nvdimmfs"
FILE_SYSTEM_TYPE = f"fuse.{SUBTYPE}"

#: How long to wait for a daemon to answer, in seconds, before it is reported as hanging; a loaded host needs some.
ANSWER_TIMEOUT = 10.0

#: How often to look meanwhile whether it has been stopped, in seconds.
_LOOK_INTERVAL = 0.25

#: The line of the fdinfo of an open /dev/fuse that names its connection (fuse_dev_show_fdinfo, fs/fuse/dev.c, Linux
#: 6.18).
_CONNECTION = "fuse_connection:"

#: How long to wait for a killed child to exit, in seconds.
_KILL_TIMEOUT = 1.0


def own_identity() -> bytes:
    """The value of `DAEMON_XATTR` for this process: its id, and the PID namespace in which that id is valid."""
    return f"{os.getpid()} {_pid_namespace()}".encode()


def daemon_pid(mountpoint: Path, device: str) -> int | None:
    """The id of the process that serves a mount; None when it has exited, or is in another PID namespace.

    TimeoutError when it does not answer, at once when it has been stopped.

    Args:
        mountpoint: where it is mounted.
        device: its device number, as in /proc/self/mountinfo; empty when it is not known.
    """
    value = run_with_timeout(lambda: os.getxattr(mountpoint, DAEMON_XATTR), lambda: has_stopped_daemon(device))
    number, _, namespace = value.decode(errors="replace").partition(" ")
    return int(number) if number.isdecimal() and namespace == _pid_namespace() else None


def has_stopped_daemon(device: str) -> bool:
    """Whether a process that serves a mount is stopped.  False where the kernel does not show which mount one serves.

    Args:
        device: the mount's device number, as in /proc/self/mountinfo.
    """
    connection = device.partition(":")[2]
    if not connection:
        return False
    proc = ProcFolder()
    processes = [entry for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    stopped = (process for process in processes if proc.look_at(int(process.name)).is_stopped)
    return any(_serves(process, connection) for process in stopped)


def _serves(process: Path, connection: str) -> bool:
    """False for a process that has exited, or belongs to another user."""
    try:
        devices = [file.name for file in (process / "fd").iterdir() if file.readlink() == FUSE_DEVICE]
        lines = [line.split() for name in devices for line in (process / "fdinfo" / name).read_text().splitlines()]
    except OSError:
        return False
    return [_CONNECTION, connection] in lines


def run_with_timeout(query: Callable[[], bytes], is_hopeless: Callable[[], bool] = lambda: False) -> bytes:
    """The result of `query`, or nothing when it raises OSError.

    TimeoutError when it runs for longer than `ANSWER_TIMEOUT`, or is hopeless before that.  The query runs in a child
    process, because a process that waits for a stopped daemon can only be killed, and keeps the mount busy until then.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        _run_query(query, write_end)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as results:
        has_ended = _wait_for(results, is_hopeless)
        result = results.read() if has_ended else b""
    _kill(child)
    if not has_ended:
        raise TimeoutError
    return result


def _wait_for(results: BinaryIO, is_hopeless: Callable[[], bool]) -> bool:
    end = time.monotonic() + ANSWER_TIMEOUT
    while (left := end - time.monotonic()) > 0:
        if select.select([results], [], [], min(left, _LOOK_INTERVAL))[0]:
            return True
        if is_hopeless():
            return False
    return False


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
