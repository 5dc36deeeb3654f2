"""The storage of a machine's persistent memory."""

from __future__ import annotations

import fcntl
import os
from abc import ABC, abstractmethod
from pathlib import Path

from nvdimmfs.formats.label import LABEL_SIZES_BY_VERSION
from nvdimmfs.machine_file.model import LabelAreaDescription
from nvdimmfs.media.base import Media, MediaError
from nvdimmfs.media.file import FileMedia
from nvdimmfs.media.memory import MemoryMedia
from nvdimmfs.media.populated import PopulatedMedia
from nvdimmfs.nd.label import init_label_area

#: The file in a media folder that lists the files which an interrupted boot must not leave behind.
_LIST_OF_FILES_IN_THE_MAKING = ".unfinished"


class Storage(ABC):
    """Provides the medium behind a physical range, the same one for each call while the storage is open."""

    #: Whether nothing was stored here before.
    is_new = True

    def __init__(self) -> None:
        self._media: dict[tuple[int, int], Media] = {}
        self._label_areas: dict[str, Media] = {}

    def media(self, start: int, size: int) -> Media:
        """The medium of `size` bytes behind a physical address."""
        key = (start, size)
        if key not in self._media:
            self._media[key] = self.create(start, size)
        return self._media[key]

    def label_area(self, name: str, description: LabelAreaDescription) -> Media:
        """A DIMM's label area, with its first bytes written if it is new."""
        if name in self._label_areas:
            return self._label_areas[name]
        media, is_new = self.create_label_area(name, description.size)
        self._label_areas[name] = media
        if is_new and description.initialised:
            init_label_area(media, LABEL_SIZES_BY_VERSION[description.initialised])
        elif is_new:
            media.write(0, description.first_bytes())
        return media

    def forget(self, start: int, size: int) -> None:
        """Discard the content of a range, which then reads as zeros."""
        media = self._media.pop((start, size), None)
        if media:
            media.zero(0, size)
            media.close()

    def forget_label_area(self, name: str) -> None:
        """Discard the content of a label area, which is then new."""
        area = self._label_areas.pop(name, None)
        if area:
            area.close()
            self.remove_label_area(name)

    @abstractmethod
    def has_booted(self) -> None:
        """The initial content of all media is written: from now on, they belong to the user."""

    @abstractmethod
    def remove_label_area(self, name: str) -> None:
        """Remove a closed label area."""

    @abstractmethod
    def create_label_area(self, name: str, size: int) -> tuple[Media, bool]:
        """Open a label area; returns it, and whether it is new."""

    @abstractmethod
    def create(self, start: int, size: int) -> Media:
        """Open a medium for a range that has none yet."""

    def close(self) -> None:
        """Flush and close every medium."""
        while self._media:
            _, media = self._media.popitem()
            media.flush()
            media.close()
        while self._label_areas:
            _, area = self._label_areas.popitem()
            area.flush()
            area.close()


class MemoryStorage(Storage):
    """The machine's own memory: bytes where memory is installed, none elsewhere; lost when this process ends.

    Attributes:
        installed: (first, end) physical addresses of installed memory, sorted, with gaps between them.
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

    def has_booted(self) -> None:
        """Nothing to do: no media outlive a failed boot."""

    def create_label_area(self, name: str, size: int) -> tuple[Media, bool]:  # noqa: ARG002  # memory needs no names
        return MemoryMedia(size), True

    def remove_label_area(self, name: str) -> None:
        """Nothing to do: closing it discarded it."""


class FolderStorage(Storage):
    """One sparse file per range, named after its first and last address, in a folder that one machine at a time uses.

    A boot that is interrupted, for example by SIGKILL, leaves a list of the files that it created.  The next boot
    creates them again: otherwise it would treat a label area without labels as the user's.
    """

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
        self._list = folder / _LIST_OF_FILES_IN_THE_MAKING
        self._is_booting = True
        self._remove_half_made_files()
        self.is_new = not any(folder.glob("*.img"))

    def has_booted(self) -> None:
        self._is_booting = False
        self._list.unlink(missing_ok=True)

    def create(self, start: int, size: int) -> Media:
        path = self.folder / f"pmem-{start:x}-{start + size - 1:x}.img"
        if not path.exists():
            self._list_as_half_made(path)
        return FileMedia(path, size)

    def create_label_area(self, name: str, size: int) -> tuple[Media, bool]:
        path = self._label_path(name)
        is_new = not path.exists()
        if is_new:
            self._list_as_half_made(path)
        return FileMedia(path, size), is_new

    def remove_label_area(self, name: str) -> None:
        self._label_path(name).unlink()

    def _label_path(self, name: str) -> Path:
        return self.folder / f"labels-{name}.img"

    def _list_as_half_made(self, path: Path) -> None:
        if self._is_booting:
            with self._list.open("a") as names:
                names.write(f"{path.name}\n")

    def _remove_half_made_files(self) -> None:
        """Remove the files of an interrupted boot, which no user has seen."""
        if not self._list.exists():
            return
        names = self._list.read_text(errors="replace").splitlines()
        for image in self.folder.glob("*.img"):
            if image.name in names:
                image.unlink()
        self._list.unlink()

    def close(self) -> None:
        super().close()
        os.close(self._lock)
