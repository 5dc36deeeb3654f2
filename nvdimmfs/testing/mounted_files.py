"""The files of a mounted machine, used by path as those of an `Engine`."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from nvdimmfs.errors import KernelError
from nvdimmfs.formats import control
from nvdimmfs.machine.caller_memory import ARGUMENT_ADDRESS, UserMemory
from nvdimmfs.testing.arguments import AnyPath, Value, data_of, offset_of, path_of, size_of
from nvdimmfs.testing.mounted_channel import MountedChannel
from nvdimmfs.testing.refusals import os_error
from nvdimmfs.testing.used_by_path import UsedByPath, pieces


class MountedFiles(UsedByPath):
    """Files below a folder, by system calls of this process.

    Each refused call raises the OSError of the errno, with the path as it was given as `filename`, and the reasons, if
    it was the machine that refused, as notes.
    """

    def __init__(self, name: str, root: Path, channel: MountedChannel) -> None:
        super().__init__(name)
        self._root = root
        self._channel = channel

    def read_bytes(self, path: AnyPath, offset: int = 0, size: int | None = None) -> bytes:
        """Return bytes of a file, such as a disk: `size` at most, or all up to the end."""
        length = size_of(size)
        with self._opened(path, os.O_RDONLY) as file:
            return b"".join(pieces(partial(_read, file), offset_of(offset), length))

    def write(self, path: AnyPath, value: Value, offset: int = 0) -> int:
        """Open a file, write to it once, close it, and return how many bytes were written.

        A text is written in UTF-8 and as it is, without a newline; a number is written in decimal, a truth value as 1
        or 0.  Path.write_text() would write a second time after a refusal, when Python closes the file.
        """
        data = data_of(value)
        with self._opened(path, os.O_WRONLY) as file:
            return os.pwrite(file, data, offset_of(offset)) if data else 0

    def ls(self, path: AnyPath = "/") -> list[str]:
        """Return the sorted names in a directory."""
        with self._request(path) as place:
            return sorted(os.listdir(place))  # noqa: PTH208  # names alone

    def readlink(self, path: AnyPath) -> str:
        """Return the text of a symbolic link."""
        with self._request(path) as place:
            return os.readlink(place)  # noqa: PTH115  # a text, not a path

    def stat(self, path: AnyPath) -> os.stat_result:
        """Return mode, inode number, link count, owner, size and times of what a path leads to."""
        with self._request(path) as place:
            return os.stat(place)  # noqa: PTH116  # one system call for a text

    def lstat(self, path: AnyPath) -> os.stat_result:
        """Return the same, but of a link itself where the path ends with one."""
        with self._request(path) as place:
            return os.lstat(place)

    def _ioctl(self, path: AnyPath, request: int, memory: UserMemory, *, writable: bool) -> int:
        with self._request(path) as place:
            return self._channel.ioctl(self._device(place), request, ARGUMENT_ADDRESS, memory, writable=writable)

    def _device(self, place: str) -> control.Found:
        """The device with the node at a path.  ENOENT, and ENOTTY for a file that is no device node."""
        folder, _, name = os.path.relpath(place, self._root).rpartition("/")
        device = self._channel.find(name) if folder == "dev" else None
        if device is None:
            os.stat(place)  # noqa: PTH116  # raises ENOENT
            raise KernelError(errno.ENOTTY, f"/{folder}/{name} is not a device")
        return device

    def _require_open(self) -> None:
        """ValueError when the machine is closed."""

    @contextmanager
    def _request(self, path: AnyPath) -> Iterator[str]:
        """Make a request for a path, whose place on the host the context receives; OSError for a refusal."""
        name = path_of(path)
        self._require_open()
        begin = time.monotonic_ns()
        try:
            if not name:
                raise KernelError(errno.ENOENT, "the path is empty")
            yield f"{self._root}/{name.lstrip('/')}"
        except KernelError as refusal:
            raise os_error(refusal.errno, name, refusal.reasons) from None
        except OSError as failure:
            number = failure.errno or errno.EIO
            raise os_error(number, name, self._reasons(number, begin)) from None

    def _reasons(self, number: int, begin: int) -> tuple[str, ...]:
        return self._channel.reasons(number, begin)

    @contextmanager
    def _opened(self, path: AnyPath, flags: int) -> Iterator[int]:
        with self._request(path) as place:
            file = os.open(place, flags | os.O_CLOEXEC)
            try:
                yield file
            finally:
                with suppress(OSError):  # the machine's process may have ended
                    os.close(file)


def _read(file: int, offset: int, size: int) -> bytes:
    return os.pread(file, size, offset)
