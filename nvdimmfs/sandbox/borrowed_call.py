"""Answering a system call by others, which its own thread makes in its place."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from typing import Final

from nvdimmfs.sandbox.borrowed_thread import BorrowedThread, NotBorrowedError, borrow
from nvdimmfs.sandbox.calling_thread import CallingThread
from nvdimmfs.sandbox.seccomp import Notification, NotificationListener

#: What is returned for a call that has been answered already.
ANSWERED: Final = "answered"


def answer_by(
    use: Callable[[BorrowedThread, int], None],
    caller: CallingThread,
    call: Notification,
    listener: NotificationListener,
    file: int = -1,
) -> str:
    """Answer a call by calls of its thread, and return `ANSWERED`.  NotBorrowedError: it still waits for an answer.

    A thread that has filters of its own is not borrowed: they might forbid the calls, or kill it for one.

    Args:
        use: makes the calls, and sets the result.  It is given a descriptor of the thread's, or -1.
        caller: the thread.
        call: the call.
        listener: where the call waits.
        file: an open file of which the thread gets a descriptor before, if it has room for one; -1 for none.
    """
    if caller.has_own_filter:
        raise NotBorrowedError
    added = -1

    def wake() -> None:
        nonlocal added
        if file >= 0:
            with contextlib.suppress(OSError):
                added = listener.add_file(call, file)
        listener.respond(call, -errno.EINTR)

    borrow(caller.thread, caller.still_waits, wake, lambda thread: use(thread, added), is_native=call.is_native)
    return ANSWERED
