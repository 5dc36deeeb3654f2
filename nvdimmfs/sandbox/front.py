"""The front: the process that the user has started and waits for, and that nothing can keep from ending.

A thread of the supervisor can wait in the kernel where no signal ends it: for a page of a caller's memory that a FUSE
file system is writing back, and never confirms.  A process exits only with its last thread.  So the supervisor is a
child of the front, which exits when the supervisor has reported the result.  The client of a warm server is itself the
front of the process that acts for it.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import sys
from collections.abc import Callable

from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.signals import acts_for_client, blocked_signals, forward_signals

#: How long the supervisor may take to exit after its report, in seconds.
_LONGEST_EXIT = 1.0

#: How long the process that acts for a client may take to end after its answer, in seconds.
_LONGEST_END = 30

_REPORT = struct.Struct("=i")

#: Answers the client of a warm server that this process acts for; None where there is none.
_answer: Callable[[int], None] | None = None


def act_for_front(answer: Callable[[int], None]) -> None:
    """The front is another process, the client of a warm server, which exits once it is answered.

    Args:
        answer: gives it a wait(2) status.
    """
    global _answer
    _answer = answer


def answer_early(status: int) -> None:
    """Have the client of a warm server, if that is the front, exit before this process has ended.

    This process then has some time to end, and is killed after that: nothing waits for it any more.

    Args:
        status: a wait(2) status.
    """
    if _answer is None:
        return
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    signal.alarm(_LONGEST_END)
    _answer(status)


def run_behind_front(work: Callable[[], int]) -> int:
    """Call a function in a child, and return its result; the child ends with it, or goes on with an exception.

    Args:
        work: returns a wait(2) status.

    Returns:
        In this process, the status of the child itself if it ended before `work` returned.
    """
    if acts_for_client():
        return work()
    reports, report = os.pipe()
    front = os.pidfd_open(os.getpid())
    with blocked_signals() as signals:
        child = os.fork()
        if child:
            os.close(report)
            os.close(front)
            return _wait(child, reports, signals)
    os.close(reports)
    libc.die_with_parent(signal.SIGKILL, front)
    status = work()
    for file in (sys.stdout, sys.stderr):
        file.flush()
    os.write(report, _REPORT.pack(status))
    os._exit(0)  # at once: the interpreter frees what the kernel frees anyway


def _wait(child: int, reports: int, signals: int) -> int:
    """Forward signals to the child until it has reported or ended, and return the status."""
    process = os.pidfd_open(child)
    poll = select.poll()
    for descriptor in (reports, signals):
        poll.register(descriptor, select.POLLIN)
    while reports not in (ready := dict(poll.poll())):
        if signals in ready:
            forward_signals(signals, process)
    reported = os.read(reports, _REPORT.size)
    if reported:
        status = int(_REPORT.unpack(reported)[0])
        libc.has_ended(process, _LONGEST_EXIT)
        os.waitpid(child, os.WNOHANG)  # so that its processor time counts as this process's
        return status
    return os.waitpid(child, 0)[1]
