"""How many system calls may wait at once: a user whose calls do not end must not use up the threads of the others."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import Counter
from collections.abc import Iterator

#: Calls of one user that are answered at the same time.  More are ENOMEM.
MOST_OF_ONE_USER = 64

#: Calls of all users but root that are answered at the same time.
MOST_OF_ALL_USERS = 256

_ROOT = 0


class CallLimits:
    """Counts the calls that are being answered."""

    def __init__(self) -> None:
        self._calls: Counter[int] = Counter()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def counted(self, user: int) -> Iterator[None]:
        """Count a call of that user until the end of the block.  ENOMEM when as many as permitted are being answered.

        Root's calls are not limited by those of others.
        """
        with self._lock:
            others = self._calls.total() - self._calls[_ROOT]
            if self._calls[user] >= MOST_OF_ONE_USER or (user != _ROOT and others >= MOST_OF_ALL_USERS):
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
            self._calls[user] += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls[user] -= 1
                if not self._calls[user]:
                    del self._calls[user]
