"""`nvdimmfs umount`: end a mount, and its daemon with it."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from nvdimmfs.cli.errors import CommandError
from nvdimmfs.cli.mount_table import Mount, absolute, is_mounted_elsewhere, mount_at
from nvdimmfs.fuse.daemon_identity import daemon_pid
from nvdimmfs.fuse.requirements import MOUNT_HELPER

#: How long a daemon may take to write out its media and end, in seconds.
END_PATIENCE = 60.0

#: Flags of umount2(2) (include/uapi/linux/mount.h): now, even if it is in use; never follow a link.
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("directory", metavar="DIR", help="where it is mounted; a stale mount is cleaned up")
    parser.add_argument(
        "--lazy", action="store_true", help="unmount even while it is in use, and do not wait for the daemon"
    )


def run(arguments: argparse.Namespace) -> int:
    """Unmount and wait until the daemon has ended, unless it is mounted elsewhere, too (mount --bind)."""
    mount = _mount(arguments.directory)
    mountpoint = mount.mountpoint
    if arguments.lazy:
        _unmount(mountpoint, lazy=True)
        return 0
    try:
        process = daemon_pid(mountpoint)
    except TimeoutError:
        _unmount(mountpoint, lazy=False)
        raise CommandError(f"{mountpoint} is unmounted, but its daemon does not answer and may still run") from None
    with _held(process) as daemon:
        _unmount(mountpoint, lazy=False)
        if daemon is not None and not is_mounted_elsewhere(mount) and not _has_ended(daemon, END_PATIENCE):
            raise CommandError(f"{mountpoint} is unmounted, but its daemon (process {process}) has not ended yet")
    return 0


def _mount(directory: str) -> Mount:
    """CommandError unless there is a mount of nvdimmfs."""
    path = absolute(directory)
    mount = mount_at(path)
    if mount is not None and mount.ours:
        return mount
    if mount is not None:
        raise CommandError(f"{path} is a mount of {mount.type}, not of nvdimmfs")
    if not os.path.lexists(path):
        raise CommandError(f"{path} does not exist")
    raise CommandError(f"{path} is not mounted")


@contextlib.contextmanager
def _held(process: int | None) -> Iterator[int | None]:
    """A descriptor of a process, which stays its own when the id is given out again; None when it has ended."""
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
    """umount2(2); 0 or an errno."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(mountpoint), flags | UMOUNT_NOFOLLOW) == 0:
        return 0
    return ctypes.get_errno()


def _ask_helper(mountpoint: Path, *, lazy: bool) -> int:
    """Have the set-user-id helper unmount what it mounted; 0 or an errno."""
    if shutil.which(MOUNT_HELPER) is None:
        raise CommandError(f"{MOUNT_HELPER} is missing: install it (Debian's package fuse3), or be root")
    options = ["-u", *(["-z"] if lazy else [])]
    done = subprocess.run([MOUNT_HELPER, *options, "--", mountpoint], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return 0
    if os.strerror(errno.EBUSY) in done.stderr:
        return errno.EBUSY
    raise CommandError(f"cannot unmount {mountpoint}: {' '.join(done.stderr.split())}")


def _has_ended(daemon: int, patience: float) -> bool:
    """Wait for the process behind a descriptor, for so many seconds; whether it has ended."""
    poll = select.poll()
    poll.register(daemon, select.POLLIN)
    return bool(poll.poll(patience * 1000))
