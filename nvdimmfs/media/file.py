"""A medium in a sparse file of the host."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from nvdimmfs.media.base import MediaError, StoredMedia

#: Zeros are written this many bytes at a time.
_ZEROS = bytes(1024 * 1024)


class FileMedia(StoredMedia):
    """A sparse file whose bytes outlive the process: SIGKILL after write() loses nothing.

    Args:
        path: the file; created, or extended as a sparse file, when it is missing or empty.
        size: its size in bytes.  MediaError when the file has another size, is not a regular file, or is in use as a
            medium elsewhere: two engines on one file would destroy each other's data.
    """

    def __init__(self, path: str | os.PathLike[str], size: int) -> None:
        self.path = Path(path)
        self._size = size
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._claim()
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        self.require_range(offset, length)
        data = os.pread(self._fd, length, offset)
        if len(data) == length:
            return data
        return self._read_rest(data, offset, length)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self.require_range(offset, len(data))
        write_all(self._fd, data, offset)

    def zero(self, offset: int, length: int) -> None:
        """Zero the parts of the range that the file stores; holes stay holes."""
        self.require_range(offset, length)
        for position, size in self._stored(offset, offset + length):
            self.write(position, memoryview(_ZEROS)[:size])

    def contents(self) -> Iterator[tuple[int, bytes | bytearray]]:
        """As the base class.  All are read now, so they are in memory until the iterator ends."""
        return iter([(offset, self.read(offset, length)) for offset, length in self._stored(0, self._size)])

    def _stored(self, offset: int, end: int) -> Iterator[tuple[int, int]]:
        """Offset and length of what the file stores in a range, in pieces."""
        while offset < end:
            start = self._next_data(offset)
            if start is None or start >= end:
                return
            offset = min(end, os.lseek(self._fd, start, os.SEEK_HOLE))
            for position in range(start, offset, len(_ZEROS)):
                yield position, min(len(_ZEROS), offset - position)

    def reserve(self, offset: int, length: int) -> None:
        """Make the host allocate a range, so that a write to it does not fail for want of room.

        OSError: ENOSPC, EDQUOT; EFBIG beyond the limit on the size of files (RLIMIT_FSIZE).
        """
        self.require_range(offset, length)
        if not length:
            return
        try:
            os.posix_fallocate(self._fd, offset, length)
        except OSError as failure:
            if failure.errno == errno.EBADF:
                # What the C library, which writes zeros where the file system cannot allocate, makes of any failure of
                # its fstat(2).
                os.fstat(self._fd)
                raise OSError(errno.EIO, os.strerror(errno.EIO)) from failure
            raise

    def flush(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _claim(self) -> None:
        """Lock the file, and check or set its size."""
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(f"{self.path} is not a regular file")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MediaError(f"{self.path} is in use as a medium elsewhere") from None
        except OSError as error:
            raise MediaError(f"{self.path} cannot be locked: {error.strerror}") from None
        present = os.fstat(self._fd).st_size
        if present == 0:
            os.ftruncate(self._fd, self._size)
        elif present != self._size:
            raise MediaError(f"{self.path} has {present} bytes, not {self._size}")

    def _read_rest(self, data: bytes, offset: int, length: int) -> bytes:
        """Continue after a short read: the host returns at most 2 GiB at once."""
        pieces = [data]
        done = len(data)
        while done < length:
            piece = os.pread(self._fd, length - done, offset + done)
            if not piece:
                raise OSError(errno.EIO, "the file became shorter while in use", str(self.path))
            pieces.append(piece)
            done += len(piece)
        return b"".join(pieces)

    def _next_data(self, offset: int) -> int | None:
        """The next offset, from `offset` on, at which the file stores bytes; None when only a hole follows."""
        try:
            return os.lseek(self._fd, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            raise


def write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write all bytes: the host may write fewer at once.  OSError."""
    written = os.pwrite(descriptor, data, offset)
    while written < len(data):
        written += os.pwrite(descriptor, memoryview(data)[written:], offset + written)
