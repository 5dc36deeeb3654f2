"""Starting the command: the first process of its own namespace of process ids, and the command as its child.

When the first process ends, the kernel ends whatever the command has left behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from attrs import frozen

from nvdimmfs.sandbox import seccomp, syscalls
from nvdimmfs.sandbox.errors import SandboxError

#: Files of /proc that the machine has its own of.
MACHINE_FILES = ("iomem", "zoneinfo", "modules", "partitions")

#: How the new processes report over a socket: one goes on (with a descriptor), or it failed; an errno and words follow.
_GOES_ON = b"+"
_FAILED = struct.Struct("=ci")
_FAILED_MARK = b"-"
_LONGEST_REPORT = 4096

#: How the first process reports that the command has ended: its wait status.
_ENDED = struct.Struct("=i")

#: struct ucred (unix(7)).
_CREDENTIALS = struct.Struct("=3i")

#: Signals that the command gets when its supervisor gets them, which has them blocked.
PASSED_ON = (
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

#: Signals that Python ignores and a command does not.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)

#: What a shell reports when there is no such command, and when it may not be run (POSIX, 2.8.2).
NOT_FOUND = 127
NOT_EXECUTABLE = 126


@frozen
class RunningCommand:
    """The command, as its supervisor knows it.

    Attributes:
        init: the process id of the first process.
        process: a descriptor of the command itself (pidfd_open(2)).
        listener: hears of its filtered system calls.
        reports: reads how it ended.
    """

    init: int
    process: int
    listener: seccomp.Listener
    reports: int

    def send(self, number: int) -> None:
        """Send the command a signal."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.process, number)

    def ending(self) -> int | None:
        """How it ended, as wait(2) tells; None when that is not known: it was killed from outside."""
        report = os.read(self.reports, _ENDED.size)
        return int(_ENDED.unpack(report)[0]) if len(report) == _ENDED.size else None


def start(argv: Sequence[str], machine: Path, directory: Path) -> RunningCommand:
    """Start a command in this process's namespaces; the next child must be the first of a namespace of process ids.

    Args:
        argv: the command and its arguments.
        machine: the machine's mount.
        directory: where it starts.

    Raises:
        SandboxError: it cannot be started; `status` says what a shell would return.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    reports, report = os.pipe()
    supervisor = os.pidfd_open(os.getpid())
    init = os.fork()
    if init == 0:
        _be_first_process(argv, machine, directory, theirs, report, supervisor)
    os.close(supervisor)
    theirs.close()
    os.close(report)
    with ours:
        return _started(init, argv[0], ours, reports)


def _started(init: int, name: str, socket_: socket.socket, reports: int) -> RunningCommand:
    room = socket.CMSG_SPACE(4) + socket.CMSG_SPACE(_CREDENTIALS.size)
    message, ancillary, _, _ = socket_.recvmsg(_LONGEST_REPORT, room, socket.MSG_CMSG_CLOEXEC)
    if message != _GOES_ON:
        raise _failure(name, message)
    received = {kind: data for _, kind, data in ancillary}
    (listener,) = struct.unpack("=i", received[socket.SCM_RIGHTS])
    process, _, _ = _CREDENTIALS.unpack(received[socket.SCM_CREDENTIALS])
    # It waits until its process is held by a descriptor, so that the id is still its own.
    running = RunningCommand(init, os.pidfd_open(process), seccomp.Listener(listener), reports)
    socket_.send(_GOES_ON)
    failure = socket_.recv(_LONGEST_REPORT)
    if failure:
        raise _failure(name, failure)
    return running


def _failure(name: str, report: bytes) -> CommandNotStartedError:
    if not report:
        return CommandNotStartedError(f"cannot run {name}: its process was killed")
    _, number = _FAILED.unpack_from(report)
    status = NOT_FOUND if number == errno.ENOENT else NOT_EXECUTABLE
    return CommandNotStartedError(f"cannot run {name}: {report[_FAILED.size :].decode(errors='replace')}", status)


class CommandNotStartedError(SandboxError):
    """The command could not be started.

    Attributes:
        status: what a shell would return.
    """

    def __init__(self, message: str, status: int = NOT_EXECUTABLE) -> None:
        super().__init__(message)
        self.status = status


def _be_first_process(
    argv: Sequence[str], machine: Path, directory: Path, socket_: socket.socket, report: int, supervisor: int
) -> NoReturn:
    """In the first process: start the command, reap what loses its parent, end when the command ends."""
    try:
        syscalls.die_with_parent(signal.SIGKILL, supervisor)
        _forget_signals()
        _show_processes(machine)
        command = os.fork()
        if command == 0:
            _be_command(argv, directory, socket_)
        socket_.close()
        while True:
            process, status = os.wait()
            if process == command:
                os.write(report, _ENDED.pack(status))
                break
    except Exception as failure:
        _report(socket_, 0, f"{type(failure).__name__}: {failure}")
    finally:
        os._exit(0)


def _report(socket_: socket.socket, number: int, words: str) -> None:
    with contextlib.suppress(OSError):
        socket_.send(_FAILED.pack(_FAILED_MARK, number) + words.encode(errors="replace")[: _LONGEST_REPORT // 2])


def _forget_signals() -> None:
    """Have no handlers, as after execve(2); the first process of a namespace then ignores what others send it."""
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)) or number in _IGNORED_BY_PYTHON:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)


def _show_processes(machine: Path) -> None:
    """A /proc of the new processes, unless the host's is covered in part: then its processes stay visible."""
    with contextlib.suppress(PermissionError):
        syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    for name in MACHINE_FILES:
        source, target = machine / "proc" / name, Path("/proc", name)
        if source.exists() and target.exists():  # a kernel without modules has no list of them
            syscalls.bind(source, target)


def _be_command(argv: Sequence[str], directory: Path, socket_: socket.socket) -> NoReturn:
    """In the command's process: filter, tell the supervisor, become the command."""
    try:
        listener = seccomp.install_filter()
        socket.send_fds(socket_, [_GOES_ON], [listener])
        os.close(listener)
        socket_.recv(len(_GOES_ON))
        with contextlib.suppress(OSError):
            os.chdir(directory)
        os.execvp(argv[0], list(argv))  # noqa: S606  # what was asked for
    except OSError as failure:
        _report(socket_, failure.errno or 0, failure.strerror or str(failure))
    finally:
        os._exit(NOT_FOUND)
