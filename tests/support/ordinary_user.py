"""Run a command as an ordinary user, even where such a user could not: for tests that root runs.

    ordinary_user.py FOLDER... -- COMMAND...

In a private mount namespace, all users may open /dev/fuse and reach the folders that are needed: a parent that other
users may not enter is covered by an empty folder in which only the needed ones appear.  Nothing is left behind.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path

from nvdimmfs.sandbox import libc

#: The user id of `nobody`, on Debian and elsewhere.
USER = 65534

#: The device of FUSE (Documentation/admin-guide/devices.txt).
_FUSE = os.makedev(10, 229)


def main() -> None:
    os.umask(0o022)
    divider = sys.argv.index("--")
    needed, command = [Path(folder) for folder in sys.argv[1:divider]], sys.argv[divider + 1 :]
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount("none", "/", flags=libc.MS_REC | libc.MS_SLAVE)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        libc.mount("none", scratch, "tmpfs", options="mode=755")
        _open_fuse(scratch / "fuse")
        _open_ways(needed, scratch)
        libc.umount(scratch)
    os.setgroups([])
    os.setgid(USER)
    os.setuid(USER)
    os.execvp(command[0], command)


def _open_fuse(node: Path) -> None:
    os.mknod(node, stat.S_IFCHR, _FUSE)
    node.chmod(0o666)
    libc.bind_mount(node, "/dev/fuse")


def _open_ways(needed: list[Path], scratch: Path) -> None:
    """Bind each folder elsewhere before any of its parents is covered."""
    kept: dict[Path, list[tuple[Path, Path]]] = {}
    for number, folder in enumerate(needed):
        barrier = _barrier(folder)
        if barrier is not None:
            (scratch / str(number)).mkdir()
            libc.bind_mount(folder, scratch / str(number))
            kept.setdefault(barrier, []).append((folder, scratch / str(number)))
    for barrier, folders in kept.items():
        libc.mount("none", barrier, "tmpfs", options="mode=755")
        for folder, source in folders:
            folder.mkdir(parents=True, exist_ok=True)
            libc.bind_mount(source, folder)


def _barrier(folder: Path) -> Path | None:
    """The first parent of a folder that other users may not enter; None when there is none."""
    ways = [*reversed(folder.parents)]
    return next((way for way in ways if not way.stat().st_mode & stat.S_IXOTH), None)


if __name__ == "__main__":
    main()
