"""Media of one folder, and the journal that makes several writes to them atomic.

A store, an ioctl or a block request may write to several media, or to one of them at several places.  Between the start
and the end of a `Journal.transaction` such writes are kept in memory, where readers find them.  At its end they go to
the journal in one record, and only then to the files of the media.  If the process ends before the record is complete,
none of the writes was made; if it ends later, the next opening of the folder applies them all, again if need be.

The journal starts again from the front when it is full.  Until then it holds writes that were applied long ago; to
apply them again must not undo a newer write.  Therefore a write outside of a transaction, which is in no record, first
makes the journal start again if one of the records has written nearby.

docs/reference/media-folder.md describes the guarantees and the file.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from attrs import define, field

from nvdimmfs.media.base import NO_FAULTS, MediaError, MediaFaults, StoredMedia
from nvdimmfs.media.file import FileMedia, write_all
from nvdimmfs.media.journal_record import (
    FIRST_RECORD,
    RECORD_HEAD,
    RECORD_OVERHEAD,
    Change,
    JournalError,
    body_of,
    header,
    record,
    records,
)
from nvdimmfs.media.overlay import Extent, Overlay
from nvdimmfs.units import align_up, div_round_up

log = logging.getLogger(__name__)

#: The journal's file in the folder of the media.  It exists between the first transaction and the close.
JOURNAL_NAME = ".journal"

#: Bytes after which the journal starts again.  A single record may be larger.
ROOM = 4 << 20

#: The file grows by so many bytes, all written, so that most records change no metadata of the host's file system: that
#: doubles the time of fdatasync(2).
STEP = 256 << 10

#: Unit in which the places of records are remembered, bytes: small, but not so small that a record has many.
_NEARBY = 1 << 16


@define(eq=False)
class _Places:
    """The places in one medium that records have written since the journal started."""

    units: set[int] = field(factory=set)
    ranges: list[tuple[int, int]] = field(factory=list)

    def add(self, extent: Extent) -> None:
        """Add a place: units of it, or a range if it is long."""
        first, end = extent.start // _NEARBY, div_round_up(extent.end, _NEARBY)
        if end - first > ROOM // _NEARBY:
            self.ranges.append((extent.start, extent.end))
        else:
            self.units.update(range(first, end))

    def touch(self, offset: int, length: int) -> bool:
        """Whether a record has written near a range."""
        end = offset + length
        if any(offset < stop and start < end for start, stop in self.ranges):
            return True
        first, last = offset // _NEARBY, div_round_up(end, _NEARBY)
        if last - first > len(self.units):
            return any(first <= unit < last for unit in self.units)
        return any(unit in self.units for unit in range(first, last))


class Journal:
    """The journal of a folder of media.

    Attributes:
        durable: whether a transaction that has ended also survives a power failure of the host.
        is_on: whether transactions are atomic.  While it is off, writes go to the files at once.
        faults: what fails on order; while a power cut is ordered, writes go to the files at once, in the engine's
            order, as on hardware.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        """Complete the transactions that an earlier process could not complete.

        MediaError when the folder has a journal that cannot be read or completed.
        """
        self.durable = durable
        self.is_on = True
        self.faults: MediaFaults = NO_FAULTS
        self._path = folder / JOURNAL_NAME
        self._file = -1
        self._generation = 0
        self._records = 0
        self._end = FIRST_RECORD
        self._size = 0
        self._places: dict[JournaledMedia, _Places] = {}
        self._waiting: dict[JournaledMedia, None] = {}
        self._in_transaction = False
        self._failure: OSError | None = None
        _replay(self._path)

    def open(self, path: Path, size: int) -> JournaledMedia:
        """Open a file of the folder as a medium; see `FileMedia`."""
        return JournaledMedia(FileMedia(path, size), self)

    @property
    def collects(self) -> bool:
        """Whether a write now belongs to a transaction."""
        return self._in_transaction

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all writes in the context together, at its end, to all media of the folder.

        A context within another one is a part of it.  If the host fails (OSError), in the context or at its end, none
        of its writes is made.  If the emulated kernel refuses (KernelError), those before the refusal are made.
        """
        if self._in_transaction:
            with self._part_of_transaction():
                yield
            return
        if not self.is_on or self.faults.orders_power_cut:
            yield
            return
        self._in_transaction = True
        try:
            yield
        except OSError:
            raise
        except Exception:
            self._commit()
            raise
        else:
            self._commit()
        finally:
            self._in_transaction = False
            self._forget_waiting()

    @contextlib.contextmanager
    def _part_of_transaction(self) -> Iterator[None]:
        """Forget the writes of a context in which the host fails: the context around it may go on."""
        before = {media: media.waiting.copy() for media in self._waiting}
        try:
            yield
        except OSError:
            for media in self._waiting:
                media.waiting = before.get(media, Overlay())
            raise

    def wait(self, media: JournaledMedia) -> None:
        """A medium keeps a write until the transaction ends.  EIO as `require_working`."""
        self.require_working()
        self._waiting[media] = None

    def make_room_for(self, media: JournaledMedia, offset: int, length: int) -> None:
        """Prepare for a write outside of a transaction.  OSError when that is not possible.

        While a power cut is ordered, no record may be left that the next opening of the folder would complete.
        """
        self.require_working()
        if self.faults.orders_power_cut:
            self.start_again()
        places = self._places.get(media)
        if places is not None and places.touch(offset, length):
            self.start_again()

    def require_working(self) -> None:
        """EIO, as an OSError, when an earlier transaction could not be completed."""
        if self._failure is not None:
            raise OSError(errno.EIO, "an earlier write could not be completed", str(self._path)) from self._failure

    def start_again(self) -> None:
        """Start from the front.  The files of the media have all records, and are synced first if this is durable.

        OSError.
        """
        if self._end == FIRST_RECORD:
            return
        self.require_working()
        if self.durable:
            for media in self._places:
                self._sync(media)
        try:
            write_all(self._file, header(self._generation + 1), 0)
            if self._size > ROOM + STEP:
                os.ftruncate(self._file, ROOM)
                self._size = ROOM
            if self.durable:
                os.fdatasync(self._file)
        except OSError as failure:
            self._failure = failure
            raise
        self._generation += 1
        self._records, self._end = 0, FIRST_RECORD
        self._places.clear()

    def flush(self, media: JournaledMedia) -> None:
        """Make the bytes of a medium durable.  OSError.

        If transactions are not durable themselves, a record that a power failure brings back must not undo them.
        """
        self._sync(media)
        if not self.durable and self._file >= 0:
            if self._failure is None:
                self.start_again()
            os.fdatasync(self._file)

    def _sync(self, media: JournaledMedia) -> None:
        """Make a file durable.  OSError, which the host reports once only: from then on its records are needed."""
        try:
            media.file.flush()
        except OSError as failure:
            if media in self._places:
                self._failure = failure
            raise

    def leave(self, media: JournaledMedia) -> None:
        """Keep no record of a medium, which is about to be closed, and whose file may be removed.  OSError."""
        if self._failure is None and media in self._places:
            self.start_again()

    def close(self, *, keep: bool = False) -> None:
        """Remove the file, once all media are closed.  OSError.

        It stays if a transaction could not be completed, and with `keep`.
        """
        if self._file < 0:
            return
        try:
            if self._failure is None and not keep:
                _remove(self._path, self._file)
        finally:
            os.close(self._file)
            self._file = -1

    def _commit(self) -> None:
        """Record the writes that wait, and apply them.  OSError when the host refuses; then none was made."""
        extents = [(media, extent) for media in self._waiting for extent in media.waiting.extents()]
        if not extents:
            return
        self.require_working()
        for media, extent in extents:
            if extent.data is not None:
                media.file.reserve(extent.start, extent.end - extent.start)
        self._append([Change(media.name, extent) for media, extent in extents])
        self._apply(extents)

    def _append(self, changes: list[Change]) -> None:
        if self._file < 0:
            self._create()
        body = body_of(changes)
        self._find_room(RECORD_OVERHEAD + len(body))
        new = record(self._generation, self._records, body)
        try:
            write_all(self._file, new, self._end)
            if self.durable:
                os.fdatasync(self._file)
        except OSError:
            self._cancel_record()
            raise
        self._end += len(new)
        self._records += 1

    def _find_room(self, length: int) -> None:
        """Make room for a record, which may begin a new generation.  OSError."""
        if self._records and self._end + length > ROOM:
            self.start_again()
        try:
            self._extend(self._end + length)
        except OSError:
            if not self._records:
                raise
            self.start_again()
            self._extend(self._end + length)

    def _extend(self, end: int) -> None:
        """Have the file reach at least to `end`.  OSError."""
        if end > self._size:
            size = align_up(end, STEP)
            write_all(self._file, bytes(size - self._size), self._size)
            self._size = size

    def _cancel_record(self) -> None:
        """Overwrite the start of a record whose transaction is refused, so that it is never completed."""
        try:
            write_all(self._file, bytes(RECORD_HEAD), self._end)
        except OSError as failure:
            self._failure = failure

    def _apply(self, extents: list[tuple[JournaledMedia, Extent]]) -> None:
        """Write to the files what the last record has.

        The record is complete: a failure now is not the caller's.  Readers go on to find the writes in memory, and the
        next opening of the folder completes them; until then, nothing else can be written.
        """
        try:
            for media, extent in extents:
                apply(media.file, extent)
                self._places.setdefault(media, _Places()).add(extent)
        except OSError as failure:
            self._failure = failure
            self._waiting.clear()  # but not the overlays of the media, which readers use
            log.error("%s: the journal keeps writes that failed; mount it again: %s", self._path.parent, failure)

    def _forget_waiting(self) -> None:
        for media in self._waiting:
            media.waiting = Overlay()
        self._waiting.clear()

    def _create(self) -> None:
        """Create the file, with a header.  OSError; then there is none."""
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            self._size = 0
            self._extend(FIRST_RECORD)
            write_all(self._file, header(self._generation), 0)
            if self.durable:
                os.fsync(self._file)
                sync_folder(self._path.parent)
        except OSError:
            os.close(self._file)
            self._file = -1
            self._path.unlink(missing_ok=True)
            raise


class JournaledMedia(StoredMedia):
    """A medium in a file, whose writes within a transaction are made at its end.

    Attributes:
        file: the file.
        name: of the file, in the journal's folder.
        waiting: the writes of the current transaction to this medium.
    """

    def __init__(self, file: FileMedia, journal: Journal) -> None:
        self.file = file
        self.name = file.path.name
        self.waiting = Overlay()
        self._journal = journal

    @property
    def size(self) -> int:
        return self.file.size

    def read(self, offset: int, length: int) -> bytes:
        read = self.file.read(offset, length)
        if self.waiting:
            read = self.waiting.over(offset, read)
        return self.faults.media_read(self.label, read) if self.faults.media_reads else read

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self.require_range(offset, len(data))
        if self.faults.media_writes:
            data = self.faults.media_write(self.label, data)
        if self._journal.collects:
            self._journal.wait(self)
            self.waiting.write(Extent(offset, offset + len(data), bytes(data)))
            return
        self._journal.make_room_for(self, offset, len(data))
        self.file.write(offset, data)

    def zero(self, offset: int, length: int) -> None:
        self.require_range(offset, length)
        if self.faults.media_writes:
            length = self.faults.media_zero(self.label, length)
        if self._journal.collects:
            self._journal.wait(self)
            self.waiting.write(Extent(offset, offset + length, None))
            return
        self._journal.make_room_for(self, offset, length)
        self.file.zero(offset, length)

    def contents(self) -> Iterator[tuple[int, bytes | bytearray]]:
        """As the base class.  EIO as `Journal.require_working`."""
        self._journal.require_working()
        assert not self.waiting, "a transaction ends before the next request"
        return self.file.contents()

    def flush(self) -> None:
        self._journal.flush(self)

    def close(self) -> None:
        try:
            self._journal.leave(self)
        finally:
            self.file.close()

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        return self._journal.transaction()


def apply(file: FileMedia, extent: Extent) -> None:
    """Write bytes to a file.  OSError."""
    if extent.data is None:
        file.zero(extent.start, extent.end - extent.start)
    else:
        file.write(extent.start, extent.data)


def sync_folder(folder: Path) -> None:
    """Return once the names in a folder would survive a power failure.  OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replay(path: Path) -> None:
    """Apply the changes of a journal that a killed process left, and remove it.  MediaError."""
    try:
        journal = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as failure:
        raise MediaError(f"{path}: cannot be read: {failure.strerror}") from failure
    try:
        _apply_records(journal, path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            _remove(path, descriptor)
        finally:
            os.close(descriptor)
    except JournalError as error:
        raise MediaError(f"{path}: the journal of the media {error}; without it, the last writes may be lost") from None
    except OSError as failure:
        raise MediaError(f"{path.parent}: cannot complete the last writes: {failure.strerror}") from failure


def _apply_records(journal: bytes, folder: Path) -> None:
    """Apply the changes of a journal, and make them durable.  JournalError, MediaError, OSError."""
    with contextlib.ExitStack() as opened:
        files: dict[str, FileMedia | None] = {}
        for changes in records(journal):
            # All files of a transaction are looked up before the first is written.
            targets = [(_file_of(change, folder, files, opened), change.extent) for change in changes]
            for file, extent in targets:
                if file is not None:
                    apply(file, extent)
        for file in files.values():
            if file is not None:
                file.flush()


def _file_of(
    change: Change, folder: Path, files: dict[str, FileMedia | None], opened: contextlib.ExitStack
) -> FileMedia | None:
    """The file of a change; None if the user has removed it since.  JournalError, MediaError, OSError."""
    name = change.name
    if "/" in name or not name.endswith(".img"):
        raise JournalError(f"names {name!r}, which is no medium")
    if name not in files:
        path = folder / name
        files[name] = FileMedia(path, path.stat().st_size) if path.exists() else None
        if (new := files[name]) is not None:
            opened.callback(new.close)
    file = files[name]
    if file is not None and change.extent.end > file.size:
        raise JournalError(f"has a change beyond the end of {name}")
    return file


def _remove(path: Path, descriptor: int) -> None:
    """Remove a journal whose changes are all applied, first its content: after a power failure, a name can return."""
    os.ftruncate(descriptor, 0)
    os.fsync(descriptor)
    path.unlink()
