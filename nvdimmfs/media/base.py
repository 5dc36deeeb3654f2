"""The interface of a medium, and a window onto part of one."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Protocol


class MediaError(ValueError):
    """A medium that cannot be opened or filled; the message is one line for the user."""


def range_medium(start: int, size: int) -> str:
    """The name of the medium behind a physical range, in fault rules and, with a suffix, in a folder of media."""
    return f"pmem-{start:x}-{start + size - 1:x}"


def label_medium(name: str) -> str:
    """The name of the medium of a label area, likewise."""
    return f"labels-{name}"


class Media(ABC):
    """Persistent bytes of a fixed size, all zero until written.

    A range outside of it is a bug of the caller: ValueError.  A failure of the host (ENOSPC, EIO) is an OSError, one
    that a fault rule declares a KernelError, as of hardware that fails.
    """

    __slots__ = ()  # each namespace has a window

    @property
    @abstractmethod
    def size(self) -> int:
        """Capacity in bytes."""

    @abstractmethod
    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset` on; bytes that were never written are zero."""

    def view(self, offset: int, length: int) -> bytes | memoryview:
        """As `read`, but perhaps not a copy: it is valid until the next write."""
        return self.read(offset, length)

    def is_blank(self, _offset: int, _length: int) -> bool:
        """Whether a range is known to be zero, so that nothing is learned from reading it: False if it may not be.

        Also False where a read could fail on order, or counts for a fault rule.
        """
        return False

    @abstractmethod
    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write bytes at `offset`; on return they survive the end of this process."""

    @abstractmethod
    def zero(self, offset: int, length: int) -> None:
        """Zero a range, at a cost proportional to the bytes written in it, not to its length."""

    @abstractmethod
    def flush(self) -> None:
        """Return once all written bytes would survive a power failure."""

    @abstractmethod
    def close(self) -> None:
        """Release the resources of the medium; it cannot be used afterwards.  A second call does nothing."""

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """A context whose writes survive the end of this process together or not at all; OSError at its end.

        A medium that does not outlive the process has nothing to do for it.
        """
        return contextlib.nullcontext()

    def require_range(self, offset: int, length: int) -> None:
        """ValueError unless the range lies on the medium."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{length} bytes at {offset} do not lie in a medium of {self.size} bytes")


class MediaFaults(Protocol):
    """What fails on order.

    Attributes:
        media_reads, media_writes: what can fail; empty if nothing can.
    """

    @property
    def media_reads(self) -> Sequence[object]: ...

    @property
    def media_writes(self) -> Sequence[object]: ...

    @property
    def orders_power_cut(self) -> bool:
        """Whether the power is or will be cut: writes must then reach the media in the engine's order, one by one."""

    def suspended(self) -> contextlib.AbstractContextManager[None]:
        """A context in which nothing fails."""

    def media_read(self, medium: str, data: bytes) -> bytes:
        """What a reader of the medium of that name gets instead of its bytes.  KernelError."""

    def media_write(self, medium: str, data: bytes | memoryview) -> bytes | memoryview:
        """What reaches the medium instead of bytes that are written.  KernelError, OSError."""

    def media_zero(self, medium: str, length: int) -> int:
        """How many bytes of a range that is to be zeroed reach the medium, likewise."""


class NoFaults:
    """Nothing fails."""

    media_reads: Sequence[object] = ()
    media_writes: Sequence[object] = ()
    orders_power_cut = False

    def suspended(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def media_read(self, medium: str, data: bytes) -> bytes:  # noqa: ARG002
        return data

    def media_write(self, medium: str, data: bytes | memoryview) -> bytes | memoryview:  # noqa: ARG002
        return data

    def media_zero(self, medium: str, length: int) -> int:  # noqa: ARG002
        return length


NO_FAULTS = NoFaults()


class StoredMedia(Media):
    """A medium that holds its bytes, or knows the one that does.

    Attributes:
        label: its name in fault rules.
        faults: what fails on order.
    """

    label = ""
    faults: MediaFaults = NO_FAULTS

    def connect(self, label: str, faults: MediaFaults) -> None:
        """Have reads and writes fail on order, from now on."""
        self.label, self.faults = label, faults

    @abstractmethod
    def contents(self) -> Iterator[tuple[int, bytes | bytearray]]:
        """The bytes that the medium has now, even if it is written to before they are read: offsets and pieces.

        The offsets ascend, and what no piece covers is zero.
        """


class MediaWindow(Media):
    """Part of a medium as a medium: a namespace in a region, the data behind an info block.

    Closing it leaves the medium open.

    Attributes:
        media: the underlying medium, which is not a window itself.
        start: offset of its first byte on that medium.
    """

    __slots__ = ("_size", "media", "start")

    def __init__(self, media: Media, start: int, size: int) -> None:
        media.require_range(start, size)
        self.media: Media = media
        self.start: int = start
        if type(media) is MediaWindow:  # so that a read does not go through a chain of windows
            self.media, self.start = media.media, media.start + start
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        self.require_range(offset, length)
        return self.media.read(self.start + offset, length)

    def view(self, offset: int, length: int) -> bytes | memoryview:
        self.require_range(offset, length)
        return self.media.view(self.start + offset, length)

    def is_blank(self, offset: int, length: int) -> bool:
        return self.media.is_blank(self.start + offset, length)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self.require_range(offset, len(data))
        self.media.write(self.start + offset, data)

    def zero(self, offset: int, length: int) -> None:
        self.require_range(offset, length)
        self.media.zero(self.start + offset, length)

    def flush(self) -> None:
        self.media.flush()

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        return self.media.transaction()

    def close(self) -> None:
        """Do nothing: the opener of the medium closes it."""
