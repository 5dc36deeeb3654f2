"""Disks whose nodes are closed: what was written is written back, as at the last close of a block device.

The kernel does so by itself when a block device has no opener left (blkdev_put, block/bdev.c, Linux 6.1), but the
supervisor keeps each loop device open.  So it watches the nodes, and writes back in a thread of its own, shortly after
close(2) has returned.  Where inotify(7) is not available, that happens only when the disk is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
import threading
from pathlib import Path

from nvdimmfs.formats.block_requests import BLKFLSBUF, BlockRequest
from nvdimmfs.formats.partition_name import disk_of_partition
from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.call_threads import start_thread

log = logging.getLogger(__name__)

#: Events (include/uapi/linux/inotify.h): a file that was open for writing was closed; a watch has ended.
_IN_CLOSE_WRITE = 0x8
_IN_IGNORED = 0x8000
#: struct inotify_event without a name.
_EVENT = struct.Struct("=iIII")
_EVENTS_AT_A_TIME = 256


class ClosedDisks:
    """Writes back the page cache of disks when their nodes are closed."""

    def __init__(self) -> None:
        self._paths: dict[int, Path] = {}
        #: Held while a disk is open to be written back.
        self._busy = threading.Lock()
        self._stopped = False
        try:
            self._events = libc.inotify()
        except OSError as failure:
            log.info("disks are not written back when they are closed: %s", failure.strerror)
            self._events = -1

    def watch(self, node: Path) -> None:
        """Write back a disk from now on when its node is closed."""
        if self._events >= 0:
            with contextlib.suppress(OSError):
                self._paths[libc.watch(self._events, node, _IN_CLOSE_WRITE)] = node

    def start_thread(self) -> None:
        """Begin, before the PID namespace is unshared (`CallThreads.start`).  OSError as `start_thread`."""
        if self._events >= 0:
            start_thread(self._follow, "closed disks")

    def stop(self) -> None:
        """Open no disk from now on.  Returns when none is open."""
        with self._busy:
            self._stopped = True

    def empty(self, node: Path) -> None:
        """Write back and drop the page cache of a disk, so that its bytes are read from the machine again."""
        with self._busy:
            if not self._stopped:
                _write_back(node)

    def read_page_by_page(self, node: Path) -> None:
        """Empty the page cache of a disk, and have it read single pages from now on, as one that has bad sectors.

        A read-ahead makes large folios of many pages, on hosts that have them, and a bad sector prevents the use of all
        pages of its folio (filemap_read_folio, mm/filemap.c, Linux 6.18).
        """
        with self._busy:
            if not self._stopped:
                _write_back(node, reads_ahead=False)

    def _with_same_bytes(self, node: Path) -> list[Path]:
        """The disk of a partition, or the partitions of a disk: loop devices with page caches of their own.

        On a real machine each loses its page cache at its own last close, so it has nothing from before.
        """
        disk = disk_of_partition(node.name)
        paths = [*self._paths.values()]  # to which another thread adds
        return [path for path in paths if path.name == disk or disk_of_partition(path.name) == node.name]

    def _follow(self) -> None:
        while True:
            closed = set()
            for watch, mask, _, _ in _EVENT.iter_unpack(os.read(self._events, _EVENTS_AT_A_TIME * _EVENT.size)):
                if mask & _IN_IGNORED:
                    self._paths.pop(watch, None)
                elif watch in self._paths:
                    closed.add(self._paths[watch])
            for node in closed:
                self.empty(node)
                for other in self._with_same_bytes(node):
                    self.empty(other)


def _write_back(node: Path, *, reads_ahead: bool = True) -> None:
    """Write back and drop the page cache of a disk (BLKFLSBUF).  One that is gone was written back when it went."""
    with contextlib.suppress(OSError):
        disk = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not reads_ahead:
                fcntl.ioctl(disk, BlockRequest.BLKRASET, 0)
            fcntl.ioctl(disk, BLKFLSBUF)
        finally:
            os.close(disk)
