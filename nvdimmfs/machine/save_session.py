"""The file of the debug folder that saves the machine."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Channel


class SaveSession:
    """An open file of the debug folder's `saved`: the machine as it was when the file was opened."""

    has_unacknowledged = False

    def __init__(self, content: Iterator[bytes]) -> None:
        self._content = content
        self._is_at_end = False

    @property
    def has_message(self) -> bool:
        return not self._is_at_end

    def read(self) -> bytes:
        piece = next(filter(None, self._content), b"")
        self._is_at_end = not piece
        return piece

    def write(self, message: bytes) -> None:
        """EIO: the file cannot be written."""
        raise KernelError(errno.EIO, f"the file is read-only: {len(message)} bytes were written")

    def close(self) -> None:
        self._content = iter(())


def saved_file(name: str, content: Callable[[], Iterator[bytes]]) -> Channel:
    """The file that saves the machine: each open(2) starts from the machine's state at that moment."""
    return Channel(name, 0o400, lambda _: SaveSession(content()))
