"""The signals that are passed on to the command."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

from nvdimmfs.sandbox import libc

#: Signals that the front and the supervisor block and forward.
FORWARDED_SIGNALS = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGWINCH,
    signal.SIGCONT,
)


#: The process whose signals go to the whole process group of the command, as those of a terminal do; 0 for none.
_terminal = 0


def stand_for_terminal(process: int) -> None:
    """Take the signals of a process, the warm server, for those of a terminal."""
    global _terminal
    _terminal = process


def acts_for_client() -> bool:
    """Whether this process acts for a client of a warm server."""
    return bool(_terminal)


def forward_signals(signals: int, process: int) -> None:
    """Send a process the signals that arrived, except those of a terminal, which signals the process itself.

    Args:
        signals: the descriptor from `blocked_signals`.
        process: a descriptor of the process (pidfd_open(2)).
    """
    for blocked in libc.read_signals(signals):
        if not blocked.from_kernel and blocked.sender != _terminal:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, blocked.number)


@contextlib.contextmanager
def blocked_signals() -> Iterator[int]:
    """Block the signals to be forwarded; yields a descriptor from which to read them (signalfd(2))."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED_SIGNALS)
    descriptor = libc.signal_descriptor(FORWARDED_SIGNALS)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
