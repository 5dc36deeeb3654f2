"""What is mounted where (/proc/self/mountinfo, proc(5)), and where something may be."""

from __future__ import annotations

import enum
import errno
import os
import re
from pathlib import Path
from typing import NamedTuple

from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.fuse.daemon_identity import FILE_SYSTEM_TYPE, run_with_timeout

_MOUNT_TABLE = Path("/proc/self/mountinfo")


class Mount(NamedTuple):
    """A line of the mount table: where, which type of file system, and the number that each of its mounts has."""

    mountpoint: Path
    type: str
    device: str

    @property
    def ours(self) -> bool:
        """Whether a daemon of nvdimmfs made it."""
        return self.type == FILE_SYSTEM_TYPE


def absolute(directory: str) -> Path:
    """The path of a directory as the mount table has it.  Asks nothing of what is mounted there: nobody may answer."""
    if not directory:
        raise CommandError("the name of a directory is empty", MISUSED)
    try:
        path = Path(os.path.abspath(directory))  # noqa: PTH100  # resolve() looks at the last component as well
    except FileNotFoundError:
        raise CommandError("the working directory has been removed") from None
    path = path.parent.resolve() / path.name
    return path if mount_at(path) else path.resolve()


def mount_at(directory: Path) -> Mount | None:
    """What is mounted on a directory; of several, the one on top."""
    return next((mount for mount in reversed(_mounts()) if mount.mountpoint == directory), None)


def is_mounted_elsewhere(mount: Mount) -> bool:
    """Whether, with that mount gone, its file system is still mounted somewhere."""
    return any(other.device == mount.device for other in _mounts())


def require_free(directory: Path) -> None:
    """CommandError unless something may be mounted on a directory: it exists, is empty, and nothing is."""
    mount = mount_at(directory)
    if mount is not None:
        raise CommandError(_occupied(mount))
    try:
        entries = os.listdir(directory)  # noqa: PTH208  # one name is as good as all
    except FileNotFoundError:
        raise CommandError(f"{directory} does not exist") from None
    except NotADirectoryError:
        raise CommandError(f"{directory} is not a directory") from None
    except PermissionError:
        raise CommandError(f"no permission to look into {directory}") from None
    except OSError as error:
        raise CommandError(f"{directory}: {error.strerror}") from None
    if entries:
        raise CommandError(f"{directory} is not empty")


def require_machine(directory: Path) -> None:
    """CommandError unless a machine is mounted on a directory whose daemon answers."""
    mount = mount_at(directory)
    if mount is None or not mount.ours:
        missing = not os.path.lexists(directory)
        raise CommandError(f"{directory} {'does not exist' if missing else 'is not a mount of nvdimmfs'}")
    match state_of(mount):
        case State.KILLED:
            raise CommandError(f"the daemon of {directory} was killed: clean up with `nvdimmfs umount {directory}`")
        case State.SILENT:
            raise CommandError(f"the daemon of {directory} does not answer: it is stopped, or hangs")


class State(enum.Enum):
    """How the daemon of a mount is."""

    ALIVE = b"alive"
    KILLED = b"killed"
    SILENT = b"silent"


def state_of(mount: Mount) -> State:
    """Ask the daemon of a mount for something that nobody else remembers."""
    try:
        return State(run_with_timeout(lambda: _state_when_asked(mount.mountpoint)))
    except TimeoutError:
        return State.SILENT


def _state_when_asked(mountpoint: Path) -> bytes:
    """Whether there is a daemon, from whoever may wait for its answer."""
    try:
        os.statvfs(mountpoint)
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            return State.KILLED.value
    return State.ALIVE.value


def _occupied(mount: Mount) -> str:
    if not mount.ours:
        return f"{mount.mountpoint} is already a mount point (of {mount.type})"
    match state_of(mount):
        case State.KILLED:
            return (
                f"{mount.mountpoint} is a stale mount, left by a daemon that was killed "
                f"(Transport endpoint is not connected): clean it up with `nvdimmfs umount {mount.mountpoint}`"
            )
        case State.SILENT:
            return f"{mount.mountpoint} is already a mount of nvdimmfs, and its daemon does not answer"
        case State.ALIVE:
            return f"{mount.mountpoint} is already a mount of nvdimmfs"


def _mounts() -> list[Mount]:
    return [_parse(line) for line in _MOUNT_TABLE.read_text(errors="surrogateescape").splitlines()]


def _parse(line: str) -> Mount:
    """Fields 3, 5 and, after a lone dash, the type; blanks are written in octal."""
    before, _, after = line.partition(" - ")
    fields = before.split(" ")
    mountpoint = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
    return Mount(Path(mountpoint), after.split(" ")[0], fields[2])
