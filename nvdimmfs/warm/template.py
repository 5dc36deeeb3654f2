"""A private template: a child of this process, which forks a process for each call.

It is a program of its own, not a fork: this process may have threads, whose locks a fork would leave locked.  Both ends
trust each other, so calls are pickled.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

from nvdimmfs.errors import PERHAPS_MEMORY, REMEDIES
from nvdimmfs.sandbox.waiting_process import LONGEST_MESSAGE
from nvdimmfs.warm.call import FAILURE, READY, CallError, Spares, Work

RequestT = TypeVar("RequestT")

#: How long a template may take to end by itself, in seconds; afterwards it is killed.
_LONGEST_END = 10.0

#: What the new interpreter executes; its arguments are the search path as JSON, and three numbers.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from nvdimmfs.warm.template_loop import main; main(*map(int, sys.argv[2:]))"
)

#: The longest report of a forked process.
_LONGEST_REPORT = 1 << 16


class TemplateError(Exception):
    """The template has ended, or cannot be started.  The message is one line."""


class TemplateEndedError(TemplateError):
    """The template has ended, which is noticed when it is called."""


def _require_no_failure(report: bytes) -> None:
    """CallError, with the reason, for a report of a failure."""
    if report.startswith(FAILURE):
        raise CallError(report[len(FAILURE) :].decode(errors="replace"))


class ForkedProcess:
    """A process that the template has forked for a call.

    Attributes:
        pid: its process id.
        pidfd: a descriptor of it (pidfd_open(2)), which polls as readable when it has ended.
    """

    def __init__(self, pid: int, pidfd: int, channel: socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self._channel = channel

    def wait_until_ready(self) -> None:
        """Wait until it has called the second argument of its function.  CallError, with the reason, when it failed."""
        report = self._report()
        if report == READY:
            return
        _require_no_failure(report)
        raise CallError(f"the machine's process was killed before the mount answered, {PERHAPS_MEMORY}")

    def status(self) -> int | None:
        """Wait for the end, and return the number that the function returned; None when it returned none."""
        while report := self._report():
            if report.isdigit():
                return int(report)
            _require_no_failure(report)
        return None

    def fileno(self) -> int:
        """A descriptor that polls as readable when there is a report, or can be none any more."""
        return self._channel.fileno()

    @property
    def has_report(self) -> bool:
        """Whether there is a report; waits until that is known."""
        try:
            return bool(self._channel.recv(1, socket.MSG_PEEK))
        except ConnectionResetError:
            return False

    def send_signal(self, number: int) -> None:
        """Send it a signal; nothing happens when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, number)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for its end, up to so many seconds; whether it has ended."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(None if seconds is None else seconds * 1000))

    def hang_up(self) -> None:
        """Receive no more reports, for which a descriptor is open."""
        self._channel.close()

    def close(self) -> None:
        """Close the descriptors; the process goes on."""
        self.hang_up()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def _report(self) -> bytes:
        try:
            return self._channel.recv(_LONGEST_REPORT)
        except ConnectionResetError:
            return b""


class Template:
    """The template's parent side.  All methods may be called from several threads.

    When the parent ends, in whatever way, the template ends all forked processes, cleans up after them, removes
    `directory`, and ends.

    Attributes:
        directory: a folder, of this template alone, for mount points and the like.
    """

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket, directory: Path) -> None:
        self._process = process
        self._control = control
        self._owner = os.getpid()
        self._closing = threading.Lock()
        self.directory = directory
        os.register_at_fork(after_in_child=self._forget)

    @classmethod
    def start(cls, preload: Callable[[], None], spares: Spares | None = None) -> Self:
        """Start a template, and wait until it has loaded everything.

        Args:
            preload: loads the modules that calls need; a function of a module, called in the template.
            spares: the processes that the template forks in advance, each for the next call of its kind.

        Raises:
            TemplateError: with what the template printed.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        owner = os.pidfd_open(os.getpid())
        with theirs:
            try:
                kept = (theirs.fileno(), owner)
                arguments = [json.dumps([*map(os.path.abspath, sys.path)]), *map(str, kept)]
                process = subprocess.Popen(
                    [sys.executable, "-c", _PROGRAM, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=kept,
                    start_new_session=True,  # the terminal's signals are meant for the parent
                    cwd="/",
                )
            except OSError as failure:
                ours.close()
                raise TemplateError(f"cannot start a template process: {failure.strerror}") from failure
            finally:
                os.close(owner)
        with contextlib.suppress(BrokenPipeError):
            ours.send(pickle.dumps((preload, spares or {})))
        directory = ours.recv(_LONGEST_REPORT)
        assert process.stderr is not None
        with process.stderr as errors:
            if not directory:
                ours.close()
                lines = errors.read().decode(errors="replace").strip().splitlines()
                process.wait()
                raise TemplateError(f"the template process failed: {lines[-1] if lines else 'it was killed'}")
        return cls(process, ours, Path(os.fsdecode(directory)))

    @property
    def is_usable(self) -> bool:
        """Whether this process started it, and it has not ended."""
        return os.getpid() == self._owner and self._process.poll() is None

    def call(
        self,
        work: Work[RequestT],
        request: RequestT,
        *,
        kind: str = "",
        subject: object = None,
        files: Sequence[int] = (),
        end_by: signal.Signals = signal.SIGTERM,
        clean: Callable[[], None] | None = None,
    ) -> ForkedProcess:
        """Have a forked process call a function.

        Args:
            work: a function of a module.
            request: its first argument, which must be picklable.
            kind: the kind of spare process that is for this call; the template forks one where there is none.
            subject: what the template learns from this call for later ones of the kind (`Spare.learn`), which must be
                picklable; None for nothing.
            files: the descriptors that become its standard input, output and error; /dev/null without them.
            end_by: the signal that it gets when the template ends.
            clean: called in another forked process when this one has ended in any way but by returning.

        Raises:
            TemplateEndedError: the template has ended.
            TemplateError: the template cannot start a process, or belongs to another process.
        """
        if os.getpid() != self._owner:
            raise TemplateError("the template belongs to the process that has forked this one")
        message = _message(kind, end_by, clean, subject)
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as failure:
            raise _refused(failure) from failure
        try:
            self._send(message, theirs, files, (work, request))
            report, descriptors, _, _ = socket.recv_fds(ours, _LONGEST_REPORT, 1)
        except (BrokenPipeError, ConnectionResetError) as failure:
            ours.close()
            raise self._ended() from failure
        except OSError as failure:
            ours.close()
            raise _refused(failure) from failure
        if descriptors:
            return ForkedProcess(int(report), descriptors[0], ours)
        ours.close()
        if report.isdigit():  # there was no descriptor for it left
            os.kill(int(report), end_by)
            raise _refused(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        raise TemplateError(report.decode(errors="replace")) if report else self._ended()

    def _send(
        self, message: bytes, channel: socket.socket, files: Sequence[int], call: tuple[Work[RequestT], RequestT]
    ) -> None:
        """Send a call, and close the channel, which the template has then.  OSError.

        The function and its argument go through a pipe, as they may be longer than a message.  If the template ends
        before it has read them, the missing answer shows that.
        """
        with channel:
            requests, pipe = os.pipe()
            stream = os.fdopen(pipe, "wb")
            try:
                socket.send_fds(self._control, [message], [channel.fileno(), requests, *files])
            except OSError:
                stream.close()
                raise
            finally:
                os.close(requests)
        with contextlib.suppress(BrokenPipeError), stream:
            pickle.dump(call, stream)

    def _ended(self) -> TemplateEndedError:
        """The error for a call of a template that has ended, which is not usable any more then."""
        self.close()
        return TemplateEndedError("the template process has ended")

    def close(self) -> None:
        """End all forked processes, and the template."""
        with self._closing:
            if os.getpid() != self._owner or self._process.returncode is not None:
                return
            self._control.close()
            try:
                self._process.wait(_LONGEST_END)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _forget(self) -> None:
        """In a process that has forked from the owner: the template is not its child."""
        if self._process.returncode is None:
            self._process.returncode = 0


def _message(kind: str, end_by: signal.Signals, clean: Callable[[], None] | None, subject: object) -> bytes:
    """What the template receives of a call; a subject for which a message has no room is left out."""
    message = pickle.dumps((kind, end_by, clean, subject))
    return message if len(message) <= LONGEST_MESSAGE else pickle.dumps((kind, end_by, clean, None))


def _refused(failure: OSError) -> TemplateError:
    """The error for a limit of the host that a call has met."""
    remedy = REMEDIES.get(failure.errno or 0)
    return TemplateError(f"cannot start a process: {failure.strerror}{f'; {remedy}' if remedy else ''}")
