"""What every medium can do, and a window onto part of one."""

from __future__ import annotations

from abc import ABC, abstractmethod


class MediaError(ValueError):
    """A medium that cannot be had as asked for; the message is one line for a person."""


class Media(ABC):
    """Persistent bytes of a fixed size, all zero until written.

    A range outside of it is a bug of the caller: ValueError.  What the host refuses (ENOSPC, EIO) is an OSError.
    """

    @property
    @abstractmethod
    def size(self) -> int:
        """Capacity in bytes."""

    @abstractmethod
    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset` on; what was never written is zero."""

    @abstractmethod
    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Replace the bytes at `offset`; on return they survive the end of this process."""

    @abstractmethod
    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros, at a cost that follows what was written in it, not its length."""

    @abstractmethod
    def flush(self) -> None:
        """Return once everything written would survive a power cut."""

    @abstractmethod
    def close(self) -> None:
        """Give back what the medium holds; it cannot be used afterwards.  A second call does nothing."""

    def require_range(self, offset: int, length: int) -> None:
        """ValueError unless the range lies on the medium."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{length} bytes at {offset} do not lie in a medium of {self.size} bytes")


class MediaWindow(Media):
    """Part of a medium as a medium: a namespace in a region, the data behind an info block.

    It borrows: closing it closes nothing.

    Attributes:
        media: the medium it looks at, itself no window.
        start: where its first byte lies on that medium, in bytes.
    """

    def __init__(self, media: Media, start: int, size: int) -> None:
        media.require_range(start, size)
        self.media: Media = media
        self.start: int = start
        if type(media) is MediaWindow:  # no chain of windows to go through at each read
            self.media, self.start = media.media, media.start + start
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        self.require_range(offset, length)
        return self.media.read(self.start + offset, length)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self.require_range(offset, len(data))
        self.media.write(self.start + offset, data)

    def zero(self, offset: int, length: int) -> None:
        self.require_range(offset, length)
        self.media.zero(self.start + offset, length)

    def flush(self) -> None:
        self.media.flush()

    def close(self) -> None:
        """Nothing: the medium belongs to whoever opened it."""
