"""The mount table (/proc/self/mountinfo, proc(5)), and checks on the state of a mount point."""

from __future__ import annotations

import contextlib
import enum
import errno
import os
from pathlib import Path

from nvdimmfs.cli.errors import MISUSED, CommandError, daemon_does_not_answer, daemon_was_killed, umount_line
from nvdimmfs.formats.mount_table import Mount, parse_mounts
from nvdimmfs.fuse.daemon_identity import FILE_SYSTEM_TYPE, has_stopped_daemon, run_with_timeout

_MOUNT_TABLE = Path("/proc/self/mountinfo")


def is_ours(mount: Mount) -> bool:
    """Whether it is a mount of nvdimmfs."""
    return mount.type == FILE_SYSTEM_TYPE


def absolute(directory: str) -> Path:
    """The path of a directory as in the mount table.  Does not access a mount there, whose daemon may not answer."""
    path = unresolved(directory)
    path = path.parent.resolve() / path.name
    return path if mount_at(path) else path.resolve()


def unresolved(directory: str) -> Path:
    """The absolute path of a directory by its text: to follow a link that it ends with would access a mount there."""
    if not directory:
        raise CommandError("the name of a directory is empty", MISUSED)
    try:
        return Path(os.path.abspath(directory))  # noqa: PTH100
    except FileNotFoundError:
        raise CommandError("the working directory has been removed") from None


def mount_at(directory: Path) -> Mount | None:
    """The topmost mount on a directory; None when there is none."""
    return next((mount for mount in reversed(_mounts()) if mount.mountpoint == directory), None)


def is_mounted_elsewhere(mount: Mount) -> bool:
    """Whether the file system of a mount that was removed is still mounted elsewhere."""
    return any(other.device == mount.device for other in _mounts())


def process_with(mount: Mount) -> int | None:
    """A process in whose mount namespace the file system of a mount still is, by a copy; None when none can be seen."""
    for process in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208  # names alone
        table = Path("/proc", process, "mountinfo")
        with contextlib.suppress(OSError):  # it has ended, or belongs to another user
            if any(other.device == mount.device for other in _mounts(table)):
                return int(process)
    return None


def require_free(directory: Path) -> None:
    """CommandError unless a directory can be mounted on: it exists, is empty, and is no mount point yet."""
    mount = mount_at(directory)
    if mount is not None:
        raise CommandError(_occupied(mount))
    try:
        entries = os.listdir(directory)  # noqa: PTH208  # all names are needed at once
    except FileNotFoundError:
        raise CommandError(f"{directory} does not exist") from None
    except NotADirectoryError:
        raise CommandError(f"{directory} is not a directory") from None
    except PermissionError:
        raise CommandError(f"no permission to read {directory}") from None
    except OSError as error:
        raise CommandError(f"{directory}: {error.strerror}") from None
    if entries:
        raise CommandError(f"{directory} is not empty")


def require_machine(directory: Path) -> None:
    """CommandError unless a machine is mounted on a directory and its daemon answers."""
    mount = mount_at(directory)
    if mount is None or not is_ours(mount):
        missing = not os.path.lexists(directory)
        raise CommandError(f"{directory} {'does not exist' if missing else 'is not a mount of nvdimmfs'}")
    match daemon_state(mount):
        case DaemonState.KILLED:
            raise daemon_was_killed(directory)
        case DaemonState.NOT_ANSWERING:
            raise daemon_does_not_answer(directory)


class DaemonState(enum.Enum):
    """The state of a mount's daemon."""

    ALIVE = b"alive"
    KILLED = b"killed"
    NOT_ANSWERING = b"not answering"


def daemon_state(mount: Mount) -> DaemonState:
    """Send the daemon of a mount a request that the kernel cannot answer from its caches."""
    try:
        return DaemonState(run_with_timeout(lambda: _probe(mount.mountpoint), lambda: has_stopped_daemon(mount.device)))
    except TimeoutError:
        return DaemonState.NOT_ANSWERING


def _probe(mountpoint: Path) -> bytes:
    """Whether the daemon is alive; waits for its answer, perhaps forever."""
    try:
        os.statvfs(mountpoint)
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            return DaemonState.KILLED.value
    return DaemonState.ALIVE.value


def _occupied(mount: Mount) -> str:
    if not is_ours(mount):
        return f"{mount.mountpoint} is already a mount point (of {mount.type})"
    match daemon_state(mount):
        case DaemonState.KILLED:
            return (
                f"{mount.mountpoint} is a stale mount, left by a daemon that was killed "
                f"(Transport endpoint is not connected): clean up with {umount_line(mount.mountpoint)}"
            )
        case DaemonState.NOT_ANSWERING:
            return f"{mount.mountpoint} is already a mount of nvdimmfs, and its daemon does not answer"
        case DaemonState.ALIVE:
            return f"{mount.mountpoint} is already a mount of nvdimmfs"


def _mounts(table: Path | None = None) -> list[Mount]:
    """The mounts in a table, or in this process's.  CommandError where /proc is missing, as in a bare chroot."""
    if table is not None:
        return parse_mounts(table.read_bytes())
    try:
        return parse_mounts(_MOUNT_TABLE.read_bytes())
    except FileNotFoundError:
        raise CommandError(f"{_MOUNT_TABLE} is missing; run `mount -t proc proc /proc` as root") from None
