"""What a thread of the supervisor holds of the thread that it answered last.

That one mostly calls again, on the same file.  It is looked up once; at the next call, one read of a file in /proc
shows whether it is still so.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from attrs import define

from nvdimmfs.sandbox.thread_file import PROC_BUFFER, ThreadFile


@define(eq=False)
class _KnownFile:
    """A file that the thread has open.

    Attributes:
        number: the thread's descriptor.
        info: the open fdinfo of that descriptor, which shows whatever file it is at the time of a read.
        text: what it showed.
        file: the file, held by a descriptor of its own.
    """

    number: int
    info: int
    text: bytes
    file: ThreadFile

    def close(self) -> None:
        os.close(self.info)
        os.close(self.file.descriptor)


@define(eq=False)
class KnownThread:
    """One calling thread and one of its files; for one thread of the supervisor.

    Attributes:
        directory: the thread's directory in /proc; -1 while none is known.
    """

    directory: int = -1
    _thread: int = 0
    _status: int = -1
    _file: _KnownFile | None = None

    def look(self, thread: int, proc: int, still_waits: Callable[[], bool]) -> bytes:
        """The status of a thread whose system call waits, which is known from then on.  OSError when it is gone.

        Ids are unique among the threads that live, and the status of one that is gone cannot be read.  So the
        thread that is known calls again if it has this id and a status.

        Args:
            thread: its id.
            proc: an open /proc that shows it.
            still_waits: returns whether the call still waits.
        """
        if thread == self._thread:
            try:
                return os.pread(self._status, PROC_BUFFER, 0)
            except ProcessLookupError:
                pass  # another thread has the id by now
        self.close()
        self.directory = os.open(str(thread), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc)
        self._status = os.open("status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.directory)
        text = os.pread(self._status, PROC_BUFFER, 0)
        if not still_waits():  # if it does, this was the directory of its thread
            raise ProcessLookupError
        self._thread = thread
        return text

    def may_have(self, thread: int, number: int) -> bool:
        """Whether a file was remembered for that thread and that descriptor."""
        return self._file is not None and self._thread == thread and self._file.number == number

    def file(self, number: int) -> ThreadFile | None:
        """The file that was remembered for a descriptor of the thread, if it is still that file; else None.

        The file is held, so that no other one has its mount and its inode number.
        """
        known = self._file
        if known is None or known.number != number:
            return None
        try:
            is_same = os.pread(known.info, PROC_BUFFER, 0) == known.text
        except OSError:
            is_same = False
        if is_same:
            return known.file
        self._forget_file()
        return None

    def remember(self, number: int, file: ThreadFile) -> None:
        """Hold a file, which the thread had open at that descriptor a moment ago.

        What is held cannot be unmounted, so this is for nodes of the machine alone.
        """
        if self._file is not None and self._file.file is file:
            return
        self._forget_file()
        info = os.open(f"fdinfo/{number}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.directory)
        text = os.pread(info, PROC_BUFFER, 0)
        if file.is_shown_by(text):
            self._file = _KnownFile(number, info, text, file.duplicate())
        else:
            os.close(info)

    def close(self) -> None:
        """Forget the thread."""
        self._forget_file()
        for descriptor in (self.directory, self._status):
            if descriptor >= 0:
                os.close(descriptor)
        self._thread, self.directory, self._status = 0, -1, -1

    def _forget_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
