"""Answering a system call by others, which its own thread makes in its place."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Final

from nvdimmfs.sandbox.borrowed_thread import BorrowedThread, NotBorrowedError, borrowed
from nvdimmfs.sandbox.calling_thread import CallingThread
from nvdimmfs.sandbox.seccomp import Notification, NotificationListener

#: What is returned for a call that has been answered already.
ANSWERED: Final = "answered"


@contextlib.contextmanager
def borrowed_for(
    caller: CallingThread, call: Notification, listener: NotificationListener, file: int = -1
) -> Iterator[tuple[BorrowedThread, int]]:
    """Answer a call by calls of its thread, which gets a descriptor of an open file before; -1 if it has no room.

    NotBorrowedError: it still waits for an answer.
    """
    added = -1
    is_answered = False

    def wake() -> None:
        nonlocal added, is_answered
        if file >= 0:
            with contextlib.suppress(OSError):
                added = listener.add_file(call, file)
        is_answered = True
        listener.respond(call, -errno.EINTR)

    try:
        with borrowed(caller.thread, wake) as thread:
            yield thread, added
    except NotBorrowedError:
        if not is_answered:
            raise
