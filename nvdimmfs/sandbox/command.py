"""Starting the command: the first process of its own namespace of process ids, and the command as its child.

When the first process ends, the kernel ends whatever the command has left behind.
"""

from __future__ import annotations

import contextlib
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
MACHINE_FILES = ("iomem", "zoneinfo", "modules")

#: How the command's child reports: it runs, it could not be started and why, it ended and how.
_STARTED = b"s"
_FAILED = struct.Struct("=ci")
_ENDED = struct.Struct("=ci")

#: struct ucred (unix(7)).
_CREDENTIALS = struct.Struct("=3i")

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
        return _ENDED.unpack(report)[1] if len(report) == _ENDED.size else None


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
    init = os.fork()
    if init == 0:
        _be_first_process(argv, machine, directory, theirs, report)
    theirs.close()
    os.close(report)
    with ours:
        return _started(init, argv[0], ours, reports)


def _started(init: int, name: str, socket_: socket.socket, reports: int) -> RunningCommand:
    room = socket.CMSG_SPACE(4) + socket.CMSG_SPACE(_CREDENTIALS.size)
    message, ancillary, _, _ = socket_.recvmsg(_FAILED.size, room, socket.MSG_CMSG_CLOEXEC)
    if message != _STARTED:
        number = _FAILED.unpack(message)[1] if message else 0
        raise CommandNotStartedError(name, number)
    received = {kind: data for _, kind, data in ancillary}
    (listener,) = struct.unpack("=i", received[socket.SCM_RIGHTS])
    process, _, _ = _CREDENTIALS.unpack(received[socket.SCM_CREDENTIALS])
    # It waits until its process is held by a descriptor, so that the id is still its own.
    running = RunningCommand(init, os.pidfd_open(process), seccomp.Listener(listener), reports)
    socket_.send(_STARTED)
    failure = socket_.recv(_FAILED.size)
    if failure:
        raise CommandNotStartedError(name, _FAILED.unpack(failure)[1])
    return running


class CommandNotStartedError(SandboxError):
    """The command could not be started.

    Attributes:
        status: what a shell would return.
    """

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"cannot run {name}: {os.strerror(number) if number else 'its process was killed'}")
        self.status = NOT_FOUND if number == 2 else NOT_EXECUTABLE


def _be_first_process(
    argv: Sequence[str], machine: Path, directory: Path, socket_: socket.socket, report: int
) -> NoReturn:
    """In the first process: start the command, reap what loses its parent, end when the command ends."""
    try:
        syscalls.die_with_parent(signal.SIGKILL)
        _forget_signals()
        _show_processes(machine)
        command = os.fork()
        if command == 0:
            _be_command(argv, directory, socket_)
        socket_.close()
        while True:
            process, status = os.wait()
            if process == command:
                os.write(report, _ENDED.pack(b"e", status))
                break
    finally:
        os._exit(0)


def _forget_signals() -> None:
    """Have no handlers, as after execve(2); the first process of a namespace then ignores what others send it."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)) or number in _IGNORED_BY_PYTHON:
            signal.signal(number, signal.SIG_DFL)


def _show_processes(machine: Path) -> None:
    """A /proc of the new processes, unless the host's is covered in part: then its processes stay visible."""
    with contextlib.suppress(PermissionError):
        syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    for name in MACHINE_FILES:
        source = machine / "proc" / name
        if source.exists():
            syscalls.bind(source, f"/proc/{name}")


def _be_command(argv: Sequence[str], directory: Path, socket_: socket.socket) -> NoReturn:
    """In the command's process: filter, tell the supervisor, become the command."""
    try:
        listener = seccomp.install_filter()
        socket.send_fds(socket_, [_STARTED], [listener])
        os.close(listener)
        socket_.recv(len(_STARTED))
        with contextlib.suppress(OSError):
            os.chdir(directory)
        os.execvp(argv[0], list(argv))  # noqa: S606  # what was asked for
    except OSError as failure:
        socket_.send(_FAILED.pack(b"f", failure.errno or 0))
    finally:
        os._exit(NOT_FOUND)
