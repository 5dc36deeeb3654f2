"""What a process that the warm server has forked does for its client: it becomes what the client would have become.

It compares the client with itself (`warm.likeness`).  Where they differ, it refuses, and the client works itself.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import BinaryIO, NoReturn, cast

from attrs import define, frozen

from nvdimmfs.inherited_files import STANDARD_FILES, close_files_except
from nvdimmfs.sandbox import front, libc, signals
from nvdimmfs.warm.client import COMMANDS, PROTOCOL, interpreter
from nvdimmfs.warm.code import Code
from nvdimmfs.warm.likeness import Likeness

log = logging.getLogger(__name__)

#: Carries out a command line without the program's name, and returns the exit status.
CommandLine = Callable[[list[str]], int]

#: The exit status by which the server learns that its code has changed.
CODE_HAS_CHANGED = 70

#: How long a client may take for its next message, in seconds.
_LONGEST_MESSAGE_TIME = 5.0

_LONGEST_MESSAGE = 4096

#: A request comes with the file that has its text, the standard files and the working directory.
_FILES = 5

_LONGEST_TEXT = 1 << 24

#: struct ucred (unix(7)).
_CREDENTIALS = struct.Struct("=3i")

#: Environment variables that change the interpreter, or the texts of the C library, which read them when they start.
_FOR_INTERPRETER = ("PYTHON", "LC_", "LANG", "LD_", "GLIBC_", "MALLOC_")

#: Signals that Python ignores.
_IGNORED_BY_PYTHON = frozenset({signal.SIGPIPE, signal.SIGXFSZ})


class RefusalError(Exception):
    """The server does not act for a client; the message is the reason."""


@frozen
class Server:
    """What a server knows of itself.

    Attributes:
        command_line: carries out a command line.
        prepare: uses what a command line uses, without an effect.
        likeness: what it is like.
        code: the files of its code.
        interpreter: as in a request.
        environment: the environment variables that its interpreter has read.
    """

    command_line: CommandLine
    prepare: Callable[[], None]
    likeness: Likeness
    code: Code
    interpreter: str
    environment: Mapping[str, str]

    @classmethod
    def of_this_process(cls, command_line: CommandLine, prepare: Callable[[], None] = lambda: None) -> Server:
        """The server that this process is."""
        return cls(
            command_line, prepare, _own_likeness(), Code.of_this_process(), interpreter(), _for_interpreter(os.environ)
        )

    def rehearse(self) -> None:
        """Do what every client needs, without one and without an effect, in a process that has just been forked.

        It becomes what it is already: what that writes to, the kernel has then copied for this process.
        """
        self.prepare()
        request = _own_request()
        _compare_programs(self, request)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        _become(request, _own_likeness())
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _own_likeness() -> Likeness:
    process = os.open("/proc/self", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return Likeness.of(process)
    finally:
        os.close(process)


@frozen
class _Request:
    """The content of a request.

    Attributes:
        arguments: the command line without the program's name.
        environment: the environment variables.
        codecs: encoding and error handler of standard input, output and error.
        text: what has to be the same as the server's `interpreter`.
    """

    arguments: list[str]
    environment: dict[str, str]
    codecs: list[tuple[str, str]]
    interpreter: str

    @classmethod
    def read(cls, file: int) -> _Request:
        """Read a request from a file.  RefusalError when it is none."""
        try:
            content = json.loads(os.pread(file, _LONGEST_TEXT, 0))
            return cls(
                [*map(_text, content["arguments"])],
                {_text(name): _text(value) for name, value in content["environment"].items()},
                [_codec(content["codecs"][number]) for number in STANDARD_FILES],
                _text(content["interpreter"]),
            )
        except (AttributeError, IndexError, KeyError, OSError, TypeError, ValueError) as failure:
            raise RefusalError(f"the request cannot be read: {type(failure).__name__}") from None


def _own_request() -> _Request:
    """A request that this process might make."""
    content = {
        "arguments": COMMANDS[:1],
        "environment": dict(os.environ),
        "interpreter": interpreter(),
        "codecs": ["utf-8:strict"] * len(STANDARD_FILES),
    }
    file = os.memfd_create("request")
    try:
        os.write(file, json.dumps(content).encode())
        return _Request.read(file)
    finally:
        os.close(file)


def begin() -> None:
    """In a process that has just been forked for a client: begin a session, and one of the user's keys."""
    os.setsid()
    with contextlib.suppress(OSError):  # the kernel has no keys, or a container may not use them
        libc.possess_user_keyring()


@define(eq=False)
class Answer:
    """A process's answer to its client: the wait(2) status of the command line.

    It is given before the process ends: a thread that waits for a file system that never answers would keep it from
    ending.  If it is killed before, the server answers.

    Attributes:
        reports: the socket to the client.
        event: signalled before (eventfd(2)), so that the server does not kill the process when the client ends.
    """

    reports: socket.socket
    event: int
    _is_given: bool = False

    def give(self, status: int) -> None:
        """Give it; nothing happens twice."""
        if self._is_given:
            return
        self._is_given = True
        for file in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                file.flush()
        os.eventfd_write(self.event, 1)
        with contextlib.suppress(OSError):  # the client has ended, or was refused
            self.reports.send(status_report(status))

    @property
    def descriptors(self) -> tuple[int, int]:
        """Its files."""
        return self.reports.fileno(), self.event


def serve_client(
    server: Server, connection: socket.socket, control: socket.socket, answer: Answer, parent: int
) -> NoReturn:
    """In the forked process: carry out a client's command line, or refuse.

    Args:
        server: the process that has forked this one.
        connection: to the client.
        control: the socket that the client gets.
        answer: the answer to it, on the other end of that.
        parent: a descriptor of the server's process (pidfd_open(2)).
    """
    status = 1
    try:
        libc.die_with_parent(signal.SIGKILL, os.dup(parent))
        close_files_except(connection.fileno(), control.fileno(), *answer.descriptors, *server.code.descriptors)
        signals.stand_for_terminal(os.getppid())
        front.act_for_front(answer.give)
        try:
            client = _Client.compared(server, connection)
        except RefusalError as refusal:
            with contextlib.suppress(OSError):
                connection.send(json.dumps({"refused": str(refusal)}).encode())
            os._exit(CODE_HAS_CHANGED if server.code.has_changed() else 0)
        if client.accept(server, connection, control):
            connection.close()
            client.impersonate()
            status = server.command_line(client.request.arguments)
    except BaseException:
        log.exception("a bug in nvdimmfs")
    finally:
        try:
            answer.give(status << 8)
        finally:
            os._exit(status)


def status_report(status: int) -> bytes:
    """The message by which a client learns the wait(2) status of its command line."""
    return json.dumps({"status": status}).encode()


@frozen
class _Client:
    """A client that has been compared with the server.

    Attributes:
        request: what it asks for.
        files: its standard files and its working directory.
        process: its process id, as the kernel reports it.
        directory: its directory in /proc, open.
        likeness: what it is like.
    """

    request: _Request
    files: list[int]
    process: int
    directory: int
    likeness: Likeness

    @classmethod
    def compared(cls, server: Server, connection: socket.socket) -> _Client:
        """Receive a request.  RefusalError unless the client is like the server."""
        connection.settimeout(_LONGEST_MESSAGE_TIME)
        try:
            message, files, process = _receive(connection)
            if message != {"request": PROTOCOL} or len(files) != _FILES:
                raise RefusalError("the message is no request of this protocol")
            request = _Request.read(files[0])
            _compare_programs(server, request)
            directory = os.open(f"/proc/{process}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            likeness = Likeness.of(directory)
        except (OSError, ValueError) as failure:
            raise RefusalError(f"the client cannot be compared: {failure}") from None
        if difference := server.likeness.difference(likeness):
            raise RefusalError(f"{difference} of the client differs from the server's")
        return cls(request, files[1:], process, directory, likeness)

    def accept(self, server: Server, connection: socket.socket, control: socket.socket) -> bool:
        """Report to the client that this process is ready; whether to go on.

        The client's process id may have become that of another process before its directory in /proc was opened.  So
        the client sends a second message, and the directory is read again after that.  From then on the client does
        not do its work itself.
        """
        own = os.pidfd_open(os.getpid())
        with contextlib.suppress(OSError):  # the client has ended
            socket.send_fds(connection, [b'{"accepted": true}'], [own, control.fileno()])
        os.close(own)
        control.close()
        reason = "its message is not what it should be"
        try:
            message, _, sender = _receive(connection)
            if not message:
                return False  # the client has given up
            if message == {"go": True} and sender == self.process:
                reason = server.likeness.difference(Likeness.of(self.directory))
        except (OSError, ValueError) as failure:
            reason = str(failure)
        os.close(self.directory)
        if reason:
            os.write(self.files[2], f"nvdimmfs: the warm server does not trust its client: {reason}\n".encode())
        return not reason

    def impersonate(self) -> None:
        """Make this process what the client is."""
        *standard, directory = self.files
        for number, file in enumerate(standard):
            os.dup2(file, number)
        os.fchdir(directory)
        for file in self.files:
            os.close(file)
        _become(self.request, self.likeness)
        logging.getLogger().handlers[:] = []


def _become(request: _Request, likeness: Likeness) -> None:
    """Take on what a process was given when it was started, but for its files."""
    os.umask(likeness.umask)
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    tempfile.tempdir = None
    _set_signals(likeness.ignored_signals)
    _open_standard_files(request.codecs)


def _compare_programs(server: Server, request: _Request) -> None:
    """RefusalError when the client is not the program that the server is, or asks for something else."""
    if request.interpreter != server.interpreter:
        raise RefusalError("the interpreter, its settings or the program are others")
    if _for_interpreter(request.environment) != server.environment:
        raise RefusalError("the environment of the interpreter is another")
    if request.arguments[:1] not in [[command] for command in COMMANDS]:
        raise RefusalError("the command is none that a server carries out")
    if server.code.has_changed():
        raise RefusalError("the code has changed since the server was started")


def _receive(connection: socket.socket) -> tuple[object, list[int], int]:
    """Receive a message: its content, its files and the process id of its sender; nothing when the client has ended.

    OSError or ValueError for what is no message of this user.
    """
    space = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4 * _FILES)
    message, ancillary, _, _ = connection.recvmsg(_LONGEST_MESSAGE, space, socket.MSG_CMSG_CLOEXEC)
    files: list[int] = []
    sender = 0
    for _, kind, data in ancillary:
        if kind == socket.SCM_RIGHTS:
            files = [number for (number,) in struct.iter_unpack("=i", data)]
        elif kind == socket.SCM_CREDENTIALS:
            sender, user, _ = _CREDENTIALS.unpack(data)
            if user != os.geteuid():
                raise ValueError("it belongs to another user")
    return json.loads(message) if message else None, files, sender


def _open_standard_files(codecs: list[tuple[str, str]]) -> None:
    """Replace Python's objects for standard input, output and error, which the server has opened for its own."""
    is_unbuffered = isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.write_through  # by PYTHONUNBUFFERED
    sys.stdin, sys.stdout, sys.stderr = (
        _standard_file(number, *codec, is_unbuffered=is_unbuffered and number > 0)
        for number, codec in zip(STANDARD_FILES, codecs, strict=True)
    )


def _standard_file(number: int, encoding: str, errors: str, *, is_unbuffered: bool) -> io.TextIOWrapper:
    mode, buffering = "wb" if number else "rb", 0 if is_unbuffered else -1
    binary = cast("BinaryIO", open(number, mode, buffering, closefd=False))  # noqa: SIM115  # stays open
    by_line = number == STANDARD_FILES[-1] or os.isatty(number)
    return io.TextIOWrapper(binary, encoding, errors, line_buffering=by_line, write_through=is_unbuffered)


def _set_signals(ignored: set[int]) -> None:
    """Ignore the signals that the client ignores, and treat the others as a new interpreter does."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if number in _IGNORED_BY_PYTHON or number in ignored:
            signal.signal(number, signal.SIG_IGN)
        else:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _for_interpreter(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_FOR_INTERPRETER)}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _codec(value: object) -> tuple[str, str]:
    encoding, _, errors = _text(value).partition(":")
    return encoding, errors
