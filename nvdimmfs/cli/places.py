"""Folders that commands read: where a machine may be mounted, and its daemon may not answer."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from nvdimmfs.cli.errors import CommandError, daemon_does_not_answer, daemon_was_killed
from nvdimmfs.cli.mount_table import is_ours, mount_at, unresolved
from nvdimmfs.formats.mount_table import Mount
from nvdimmfs.fuse.daemon_identity import daemon_pid


@contextlib.contextmanager
def reading(folder: str) -> Iterator[None]:
    """Read a folder in this context.

    CommandError when it is in a mount of nvdimmfs whose daemon does not answer, or that belongs to another user: FUSE
    keeps even root out of the mount of an ordinary user.
    """
    mount = _mount_of(folder)
    place = folder if mount is None else mount.mountpoint
    try:
        if mount is not None and is_ours(mount):
            daemon_pid(mount.mountpoint, mount.device)
        yield
    except TimeoutError:
        raise daemon_does_not_answer(place) from None
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise daemon_was_killed(place) from None
        if isinstance(error, PermissionError) and mount is not None and is_ours(mount):
            raise CommandError(f"{place} belongs to another user, who alone may read it") from None
        raise


def _mount_of(folder: str) -> Mount | None:
    """The mount that a path leads into, by its text."""
    path = unresolved(folder)
    return next(filter(None, map(mount_at, (path, *path.parents))), None)
