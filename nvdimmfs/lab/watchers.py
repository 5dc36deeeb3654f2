"""Files that are watched for notifications (poll(2)).  Guests run this, too: the standard library alone."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
from pathlib import Path

from nvdimmfs.lab.asking import READ_LENGTH, Answer, Call, answered

#: The questions about such files.
QUESTIONS = ("watch", "poll")

#: What poll(2) reports of an attribute that was notified since it was last read (kernfs_generic_poll, Linux 6.1).
_NOTIFIED = select.POLLERR | select.POLLPRI


class Watchers:
    """Open files, by their paths below /sys.

    Args:
        sys_folder: where /sys is.
    """

    def __init__(self, sys_folder: Path = Path("/sys")) -> None:
        self._sys = sys_folder
        self._files: dict[str, int] = {}

    def answer(self, call: Call) -> Answer:
        """Answer the question `watch` or `poll`.  A refusal is the errno's name."""
        if call["op"] == "poll":
            return {"names": self.notified()}
        return answered(lambda: self._watched(call["path"]))

    def _watched(self, path: str) -> Answer:
        self.watch(path)
        return {"result": 0}

    def watch(self, path: str) -> None:
        """Open a file for as long as it exists, and read it.  OSError when it cannot be opened for reading."""
        place = f"{self._sys}/{path}"
        file = os.open(place, os.O_RDONLY)
        if stat.S_ISDIR(os.fstat(file).st_mode):
            os.close(file)
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), place)
        if before := self._files.pop(path, None):
            os.close(before)
        self._files[path] = file
        _read(file)

    def notified(self) -> list[str]:
        """The paths of the files that were notified or removed since they were read, sorted.

        Each is read again.  What was removed is not watched any longer.
        """
        found = self._pending()
        for path in found:
            _read(self._files[path])
        for path in self._pending():  # what was removed is notified even so
            os.close(self._files.pop(path))
        return found

    def close(self) -> None:
        """Watch no file any longer."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _pending(self) -> list[str]:
        """The paths of the files whose notifications poll(2) reports, sorted."""
        poll = select.poll()
        paths = {file: path for path, file in self._files.items()}
        for file in paths:
            poll.register(file, _NOTIFIED)
        return sorted(paths[file] for file, events in poll.poll(0) if events & _NOTIFIED)


def _read(file: int) -> None:
    with contextlib.suppress(OSError):
        os.pread(file, READ_LENGTH, 0)
