"""The socket of a user's warm server, in a directory of this user alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import stat
import struct
from collections.abc import Iterator

from attrs import frozen

from nvdimmfs.warm import place

#: How often to look whether a server that was asked to end has removed its socket, in seconds.
_LOOK_INTERVAL = 0.01

#: struct ucred (unix(7)).
_CREDENTIALS = struct.Struct("=3i")

_BACKLOG = 128

_REMEDY = "set XDG_RUNTIME_DIR to a directory of this user"


class ServerError(Exception):
    """A server cannot be started or stopped; the message is one line."""


@frozen
class Endpoint:
    """The socket of a server, and its directory.

    Attributes:
        listener: the socket.
        directory: the open directory, which is locked (flock(2)) while a process has this descriptor open.
    """

    listener: socket.socket
    directory: int

    def close(self) -> None:
        """Remove the socket, and let another server take its place."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(place.SOCKET, dir_fd=self.directory)  # by descriptor
        self.listener.close()
        os.close(self.directory)


def listen() -> Endpoint:
    """Make the directory and the socket.  A socket that a killed server has left is replaced.

    ServerError when a server is running, or when the place is not this user's alone.
    """
    path = _directory()
    with contextlib.suppress(FileExistsError), _one_line(path, f"; {_REMEDY}"):
        os.mkdir(path, 0o700)  # noqa: PTH102  # one that exists is looked at
    with _one_line(path):
        directory = place.opened(path)
    try:
        _lock(directory, path)
        with _one_line(f"{path}/{place.SOCKET}"):
            return Endpoint(_bound(directory), directory)
    except BaseException:
        os.close(directory)
        raise


def stop() -> None:
    """Have the server accept no clients any more; it ends with the last command that it carries out.

    Returns once the socket is gone.  ServerError when there is no server.
    """
    path = _directory()
    no_server = ServerError(f"no server is running: nothing listens on {path}/{place.SOCKET}")
    try:
        directory = place.opened(path)
    except FileNotFoundError:
        raise no_server from None
    except OSError as failure:
        raise ServerError(f"{path}: {failure.strerror}") from None
    try:
        _stop(directory)
    except (FileNotFoundError, ConnectionRefusedError):
        raise no_server from None
    finally:
        os.close(directory)


def _stop(directory: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(place.address(directory))
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        server = os.pidfd_open(_CREDENTIALS.unpack(credentials)[0])
        listens_on = _inode(directory)
    try:
        signal.pidfd_send_signal(server, signal.SIGTERM)
        ended = select.poll()
        ended.register(server, select.POLLIN)
        while _inode(directory) == listens_on and not ended.poll(_LOOK_INTERVAL * 1000):
            pass
    finally:
        os.close(server)


def _inode(directory: int) -> int | None:
    try:
        return os.stat(place.SOCKET, dir_fd=directory, follow_symlinks=False).st_ino  # by descriptor
    except FileNotFoundError:
        return None


def _directory() -> str:
    path = place.directory()
    if not path:
        raise ServerError(f"there is no place for the socket; {_REMEDY}")
    return path


def _lock(directory: int, path: str) -> None:
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ServerError(f"a server is running already in {path}; `nvdimmfs serve --stop` ends it") from None


def _bound(directory: int) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(place.SOCKET, dir_fd=directory, follow_symlinks=False)  # by descriptor
        if not stat.S_ISSOCK(status.st_mode):
            raise OSError(0, "not a socket; remove it")
        os.unlink(place.SOCKET, dir_fd=directory)  # by descriptor
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = os.umask(0o177)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.bind(place.address(directory))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


@contextlib.contextmanager
def _one_line(path: str, remedy: str = "") -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise
    except OSError as failure:
        raise ServerError(f"{path}: {failure.strerror}{remedy}") from None
