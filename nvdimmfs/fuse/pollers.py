"""The processes that wait in poll(2) for a file of the mount, and how they are woken."""

from __future__ import annotations

import errno

from pyfuse3 import FileHandleT, InodeT, PollHandle

#: The process has stopped waiting, or the mount is gone.
_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTCONN})


class Pollers:
    """A poll handle for each open file that a process waits for, by inode."""

    def __init__(self) -> None:
        self._handles: dict[InodeT, dict[FileHandleT, PollHandle]] = {}

    @property
    def are_waiting(self) -> bool:
        """Whether a process waits for any file."""
        return bool(self._handles)

    def add(self, inode: InodeT, fh: FileHandleT, handle: PollHandle) -> None:
        """A process waits.  The handle replaces an earlier one of the same open file: the kernel has one wait queue."""
        self._handles.setdefault(inode, {})[fh] = handle

    def remove(self, inode: InodeT, fh: FileHandleT) -> None:
        """The open file is closed."""
        handles = self._handles.get(inode, {})
        handles.pop(fh, None)
        if not handles:
            self._handles.pop(inode, None)

    def wake(self, inode: InodeT) -> None:
        """Wake the processes that wait for a file (FUSE_NOTIFY_POLL).

        Within the request that notifies, not after it: this takes no lock, and a process that wakes polls again.
        """
        for handle in self._handles.pop(inode, {}).values():
            try:
                handle.notify()
            except OSError as failure:
                if failure.errno not in _GONE:
                    raise

    def wake_all(self) -> None:
        """Wake the processes that wait for any file."""
        for inode in [*self._handles]:
            self.wake(inode)
