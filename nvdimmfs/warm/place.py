"""Where a user's warm server listens, and whether that place is the user's alone.

The client imports this module before anything else, so it imports next to nothing.
"""

import os

#: The name of the socket in the server's directory.
SOCKET = "socket"

#: The environment variable that keeps commands from using a server, and the value that does.
VARIABLE = "NVDIMMFS_SERVE"
NO = "no"

#: Root's directory without XDG_RUNTIME_DIR.  A sandbox has a /run/nvdimmfs.
_ROOTS_DIRECTORY = "/run/nvdimmfs-serve"

_DIRECTORY = 0o040000
_TYPE = 0o170000
_OTHERS = 0o077


def directory() -> str:
    """The server's directory, below XDG_RUNTIME_DIR; empty for an ordinary user without one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        return f"{runtime}/nvdimmfs"
    return _ROOTS_DIRECTORY if os.geteuid() == 0 else ""


def opened(path: str) -> int:
    """Open the server's directory, so that a path through the descriptor cannot lead elsewhere later.

    Raises:
        PermissionError: it is not a directory of this user with mode 0700.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or status.st_mode & (_TYPE | _OTHERS) != _DIRECTORY:
        os.close(descriptor)
        raise PermissionError(0, "not a directory of this user with mode 0700", path)
    return descriptor


def address(descriptor: int) -> str:
    """The path of the socket in an open directory."""
    return f"/proc/self/fd/{descriptor}/{SOCKET}"
