"""Processes that are forked before it is known what for: each waits for one message, with files."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import NoReturn, Self

from attrs import define

from nvdimmfs.inherited_files import STANDARD_FILES, close_files_except, keep_open
from nvdimmfs.sandbox import libc

#: A process reports that it has taken a message.
_TAKEN = b"+"

LONGEST_MESSAGE = 1 << 16
#: A message has the standard files and seven more at most.
MOST_FILES = 7 + len(STANDARD_FILES)


@define(eq=False)
class WaitingProcess:
    """A forked process that waits for a message.

    Attributes:
        pid: its process id.
        pidfd: a descriptor of it.
        messages: the socket on which it waits.
    """

    pid: int
    pidfd: int
    messages: socket.socket

    @classmethod
    def forked(cls, act: Callable[[socket.socket], NoReturn]) -> Self:
        """Fork a process that calls a function with its end of the socket.  OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                process = os.fork()
            except OSError:
                ours.close()
                raise
            if process == 0:
                act(theirs)
        return cls(process, os.pidfd_open(process), ours)

    def hand_over(self, message: bytes, files: Sequence[int]) -> bool:
        """Hand it a message; False when it has been killed, and is forgotten."""
        try:
            socket.send_fds(self.messages, [message], files)
            if self.messages.recv(len(_TAKEN)):
                return True
        except OSError:
            pass
        self.end()
        return False

    def keep_for_later(self) -> None:
        """Have the next `close_files_except` of this process leave its files open."""
        keep_open(self.pidfd)
        keep_open(self.messages.fileno())

    def end(self) -> None:
        """Kill it while it has no message, and forget it."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.pidfd)
        self.messages.close()


def wait_for_message(
    messages: socket.socket, parent: int | None, prepare: Callable[[], None] = lambda: None
) -> tuple[bytes, list[int]]:
    """In the forked process: prepare, and receive the message; empty when there will be none.

    The files that come with it close when a program is executed.

    What a process writes to for the first time after a fork, the kernel copies (copy on write), and Python writes to
    whatever it looks at.  So most of the time of a first use goes into copies, which `prepare` brings about before.

    Args:
        messages: the socket.
        parent: a descriptor of the process that has forked this one (pidfd_open(2)), with which this one ends; None
            where it learns from the socket that there will be no message.
        prepare: uses what will be used, without an effect.
    """
    kept = [messages.fileno()]
    if parent is not None:
        libc.die_with_parent(signal.SIGKILL, os.dup(parent))
        kept.append(parent)
    close_files_except(*kept)
    prepare()
    message, files, _, _ = socket.recv_fds(messages, LONGEST_MESSAGE, MOST_FILES)
    for file in files:
        os.set_inheritable(file, False)  # Python 3.11 does not pass MSG_CMSG_CLOEXEC on
    return message, files


def take(messages: socket.socket) -> None:
    """In the forked process: report that the message has been taken."""
    messages.send(_TAKEN)
