"""The process of a private template: it forks a process for each message, and cleans up after each."""

from __future__ import annotations

import contextlib
import errno
import functools
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
from collections import deque
from collections.abc import Callable
from typing import NoReturn, cast

from attrs import define

from nvdimmfs.inherited_files import STANDARD_FILES, close_files_except
from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.waiting_process import LONGEST_MESSAGE, MOST_FILES, WaitingProcess, take, wait_for_message
from nvdimmfs.warm.call import FAILURE, READY, Spares, Work

#: How long forked processes may take to end once the template ends, in seconds; afterwards they are killed.
_LONGEST_END = 1.0

#: How long to wait for what cleans up after a process, in seconds.
_LONGEST_CLEANING = 5.0

#: For how long nothing may happen before a spare process is forked, in milliseconds.
_QUIET = 2

#: A message comes with a socket for reports, a pipe with the call, and perhaps the standard files.
_FEWEST_FILES = 2


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

    def __init__(self, control: socket.socket, owner: int, spares: Spares) -> None:
        self._control = control
        self._owner = owner
        self._prepare = {kind: spare.prepare for kind, spare in spares.items()}
        self._learn = {kind: spare.learn for kind, spare in spares.items() if spare.learn}
        #: What is to be learned when nothing else happens.
        self._lessons: deque[Callable[[], None]] = deque()
        self._own = os.pidfd_open(os.getpid())
        self._children: dict[int, _Child] = {}
        self._spares: dict[str, WaitingProcess] = {}
        #: The kinds of which a call is expected.
        self._expected = {kind for kind, spare in spares.items() if spare.at_once}
        self._poll = select.poll()
        for descriptor in (control.fileno(), owner):
            self._poll.register(descriptor, select.POLLIN)

    def run(self) -> None:
        """Serve the owner until it has ended, or has closed the control socket."""
        while True:
            missing = self._expected - self._spares.keys()
            ready = {descriptor for descriptor, _ in self._poll.poll(_QUIET if missing or self._lessons else None)}
            if self._lessons and not ready:  # before a spare process is forked, which then has what is learned
                with contextlib.suppress(Exception):  # the call that it is about reports it
                    self._lessons.popleft()()
            elif missing and not ready:
                self._fork_spare(min(missing))
            for kind in [kind for kind, spare in self._spares.items() if spare.pidfd in ready]:
                self._drop_spare(kind)
            for child in ready & self._children.keys():
                self._ended(child)
            if self._owner in ready:
                return
            if self._control.fileno() in ready and not self._receive():
                return

    def end(self) -> None:
        """End all forked processes."""
        for kind in [*self._spares]:
            self._drop_spare(kind)
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
            message, files, _, _ = socket.recv_fds(self._control, LONGEST_MESSAGE, MOST_FILES)
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
        kind, end_by, clean, subject = pickle.loads(message)  # noqa: S301  # the owner's
        if subject is not None and kind in self._learn:
            self._lessons.append(functools.partial(self._learn[kind], subject))
        with socket.socket(fileno=os.dup(files[0])) as channel, contextlib.suppress(BrokenPipeError):
            try:
                process = self._use_spare(kind, message, files) or self._fork_for(message, files)
            except OSError as failure:
                channel.send(f"cannot start a process: {failure.strerror}".encode())
                return
            self._children[process.pidfd] = _Child(process.pid, end_by, clean)
            self._poll.register(process.pidfd, select.POLLIN)
            try:
                socket.send_fds(channel, [str(process.pid).encode()], [process.pidfd])
            finally:
                process.messages.close()  # it begins, and so its reports come after this one

    def _fork_for(self, message: bytes, files: list[int]) -> WaitingProcess:
        """Fork a process for a call, and hand it the call."""
        process = self._forked(lambda: None)
        if not process.hand_over(message, files):
            raise OSError(errno.ECHILD, "it was killed")
        return process

    def _use_spare(self, kind: str, message: bytes, files: list[int]) -> WaitingProcess | None:
        """Hand a call to the spare process of its kind; None when there is none.  The next call is expected then."""
        if kind in self._prepare:
            self._expected.add(kind)
        spare = self._spares.pop(kind, None)
        if spare is None:
            return None
        self._poll.unregister(spare.pidfd)
        return spare if spare.hand_over(message, files) else None

    def _fork_spare(self, kind: str) -> None:
        """Fork a process for the next call.  Where the host refuses that, the call is what fails."""
        try:
            spare = self._spares[kind] = self._forked(self._prepare[kind])
        except OSError:
            del self._prepare[kind]
            self._expected.discard(kind)
            return
        self._poll.register(spare.pidfd, select.POLLIN)

    def _forked(self, prepare: Callable[[], None]) -> WaitingProcess:
        """Fork a process that waits for a call."""
        return WaitingProcess.forked(lambda calls: _wait_for_call(calls, prepare, self._own))

    def _drop_spare(self, kind: str) -> None:
        spare = self._spares.pop(kind)
        self._poll.unregister(spare.pidfd)
        spare.end()

    def _ended(self, pidfd: int) -> None:
        """Clean up after a forked process that has ended, or is being killed."""
        child = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(child.pid, 0)
        if status and child.clean is not None:
            _call_in_child(child.clean)


def _wait_for_call(calls: socket.socket, prepare: Callable[[], None], template: int) -> NoReturn:
    """In a forked process: prepare, wait for a call, and begin with it when the template closes the socket."""
    try:
        parent = os.dup(template)
        message, files = wait_for_message(calls, parent, prepare)
        if message and len(files) >= _FEWEST_FILES:
            take(calls)
            calls.recv(1)
            _run(files, message, parent)
    finally:
        os._exit(1)


def _run(files: list[int], message: bytes, template: int) -> NoReturn:
    """In a forked process: receive the call, and make it.

    Args:
        files: the socket for reports, the pipe with the call, and perhaps the standard files.
        message: the kind of the call, the signal that ends this process, what cleans up after it, and a subject.
        template: a descriptor of the template.
    """
    status = 1
    report, requests, *standard_files = files
    channel = socket.socket(fileno=report)
    try:
        _, end_by, _, _ = pickle.loads(message)  # noqa: S301  # the owner's
        libc.die_with_parent(end_by, os.dup(template))
        for standard, file in enumerate(standard_files):
            os.dup2(file, standard)
        kept = STANDARD_FILES if standard_files else ()
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
    with contextlib.suppress(OSError):  # the owner does not wait for it
        channel.send(report[:LONGEST_MESSAGE])


def _call_in_child(clean: Callable[[], None]) -> None:
    """Call a function in a process of its own, which is killed if that takes too long."""
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
        control: the socket on which messages arrive; the first has the function that loads everything, and the spare
            processes to keep.
        owner: a descriptor of the owner's process (pidfd_open(2)).
    """
    with socket.socket(fileno=control) as messages:
        received = pickle.loads(messages.recv(LONGEST_MESSAGE))  # noqa: S301  # the owner's
        preload, spares = cast("tuple[Callable[[], None], Spares]", received)
        preload()
        directory = tempfile.mkdtemp(prefix="nvdimmfs-")
        try:
            gc.collect()
            gc.freeze()
            messages.send(os.fsencode(directory))
            sys.stderr.flush()
            os.dup2(1, 2)  # the owner reads no more of it
            loop = _Loop(messages, owner, spares)
            try:
                loop.run()
            finally:
                loop.end()
        finally:
            shutil.rmtree(directory, ignore_errors=True)
