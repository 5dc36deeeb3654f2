"""The storage of a machine's persistent memory."""

from __future__ import annotations

import errno
import fcntl
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

from nvdimmfs.formats.label import LABEL_SIZES_BY_VERSION
from nvdimmfs.machine_file.model import LabelAreaDescription
from nvdimmfs.media.base import (
    NO_FAULTS,
    Media,
    MediaError,
    MediaFaults,
    StoredMedia,
    label_medium,
    range_medium,
)
from nvdimmfs.media.journal import Journal, JournaledMedia, sync_folder
from nvdimmfs.media.memory import MemoryMedia
from nvdimmfs.media.populated import PopulatedMedia
from nvdimmfs.nd.label import init_label_area

#: The file in a media folder that lists the files which an interrupted boot must not leave behind.
_LIST_OF_FILES_IN_THE_MAKING = ".unfinished"

#: Each probe has a transaction.
_NOTHING: AbstractContextManager[None] = nullcontext()


class Storage(ABC):
    """Provides the medium behind a physical range, the same one for each call while the storage is open."""

    #: Whether nothing was stored here before.
    is_new = True
    #: What makes several writes one; None for media that do not outlive the machine.
    journal: Journal | None = None

    #: Whether a checkpoint of the machine includes the bytes.
    can_be_reset = True

    def __init__(self) -> None:
        self._media: dict[tuple[int, int], StoredMedia] = {}
        self._label_areas: dict[str, StoredMedia] = {}
        self.faults: MediaFaults = NO_FAULTS

    def connect(self, faults: MediaFaults) -> None:
        """Have the media fail on order, those that are opened later included."""
        self.faults = faults
        if self.journal:
            self.journal.faults = faults
        for (start, size), media in self._media.items():
            media.connect(range_medium(start, size), faults)
        for name, area in self._label_areas.items():
            area.connect(label_medium(name), faults)

    def media(self, start: int, size: int) -> StoredMedia:
        """The medium of `size` bytes behind a physical address."""
        key = (start, size)
        if key not in self._media:
            self._media[key] = self.create(start, size)
            self._media[key].connect(range_medium(start, size), self.faults)
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
        media.connect(label_medium(name), self.faults)
        return media

    def restored_label_area(self, name: str, size: int) -> StoredMedia:
        """A new label area that is filled with saved bytes, so that `label_area` writes nothing into it."""
        area, _ = self.create_label_area(name, size)
        area.connect(label_medium(name), self.faults)
        self._label_areas[name] = area
        return area

    @property
    def ranges(self) -> Mapping[tuple[int, int], StoredMedia]:
        """The media of ranges that were opened, by first address and size."""
        return self._media

    @property
    def label_areas(self) -> Mapping[str, StoredMedia]:
        """The label areas that were opened, by name."""
        return self._label_areas

    def forget(self, areas: Iterable[str], ranges: Iterable[tuple[int, int]]) -> None:
        """Discard label areas and ranges, by name or by start and size: they are new when they are opened again."""
        gone = [self._label_areas.pop(name) for name in areas if name in self._label_areas]
        gone += [self._media.pop(range_) for range_ in ranges if range_ in self._media]
        self.discard(gone)

    def discard(self, media: Sequence[Media]) -> None:
        """Close media and discard their bytes."""
        for gone in media:
            gone.close()

    def transaction(self) -> AbstractContextManager[None]:
        """A context whose writes to all media outlive the process together or not at all, see `media.journal`."""
        return self.journal.transaction() if self.journal else _NOTHING

    @abstractmethod
    def install(self, start: int, end: int) -> None:
        """Memory was plugged in: there are bytes from the physical address `start` up to, not including, `end`."""

    @abstractmethod
    def keeps_label_area(self, name: str) -> bool:
        """Whether there is a label area of that name, which `label_area` would not make anew."""

    @abstractmethod
    def has_booted(self) -> None:
        """The initial content of all media is written: from now on, they belong to the user."""

    @abstractmethod
    def create_label_area(self, name: str, size: int) -> tuple[StoredMedia, bool]:
        """Open a label area; returns it, and whether it is new."""

    @abstractmethod
    def create(self, start: int, size: int) -> StoredMedia:
        """Open a medium for a range that has none yet."""

    def close(self) -> None:
        """Flush and close every medium.  OSError when the host refuses one; all are closed nevertheless."""
        media = (*self._media.values(), *self._label_areas.values())
        self._media.clear()
        self._label_areas.clear()
        with ExitStack() as closing:
            for each in media:
                closing.callback(each.close)
            for each in media:
                closing.callback(each.flush)  # all before the first is closed


class MemoryStorage(Storage):
    """The machine's own memory: bytes where memory is installed, none elsewhere; lost when this process ends.

    Attributes:
        installed: (first, end) physical addresses of installed memory, sorted, with gaps between them.
    """

    def __init__(self, installed: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        self.installed = installed

    def install(self, start: int, end: int) -> None:
        self.installed = (*self.installed, (start, end))

    def keeps_label_area(self, name: str) -> bool:
        return name in self._label_areas

    def create(self, start: int, size: int) -> StoredMedia:
        populated = tuple(
            (max(first, start) - start, min(end, start + size) - start)
            for first, end in self.installed
            if first < start + size and start < end
        )
        media = MemoryMedia(size)
        return media if populated == ((0, size),) else PopulatedMedia(media, populated)

    def has_booted(self) -> None:
        """Nothing to do: no media outlive a failed boot."""

    def create_label_area(self, name: str, size: int) -> tuple[StoredMedia, bool]:  # noqa: ARG002  # memory needs no names
        return MemoryMedia(size), True


class FolderStorage(Storage):
    """One sparse file per range, named after its first and last address, in a folder that one machine at a time uses.

    A boot that is interrupted, for example by SIGKILL, leaves a list of the files that it created.  The next boot
    creates them again: otherwise it would treat a label area without labels as the user's.  The same list completes the
    removal of files that is interrupted.

    Attributes:
        folder: the folder.
    """

    can_be_reset = False

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        """`MediaError` when the folder cannot be used or another machine uses it.

        Args:
            folder: the folder; it is created if it is missing.
            durable: as `Journal.durable`.
        """
        super().__init__()
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileExistsError as error:
            raise MediaError(f"{folder}: cannot keep media there: {os.strerror(errno.ENOTDIR)}") from error
        except OSError as error:
            raise MediaError(f"{folder}: cannot keep media there: {error.strerror}") from error
        try:
            self._take_lock()
            self.journal = self._journal = Journal(folder, durable=durable)
            self._list = folder / _LIST_OF_FILES_IN_THE_MAKING
            self._is_booting = True
            self._created: list[Media] = []
            self._discarded: list[Path] = []
            self._remove_half_made_files()
        except BaseException:
            os.close(self._lock)
            raise
        self.is_new = not any(folder.glob("*.img"))
        self._journal.is_on = not self.is_new  # a first boot that is interrupted starts again with an empty folder

    def has_booted(self) -> None:
        self._complete_created()
        self._list.unlink(missing_ok=True)
        self._is_booting = False
        self._journal.is_on = True

    def _complete_created(self) -> None:
        """The files that were made have their initial content: from now on they are kept.  OSError."""
        if not self._created:
            return
        if self._journal.durable:
            for media in self._created:
                media.flush()
            sync_folder(self.folder)
        self._created.clear()
        self._list.unlink(missing_ok=True)

    def label_area(self, name: str, description: LabelAreaDescription) -> Media:
        area = super().label_area(name, description)
        if not self._is_booting:  # a module was loaded again, or a DIMM was plugged in
            self._complete_created()
        return area

    def create(self, start: int, size: int) -> StoredMedia:
        path = self.folder / f"{range_medium(start, size)}.img"
        media, _ = self._open(path, size)
        if not self._is_booting:
            self._complete_created()
        return media

    def install(self, start: int, end: int) -> None:
        """Nothing to do: a file is made for each range."""

    def keeps_label_area(self, name: str) -> bool:
        return self._label_path(name).exists()

    def create_label_area(self, name: str, size: int) -> tuple[StoredMedia, bool]:
        return self._open(self._label_path(name), size)

    def discard(self, media: Sequence[Media]) -> None:
        """Remove the files, together with others of the same transaction.

        If that is interrupted, the next opening of the folder completes it.
        """
        self._discarded += [gone.file.path for gone in media if isinstance(gone, JournaledMedia)]
        super().discard(media)
        self._remove_discarded()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._journal.transaction():
            yield
        self._remove_discarded()

    def _remove_discarded(self) -> None:
        if not self._discarded or self._journal.collects:
            return
        paths, self._discarded = self._discarded, []
        self._list_as_half_made(paths)
        for path in paths:
            path.unlink()
        self._list.unlink(missing_ok=True)

    def _label_path(self, name: str) -> Path:
        return self.folder / f"{label_medium(name)}.img"

    def _open(self, path: Path, size: int) -> tuple[StoredMedia, bool]:
        """Open a medium; returns it, and whether its file is new."""
        is_new = not path.exists()
        if is_new:
            self._list_as_half_made([path])
        media = self._journal.open(path, size)
        if is_new:
            self._created.append(media)
        return media, is_new

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MediaError(
                f"{self.folder}: in use by another machine; unmount it first or choose another folder"
            ) from None
        except OSError as error:
            raise MediaError(
                f"{self.folder}: cannot be locked: {error.strerror}; choose a folder on another file system"
            ) from error

    def _list_as_half_made(self, paths: Iterable[Path]) -> None:
        with self._list.open("a") as names:
            names.write("".join(f"{path.name}\n" for path in paths))

    def _remove_half_made_files(self) -> None:
        """Remove the files of an interrupted boot, which no user has seen, or those that were to be removed."""
        if not self._list.exists():
            return
        names = self._list.read_text(errors="replace").splitlines()
        for image in self.folder.glob("*.img"):
            if image.name in names:
                image.unlink()
        self._list.unlink()

    def close(self) -> None:
        is_written = False
        try:
            super().close()
            is_written = True
        finally:
            try:
                self._journal.close(keep=not is_written)
            finally:
                os.close(self._lock)
