"""`nvdimmfs umount`: unmount a machine and wait until its daemon has exited."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from nvdimmfs.cli.errors import CommandError
from nvdimmfs.cli.mount_table import absolute, is_mounted_elsewhere, is_ours, mount_at, process_with
from nvdimmfs.formats.mount_table import Mount
from nvdimmfs.fuse.daemon_identity import daemon_pid
from nvdimmfs.fuse.peers import Look, ProcFolder
from nvdimmfs.fuse.requirements import MOUNT_HELPER

#: How often to look at a daemon that is to write out its media and exit, in seconds.
_LOOK_INTERVAL = 0.5

#: After so many looks that found the daemon idle, a copy of the mount is searched for, which would explain it.
_LOOKS_PER_SEARCH = 10

#: So many looks are taken at most while there is a copy: ten minutes.
_MOST_LOOKS = 1200

#: Flags of umount2(2) (include/uapi/linux/mount.h): detach even while in use; do not follow a symbolic link.
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("directory", metavar="DIR", help="the mount point; a stale mount is cleaned up")
    parser.add_argument(
        "--lazy", action="store_true", help="detach the mount even while it is in use, and do not wait for the daemon"
    )


def run(arguments: argparse.Namespace) -> int:
    """Unmount, and wait until the daemon has exited, unless it also serves another mount (mount --bind)."""
    mount = _require_mount(arguments.directory)
    mountpoint = mount.mountpoint
    if arguments.lazy:
        _unmount(mountpoint, lazy=True)
        return 0
    try:
        process = daemon_pid(mountpoint, mount.device)
    except TimeoutError:
        _unmount(mountpoint, lazy=False)
        raise CommandError(
            f"{mountpoint} is unmounted, but its daemon does not answer and may still be running"
        ) from None
    with _process_descriptor(process) as daemon:
        _unmount(mountpoint, lazy=False)
        if daemon is not None and process is not None and not is_mounted_elsewhere(mount):
            _wait_for_exit(daemon, process, mount)
    return 0


def _require_mount(directory: str) -> Mount:
    """The mount of nvdimmfs on a directory.  CommandError when there is none."""
    path = absolute(directory)
    mount = mount_at(path)
    if mount is not None and is_ours(mount):
        return mount
    if mount is not None:
        raise CommandError(f"{path} is a mount of {mount.type}, not of nvdimmfs")
    if not os.path.lexists(path):
        raise CommandError(f"{path} does not exist")
    raise CommandError(f"{path} is not mounted")


@contextlib.contextmanager
def _process_descriptor(process: int | None) -> Iterator[int | None]:
    """A pidfd, which is safe even if the kernel reuses the process id; None when the process has exited."""
    if process is None:
        yield None
        return
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def detach(mountpoint: Path) -> None:
    """Detach whatever is mounted on a directory of ours, even while it is in use.  CommandError as `run`."""
    _unmount(mountpoint, lazy=True)


def _unmount(mountpoint: Path, *, lazy: bool) -> None:
    failure = _umount2(mountpoint, MNT_DETACH if lazy else 0)
    if failure == errno.EPERM:
        failure = _ask_helper(mountpoint, lazy=lazy)
    if failure == errno.EBUSY:
        raise CommandError(
            f"{mountpoint} is busy: a process has a file open or its working directory there "
            f"(`fuser -vm {mountpoint}` names it; --lazy unmounts all the same)"
        )
    if failure:
        raise CommandError(f"cannot unmount {mountpoint}: {os.strerror(failure)}")


def _umount2(mountpoint: Path, flags: int) -> int:
    """Call umount2(2); returns 0 or an errno."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(mountpoint), flags | UMOUNT_NOFOLLOW) == 0:
        return 0
    return ctypes.get_errno()


def _ask_helper(mountpoint: Path, *, lazy: bool) -> int:
    """Have the set-user-id helper unmount a mount that it made; returns 0 or an errno."""
    if shutil.which(MOUNT_HELPER) is None:
        raise CommandError(f"{MOUNT_HELPER} is missing: install it (Debian package fuse3), or run as root")
    options = ["-u", *(["-z"] if lazy else [])]
    done = subprocess.run([MOUNT_HELPER, *options, "--", mountpoint], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return 0
    if os.strerror(errno.EBUSY) in done.stderr:
        return errno.EBUSY
    mount = mount_at(mountpoint)
    if mount is not None and mount.user != os.getuid():
        raise CommandError(f"{mountpoint} belongs to another user; only that user or root may unmount it")
    raise CommandError(f"cannot unmount {mountpoint}: {' '.join(done.stderr.split())}")


def _wait_for_exit(daemon: int, process: int, mount: Mount) -> None:
    """Wait until a daemon has exited.

    While another mount namespace, such as a sandbox's or a container's, has a private copy of the mount, the daemon has
    to serve it.  This waits, and prints a line on a terminal.

    Args:
        daemon: its pidfd.
        process: its id.
        mount: the mount that was removed.

    Raises:
        CommandError: the daemon is stopped, or sleeps and does nothing although no copy can be seen, or for too long.
    """
    proc, before = ProcFolder(), Look("")
    idle = last_of_copy = 0  # looks in a row that found it idle, and those of them until a copy was last found
    poll = select.poll()
    poll.register(daemon, select.POLLIN)
    while not poll.poll(_LOOK_INTERVAL * 1000):
        look = proc.look_at(process)
        idle = idle + 1 if look == before and not look.is_at_work else 0
        before = look
        if look.is_stopped:
            raise CommandError(
                f"{mount.mountpoint} is unmounted, but its daemon (process {process}) is stopped: "
                f"it exits when it goes on (`kill -CONT {process}`)"
            )
        if not idle:
            last_of_copy = 0
        elif idle % _LOOKS_PER_SEARCH == 0:
            holder = process_with(mount)
            if holder is not None:
                last_of_copy = idle
                _wait_for_holder(holder, process, mount, idle)
            elif idle - last_of_copy > _LOOKS_PER_SEARCH:
                raise CommandError(
                    f"{mount.mountpoint} is unmounted, but its daemon (process {process}) has not exited yet"
                )


def _wait_for_holder(holder: int, daemon: int, mount: Mount, idle: int) -> None:
    """A process still has a copy of a mount: print a line on a terminal, once; CommandError after too long a wait."""
    line = (
        f"{mount.mountpoint} is unmounted, but process {holder} still has the machine in a mount namespace of its own "
        f"(`kill {daemon}` ends the machine there, too)"
    )
    if idle >= _MOST_LOOKS:
        raise CommandError(line)
    if idle == _LOOKS_PER_SEARCH and sys.stderr.isatty():
        print(f"nvdimmfs: waiting: {line}", file=sys.stderr)
