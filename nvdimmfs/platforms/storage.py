"""Where the bytes of a machine's persistent memory are kept."""

from __future__ import annotations

import fcntl
import os
from abc import ABC, abstractmethod
from pathlib import Path

from nvdimmfs.media.base import Media, MediaError
from nvdimmfs.media.file import FileMedia
from nvdimmfs.media.memory import MemoryMedia
from nvdimmfs.media.populated import PopulatedMedia


class Storage(ABC):
    """Gives the medium behind a physical range; the same range gets the same medium as long as the storage is open."""

    def __init__(self) -> None:
        self._media: dict[tuple[int, int], Media] = {}

    def media(self, start: int, size: int) -> Media:
        """The medium of `size` bytes behind a physical address."""
        key = (start, size)
        if key not in self._media:
            self._media[key] = self.create(start, size)
        return self._media[key]

    @abstractmethod
    def create(self, start: int, size: int) -> Media:
        """Open a medium that was not asked for before."""

    def close(self) -> None:
        """Flush and close every medium."""
        while self._media:
            _, media = self._media.popitem()
            media.flush()
            media.close()


class MemoryStorage(Storage):
    """The machine's own memory: bytes where it has memory, nothing elsewhere; gone when this process ends.

    Attributes:
        installed: (first, end) physical addresses at which there is memory, sorted, none touching another.
    """

    def __init__(self, installed: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        self.installed = installed

    def create(self, start: int, size: int) -> Media:
        populated = tuple(
            (max(first, start) - start, min(end, start + size) - start)
            for first, end in self.installed
            if first < start + size and start < end
        )
        media = MemoryMedia(size)
        return media if populated == ((0, size),) else PopulatedMedia(media, populated)


class FolderStorage(Storage):
    """A sparse file a range, named after its first and last address, in a folder that one machine at a time uses."""

    def __init__(self, folder: Path) -> None:
        """`MediaError` when the folder cannot be used or another machine uses it."""
        super().__init__()
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise MediaError(f"{folder}: cannot keep media there: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise MediaError(
                f"{folder}: in use by another machine; unmount it first or choose another folder"
            ) from error

    def create(self, start: int, size: int) -> Media:
        return FileMedia(self.folder / f"pmem-{start:x}-{start + size - 1:x}.img", size)

    def close(self) -> None:
        super().close()
        os.close(self._lock)
