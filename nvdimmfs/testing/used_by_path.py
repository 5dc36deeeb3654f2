"""What `Engine` and `Machine` have in common: both are used by path."""

from __future__ import annotations

import abc
import json
import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NoReturn, Self, SupportsIndex, overload

from nvdimmfs.formats.layout_document import LayoutDocument
from nvdimmfs.machine.caller_memory import UserMemory
from nvdimmfs.machine_file.type_checks import require
from nvdimmfs.testing.arguments import DEBUG, READ_SIZE, REQUEST_MASK, AnyPath, Value, integer


class UsedByPath(abc.ABC):
    """A machine whose files are used by path.  As a context manager it is closed at the end.

    Args:
        name: the machine's name; empty for one without.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._after_checkpoint: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce_ex__(self, _protocol: SupportsIndex) -> NoReturn:
        """TypeError for copy and pickle: two objects would be one machine, and one would not know that it is closed."""
        raise TypeError(f"{type(self).__name__} cannot be copied or pickled; make one in the process that uses it")

    @abc.abstractmethod
    def close(self) -> None:
        """End the machine."""

    # Files

    def read(self, path: AnyPath) -> str:
        """Return the content of a file as text.

        Bytes that are not UTF-8 become surrogates (errors="surrogateescape"), as in names of files.
        """
        return self.read_bytes(path).decode(errors="surrogateescape")

    @abc.abstractmethod
    def read_bytes(self, path: AnyPath, offset: int = 0, size: int | None = None) -> bytes:
        """Return bytes of a file, such as a disk: `size` at most, or all up to the end."""

    @abc.abstractmethod
    def write(self, path: AnyPath, value: Value, offset: int = 0) -> int:
        """Open a file, write to it once, close it, and return how many bytes were written.

        A text is written in UTF-8 and as it is, without a newline; a number is written in decimal, a truth value as 1
        or 0.  Path.write_text() would write a second time after a refusal, when Python closes the file.
        """

    def exists(self, path: AnyPath) -> bool:
        """Whether a path leads to something."""
        try:
            self.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    @abc.abstractmethod
    def stat(self, path: AnyPath) -> os.stat_result:
        """Return the status of what a path leads to."""

    @overload
    def ioctl(self, path: AnyPath, request: int, argument: bytes, *, flags: int = os.O_RDWR) -> bytes: ...

    @overload
    def ioctl(self, path: AnyPath, request: int, argument: bytearray, *, flags: int = os.O_RDWR) -> int: ...

    def ioctl(self, path: AnyPath, request: int, argument: bytes | bytearray, *, flags: int = os.O_RDWR) -> bytes | int:
        """Open a device as root, send it a request, and close it.

        Args:
            path: /dev/ndctlN, /dev/nmemN, or a disk.  The first two have no file in the dev/ of a mount, as in a
                sandbox they have.
            request: the number of the ioctl.
            argument: the memory that its argument points to, at `ARGUMENT_ADDRESS`; the rest of the memory is not
                mapped (EFAULT).
            flags: how the device is opened.

        Returns:
            As fcntl.ioctl: for bytes, what the memory contains afterwards; a bytearray is changed in place, and the
            result is that of the system call.
        """
        number = integer("request", request)
        require("argument", argument, (bytes, bytearray), "bytes or a bytearray")
        require("flags", flags, (int,), "a number")
        memory = UserMemory(argument if isinstance(argument, bytearray) else bytearray(argument))
        result = self._ioctl(path, number & REQUEST_MASK, memory, writable=(flags & os.O_ACCMODE) != os.O_RDONLY)
        return result if isinstance(argument, bytearray) else bytes(memory.data)

    @abc.abstractmethod
    def _ioctl(self, path: AnyPath, request: int, memory: UserMemory, *, writable: bool) -> int:
        """Send a request to a device whose node was opened for writing or not."""

    # The whole machine

    @property
    def layout(self) -> LayoutDocument:
        """The layout of its memory, as `nvdimmfs show --json` prints it."""
        layout: LayoutDocument = json.loads(self.read(f"{DEBUG}/layout"))
        return layout

    def show(self) -> str:
        """The drawing that `nvdimmfs show` prints."""
        from nvdimmfs.cli.drawing.mounted import drawing_of
        from nvdimmfs.cli.drawing.text import draw_plain

        return draw_plain(drawing_of(self.layout, self._name))

    def plug(self, text: str) -> None:
        """Plug in DIMMs and ranges while the machine runs.  OSError, with a note, for a text with a mistake.

        Args:
            text: what the file `plug` of the debug folder accepts, such as "dimm size=1G".
        """
        require("text", text, (str,), "a text")
        self.write(f"/{DEBUG}/plug", text)

    def on_checkpoint(self, call: Callable[[], None]) -> None:
        """Have a function called after each checkpoint; the pytest plugin does."""
        self._after_checkpoint = call


def pieces(read: Callable[[int, int], bytes], offset: int, size: int | None) -> Iterator[bytes]:
    """What reads return until the end of the file, or until `size` bytes are read.

    Args:
        read: reads at an offset so many bytes at most.
        offset: the first offset.
        size: None for all.
    """
    left = size
    while left is None or left > 0:
        piece = read(offset, READ_SIZE if left is None else min(left, READ_SIZE))
        if not piece:
            return
        yield piece
        offset += len(piece)
        left = None if left is None else left - len(piece)
