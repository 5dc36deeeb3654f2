"""The process of a private template: it forks a process for each message, and cleans up after each."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NoReturn, cast

from attrs import define

from nvdimmfs.inherited_files import STANDARD_FILES, close_files_except
from nvdimmfs.sandbox import libc
from nvdimmfs.warm.call import FAILURE, READY, Work

#: How long forked processes may take to end once the template ends, in seconds; afterwards they are killed.
_LONGEST_END = 1.0

#: How long to wait for what cleans up after a process, in seconds.
_LONGEST_CLEANING = 5.0

_LONGEST_MESSAGE = 1 << 16

#: A message comes with a socket for reports, a pipe with the call, and perhaps the standard files.
_FEWEST_FILES = 2
_MOST_FILES = _FEWEST_FILES + len(STANDARD_FILES)


@define
class _Child:
    """A forked process.

    Attributes:
        pid: its process id.
        end_by: the signal that ends it.
        clean: what to call when it did not end by itself.
    """

    pid: int
    end_by: signal.Signals
    clean: Callable[[], None] | None


class _Loop:
    """Forks, and waits for the ends of the forked processes and of the owner."""

    def __init__(self, control: socket.socket, owner: int) -> None:
        self._control = control
        self._owner = owner
        self._own = os.pidfd_open(os.getpid())
        self._children: dict[int, _Child] = {}
        self._poll = select.poll()
        for descriptor in (control.fileno(), owner):
            self._poll.register(descriptor, select.POLLIN)

    def run(self) -> None:
        """Serve the owner until it has ended, or has closed the control socket."""
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll()}
            for child in ready & self._children.keys():
                self._ended(child)
            if self._owner in ready:
                return
            if self._control.fileno() in ready and not self._receive():
                return

    def end(self) -> None:
        """End all forked processes."""
        for pidfd, child in self._children.items():
            signal.pidfd_send_signal(pidfd, child.end_by)
            signal.pidfd_send_signal(pidfd, signal.SIGCONT)
        deadline = time.monotonic() + _LONGEST_END
        for pidfd in [*self._children]:
            if not libc.has_ended(pidfd, max(0.0, deadline - time.monotonic())):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            self._ended(pidfd)

    def _receive(self) -> bool:
        """Fork for a message; False when there will be none any more."""
        try:
            message, files, _, _ = socket.recv_fds(self._control, _LONGEST_MESSAGE, _MOST_FILES)
        except ConnectionResetError:
            return False
        if not message:
            return False
        try:
            if len(files) >= _FEWEST_FILES:  # otherwise this process has too many open files
                self._fork(message, files)
        finally:
            for file in files:
                os.close(file)
        return True

    def _fork(self, message: bytes, files: list[int]) -> None:
        """Fork, and send the owner a descriptor of the child.  What the host refuses is reported to the owner."""
        with socket.socket(fileno=os.dup(files[0])) as channel, contextlib.suppress(BrokenPipeError):
            try:
                child = os.fork()
                if child == 0:
                    _run(channel, files[1], files[2:], message, self._own)
                pidfd = os.pidfd_open(child)
            except OSError as failure:
                channel.send(f"cannot start a process: {failure.strerror}".encode())
                return
            self._children[pidfd] = _Child(child, *pickle.loads(message))  # noqa: S301  # the owner's
            self._poll.register(pidfd, select.POLLIN)
            socket.send_fds(channel, [str(child).encode()], [pidfd])

    def _ended(self, pidfd: int) -> None:
        """Clean up after a forked process that has ended, or is being killed."""
        child = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(child.pid, 0)
        if status and child.clean is not None:
            _call_in_child(child.clean)


def _run(channel: socket.socket, requests: int, files: list[int], message: bytes, template: int) -> NoReturn:
    """In a forked process: receive the call, and make it."""
    status = 1
    try:
        end_by, _ = pickle.loads(message)  # noqa: S301  # the owner's
        libc.die_with_parent(end_by, os.dup(template))
        for standard, file in enumerate(files):
            os.dup2(file, standard)
        kept = STANDARD_FILES if files else ()
        close_files_except(*kept, channel.fileno(), requests)
        with os.fdopen(requests, "rb") as stream:
            work, request = cast("tuple[Work[object], object]", pickle.load(stream))  # noqa: S301  # the owner's
        result = work(request, lambda: _send(channel, READY))
        if result is not None:
            _send(channel, str(result).encode())
        status = 0
    except BaseException as failure:  # the owner must learn of any error
        _send(channel, FAILURE + (str(failure) or repr(failure)).encode(errors="replace"))
    finally:
        os._exit(status)


def _send(channel: socket.socket, report: bytes) -> None:
    with contextlib.suppress(OSError):  # nobody waits for it
        channel.send(report[:_LONGEST_MESSAGE])


def _call_in_child(clean: Callable[[], None]) -> None:
    """Call a function in a process of its own, which is killed if it takes too long."""
    child = os.fork()
    if child == 0:
        try:
            with contextlib.suppress(Exception):
                clean()
        finally:
            os._exit(0)
    pidfd = os.pidfd_open(child)
    if not libc.has_ended(pidfd, _LONGEST_CLEANING):
        os.kill(child, signal.SIGKILL)
    os.close(pidfd)
    os.waitpid(child, 0)


def main(control: int, owner: int) -> None:
    """Load everything, and serve the owner.

    Args:
        control: the socket on which messages arrive; the first is the function that loads everything.
        owner: a descriptor of the owner's process (pidfd_open(2)).
    """
    with socket.socket(fileno=control) as messages:
        preload = cast("Callable[[], None]", pickle.loads(messages.recv(_LONGEST_MESSAGE)))  # noqa: S301  # the owner's
        preload()
        directory = tempfile.mkdtemp(prefix="nvdimmfs-")
        try:
            gc.collect()
            gc.freeze()
            messages.send(os.fsencode(directory))
            sys.stderr.flush()
            os.dup2(1, 2)  # the owner reads no more of it
            loop = _Loop(messages, owner)
            try:
                loop.run()
            finally:
                loop.end()
        finally:
            shutil.rmtree(directory, ignore_errors=True)
