"""The warm server of a user: it forks a process for each client, and ends it with the client.

The server itself reads nothing that a client sends but the signals of a terminal: the forked process does
(`warm.request`).  docs/reference/warm-server.md describes the protocol.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from attrs import define, frozen

from nvdimmfs.inherited_files import keep_open
from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.waiting_process import WaitingProcess, take, wait_for_message
from nvdimmfs.warm.endpoint import Endpoint
from nvdimmfs.warm.request import CODE_HAS_CHANGED, Answer, CommandLine, Server, begin, serve_client, status_report

#: Signals that end the server, once the commands that it carries out have ended.
_STOP_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

#: Signals that a client may send to the process group of its command, as a terminal does.
_GROUP_SIGNALS = frozenset(
    {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH, signal.SIGSTOP, signal.SIGCONT}
)

_LONGEST_MESSAGE = 4096

#: For how long nothing may happen before a spare process is forked, in milliseconds: when no client is being served,
#: and when one is, which the spare process would delay.
_QUIET = 2
_QUIET_WITH_CLIENTS = 500

#: The message that brings the spare process the sockets for a client.
_CLIENT = b"+"


@define(eq=False)
class _Session:
    """A client, and the process that acts for it.

    Attributes:
        reports: the other end of the control socket that the client has.
        process: the process id.
        pidfd: a descriptor of the process.
        answered: an event, which the process signals before it answers the client (eventfd(2)).
    """

    reports: socket.socket
    process: int
    pidfd: int
    answered: int

    @property
    def has_answered(self) -> bool:
        """Whether the process has answered the client, which ends then, or does so now."""
        poll = select.poll()
        poll.register(self.answered, select.POLLIN)
        return bool(poll.poll(0))


@frozen
class _Spare:
    """A process that waits for a client, and its event."""

    process: WaitingProcess
    answered: int


def serve(
    endpoint: Endpoint,
    command_line: CommandLine,
    idle: float,
    on_ready: Callable[[], None],
    prepare: Callable[[], None] = lambda: None,
) -> None:
    """Serve until a signal ends it, the code has changed, or no client has been there for a time.

    Args:
        endpoint: where clients connect; it is closed at the end.
        command_line: carries out a command line and returns the exit status; called in a forked process.
        idle: the time in seconds; 0 serves forever.
        on_ready: called once clients can connect.
        prepare: called in a process that is forked before there is a client for it.
    """
    loop = _Loop(endpoint, Server.of_this_process(command_line, prepare), idle)
    gc.collect()
    gc.freeze()
    on_ready()
    loop.run()


class _Loop:
    """Waits for clients, for their ends, and for those of the forked processes."""

    def __init__(self, endpoint: Endpoint, server: Server, idle: float) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        self._signals = libc.signal_descriptor(_STOP_SIGNALS)
        self._endpoint = endpoint
        self._is_listening = True
        self._server = server
        self._idle = idle
        self._quiet_since = time.monotonic()
        self._by_process: dict[int, _Session] = {}
        self._by_reports: dict[int, _Session] = {}
        self._spare: _Spare | None = None
        self._poll = select.poll()
        self._poll.register(self._signals, select.POLLIN)
        self._poll.register(endpoint.listener, select.POLLIN)

    def run(self) -> None:
        """Serve until there is nothing to wait for."""
        while self._is_listening or self._by_process:
            needs_spare = self._is_listening and self._spare is None
            quiet = _QUIET_WITH_CLIENTS if self._by_process else _QUIET
            ready = self._poll.poll(quiet if needs_spare else self._milliseconds_left())
            for descriptor, _ in ready:
                self._handle(descriptor)
            if ready:
                self._quiet_since = time.monotonic()
            elif needs_spare:
                self._fork_spare()
            elif self._milliseconds_left() == 0:
                self._stop()

    def _milliseconds_left(self) -> float | None:
        """Until the server has been idle for long enough; None while it is not idle, or may be forever."""
        if self._by_process or not self._idle:
            return None
        return max(0.0, self._quiet_since + self._idle - time.monotonic()) * 1000

    def _handle(self, descriptor: int) -> None:
        if descriptor == self._signals:
            libc.read_signals(self._signals)
            self._stop()
        elif session := self._by_process.get(descriptor):
            self._ended(session)
        elif session := self._by_reports.get(descriptor):
            self._receive(session)
        elif self._is_listening and descriptor == self._endpoint.listener.fileno():
            self._accept()
        elif self._spare is not None and descriptor == self._spare.process.pidfd:
            self._drop_spare()

    def _stop(self) -> None:
        """Accept no clients any more."""
        if self._is_listening:
            self._is_listening = False
            self._poll.unregister(self._endpoint.listener)
            self._endpoint.close()
            if self._spare is not None:
                self._drop_spare()

    def _accept(self) -> None:
        """Fork a process for a client.  Where that is not possible, the client gets no answer."""
        with contextlib.suppress(OSError):
            connection, _ = self._endpoint.listener.accept()
            with connection:
                control, reports = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                with control:  # the client gets it
                    self._fork(connection, control, reports)

    def _fork(self, connection: socket.socket, control: socket.socket, reports: socket.socket) -> None:
        try:
            session = self._used_spare(connection, control, reports) or self._forked(connection, control, reports)
        except OSError:
            reports.close()
            raise
        reports.setblocking(False)
        self._by_process[session.pidfd] = self._by_reports[reports.fileno()] = session
        self._poll.register(session.pidfd, select.POLLIN)
        self._poll.register(reports, select.POLLIN)

    def _forked(self, connection: socket.socket, control: socket.socket, reports: socket.socket) -> _Session:
        """Fork a process for a client."""
        with _event() as answered, _own_descriptor() as own:
            process = os.fork()
            if process == 0:
                begin()
                serve_client(self._server, connection, control, Answer(reports, answered), own)
            return _Session(reports, process, os.pidfd_open(process), answered)

    def _used_spare(self, connection: socket.socket, control: socket.socket, reports: socket.socket) -> _Session | None:
        """Hand a client to the spare process; None when there is none."""
        spare, self._spare = self._spare, None
        if spare is None:
            return None
        process = spare.process
        self._poll.unregister(process.pidfd)
        if not process.hand_over(_CLIENT, [each.fileno() for each in (connection, control, reports)]):
            os.close(spare.answered)
            return None
        process.messages.close()
        return _Session(reports, process.pid, process.pidfd, spare.answered)

    def _fork_spare(self) -> None:
        """Fork a process for the next client, which prepares while there is nothing to do.

        Where the host refuses a process, the next client is what fails.
        """
        self._server.code.watch_again()
        with contextlib.suppress(OSError), _event() as answered, _own_descriptor() as own:
            process = WaitingProcess.forked(lambda clients: _wait_for_client(self._server, clients, own, answered))
            self._spare = _Spare(process, answered)
            self._poll.register(process.pidfd, select.POLLIN)

    def _drop_spare(self) -> None:
        assert self._spare is not None, "the caller has looked"
        spare, self._spare = self._spare, None
        self._poll.unregister(spare.process.pidfd)
        spare.process.end()
        os.close(spare.answered)

    def _receive(self, session: _Session) -> None:
        """The client sends a signal, or has ended; a process that has not answered it is then killed."""
        try:
            message = session.reports.recv(_LONGEST_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        number = _signal_in(message)
        with contextlib.suppress(ProcessLookupError):
            if not message:
                self._forget_client(session)
                if not session.has_answered:
                    signal.pidfd_send_signal(session.pidfd, signal.SIGKILL)
            elif number in _GROUP_SIGNALS:
                os.killpg(session.process, number)

    def _forget_client(self, session: _Session) -> None:
        if self._by_reports.pop(session.reports.fileno(), None):
            self._poll.unregister(session.reports)
            session.reports.close()

    def _ended(self, session: _Session) -> None:
        """Report to a client how the process that acted for it has ended."""
        _, status = os.waitpid(session.process, 0)
        del self._by_process[session.pidfd]
        self._poll.unregister(session.pidfd)
        os.close(session.pidfd)
        if session.reports.fileno() in self._by_reports:
            if not session.has_answered:
                with contextlib.suppress(OSError):
                    session.reports.send(status_report(status))
            self._forget_client(session)
        os.close(session.answered)
        if status == CODE_HAS_CHANGED << 8 and self._server.code.has_changed():
            self._stop()


@contextlib.contextmanager
def _event() -> Iterator[int]:
    """An event (eventfd(2)), which is closed where the block fails."""
    event = os.eventfd(0, os.EFD_CLOEXEC)
    try:
        yield event
    except OSError:
        os.close(event)
        raise


@contextlib.contextmanager
def _own_descriptor() -> Iterator[int]:
    """A descriptor of this process (pidfd_open(2)), for those that it forks in the block."""
    own = os.pidfd_open(os.getpid())
    try:
        yield own
    finally:
        os.close(own)


def _wait_for_client(server: Server, clients: socket.socket, parent: int, answered: int) -> NoReturn:
    """In the spare process: prepare, and wait for a client.  This process ends when there is none."""
    try:
        begin()
        for descriptor in (*server.code.descriptors, answered):
            keep_open(descriptor)
        message, files = wait_for_message(clients, parent, server.rehearse)
        if message:
            take(clients)
            connection, control, reports = (socket.socket(fileno=file) for file in files)
            serve_client(server, connection, control, Answer(reports, answered), parent)
    finally:
        os._exit(1)


def _signal_in(message: bytes) -> int:
    """The number of the signal that a message asks for; 0 for any other message."""
    try:
        content = json.loads(message)
    except ValueError:
        return 0
    number = content.get("signal") if isinstance(content, dict) else 0
    return number if isinstance(number, int) else 0
