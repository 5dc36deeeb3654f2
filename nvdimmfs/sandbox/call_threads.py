"""The threads that answer system calls: a call that has to wait for its caller delays no other call.

Each thread receives a notification and answers it.  One that receives one while no other is ready to receive the next
starts another first, so the next one never waits for the end of this one.  Only beyond the limits of `call_limits` does
a call wait, without a thread; the thread of a call that ends then answers it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from nvdimmfs.host import why_no_thread
from nvdimmfs.sandbox.known_thread import KnownThread
from nvdimmfs.sandbox.seccomp import Notification, NotificationListener

log = logging.getLogger(__name__)

#: How many threads may wait for a notification; one that has answered and finds as many ends.
_MOST_IDLE = 4


def start_thread(target: Callable[[], None], name: str) -> None:
    """Start a thread that this process does not wait for at its end.  OSError as `why_no_thread`.

    It inherits the blocked signals: those that are meant for the command must be blocked before.
    """
    thread = threading.Thread(target=target, daemon=True, name=name)
    try:
        thread.start()
    except RuntimeError:
        raise why_no_thread() from None


class CallThreads:
    """Answers notifications until this process ends.

    The threads are never joined.  One whose caller's memory does not arrive may wait forever; the kernel ends it
    together with this process.

    Args:
        answer: answers one, with what the thread holds of the caller before; an exception is passed to `failed`.
        failed: called in the thread of the failure.
    """

    def __init__(
        self,
        answer: Callable[[Notification, NotificationListener, KnownThread], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._answer = answer
        self._failed = failed
        self._listener: NotificationListener | None = None
        self._has_listener = threading.Event()
        self._idle = 0
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the first thread, which waits for a listener.

        A process cannot create threads any more after it has unshared its PID namespace, but the threads that it has
        can (copy_process, kernel/fork.c).

        Raises:
            OSError: as `start_thread`.
        """
        with self._lock:
            self._idle += 1
            start_thread(self._serve, "call")

    def listen(self, listener: NotificationListener) -> None:
        """Begin to answer."""
        self._listener = listener
        self._has_listener.set()

    def _start_thread(self) -> None:
        self._idle += 1
        try:
            start_thread(self._serve, "call")
        except OSError as failure:  # a limit of the host: the calls then wait for a thread that is there
            self._idle -= 1
            log.warning("cannot answer more system calls at the same time: %s", failure)

    def _serve(self) -> None:
        self._has_listener.wait()
        assert self._listener is not None
        known = KnownThread()
        try:
            while True:
                notification = self._listener.receive()
                if notification is None:
                    if self._listener.has_callers:
                        continue
                    return
                self._leave_idle()
                self._answer(notification, self._listener, known)
                if not self._return_to_idle():
                    return
        except Exception as failure:
            self._failed(failure)
        finally:
            known.close()

    def _leave_idle(self) -> None:
        with self._lock:
            self._idle -= 1
            if not self._idle:
                self._start_thread()

    def _return_to_idle(self) -> bool:
        with self._lock:
            if self._idle >= _MOST_IDLE:
                return False
            self._idle += 1
            return True
