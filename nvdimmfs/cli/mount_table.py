"""What is mounted where (/proc/self/mountinfo, proc(5)), and where something may be."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import NamedTuple

from nvdimmfs.cli.errors import CommandError
from nvdimmfs.fuse.identity import FILE_SYSTEM_TYPE

_MOUNT_TABLE = Path("/proc/self/mountinfo")


class Mount(NamedTuple):
    """A line of the mount table: where, and which type of file system."""

    mountpoint: Path
    type: str

    @property
    def ours(self) -> bool:
        """Whether a daemon of nvdimmfs made it."""
        return self.type == FILE_SYSTEM_TYPE


def absolute(directory: str) -> Path:
    """The path of a directory as the mount table has it.  Asks nothing of what is mounted there: nobody may answer."""
    path = Path(os.path.abspath(directory))  # noqa: PTH100  # resolve() looks at the last component as well
    path = path.parent.resolve() / path.name
    return path if mount_at(path) else path.resolve()


def mount_at(directory: Path) -> Mount | None:
    """What is mounted on a directory; of several, the one on top."""
    mounts = [_parse(line) for line in _MOUNT_TABLE.read_text(errors="surrogateescape").splitlines()]
    return next((mount for mount in reversed(mounts) if mount.mountpoint == directory), None)


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


def is_stale(mount: Mount) -> bool:
    """Whether the daemon of a mount was killed: "Transport endpoint is not connected"."""
    try:
        os.statvfs(mount.mountpoint)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def _occupied(mount: Mount) -> str:
    if mount.ours and is_stale(mount):
        return (
            f"{mount.mountpoint} is a stale mount, left by a daemon that was killed "
            f"(Transport endpoint is not connected): clean it up with `nvdimmfs umount {mount.mountpoint}`"
        )
    if mount.ours:
        return f"{mount.mountpoint} is already a mount of nvdimmfs"
    return f"{mount.mountpoint} is already a mount point (of {mount.type})"


def _parse(line: str) -> Mount:
    """Fields 5 and, after a lone dash, the type; blanks are written in octal."""
    before, _, after = line.partition(" - ")
    mountpoint = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split(" ")[4])
    return Mount(Path(mountpoint), after.split(" ")[0])
