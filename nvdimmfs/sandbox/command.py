"""Starting the command: init, which is process 1 of a new PID namespace, and the command as its child.

When init exits, the kernel kills every process that the command has left running.  The filter of system calls is init's
as well: it makes none of the calls that are filtered.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shlex
import signal
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Self

from attrs import frozen

from nvdimmfs.inherited_files import STANDARD_FILES, close_files_except
from nvdimmfs.sandbox import libc, namespaces, seccomp
from nvdimmfs.sandbox.early_process import EarlyProcesses
from nvdimmfs.sandbox.errors import NOT_EXECUTABLE, NOT_FOUND, SandboxError, step
from nvdimmfs.sandbox.signals import FORWARDED_SIGNALS
from nvdimmfs.sandbox.thread_file import shows_inode_numbers

log = logging.getLogger(__name__)

#: How long to wait for the end of the processes that init's end has killed, in seconds.
_LONGEST_END = 5.0

#: Files of /proc that the machine has its own of.
MACHINE_FILES = ("iomem", "zoneinfo", "meminfo", "buddyinfo", "modules", "partitions", "diskstats")

#: Reports of the new processes over a socket: a step succeeded (with a descriptor), or failed; an errno and a message
#: follow the latter.
_SUCCEEDED = b"+"
_FAILED = struct.Struct("=ci")
_FAILED_MARK = b"-"
_LONGEST_REPORT = 4096

#: init's report that the command has ended: its wait status.
_ENDED = struct.Struct("=i")

#: Signals that Python ignores; a command must start with their default action.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


@frozen
class RunningCommand:
    """The started command, as the supervisor sees it.

    Attributes:
        init: the process id of init.
        process: a descriptor of the command itself (pidfd_open(2)).
        listener: receives notifications of its filtered system calls.
        reports: the pipe from which to read its wait status.
    """

    init: int
    process: int
    listener: seccomp.NotificationListener
    reports: int

    def wait_status(self) -> int | None:
        """The command's wait(2) status; None when init was killed from outside before it could report one."""
        report = os.read(self.reports, _ENDED.size)
        return int(_ENDED.unpack(report)[0]) if len(report) == _ENDED.size else None

    def wait_for_init(self) -> None:
        """Wait until init has ended and with it, all processes of its PID namespace.

        One that waits for a file system which never answers never ends.  It is then left to the kernel.
        """
        init = os.pidfd_open(self.init)
        try:
            has_ended = libc.has_ended(init, _LONGEST_END)
        finally:
            os.close(init)
        if has_ended:
            os.waitpid(self.init, 0)
        else:
            log.warning("a process of the command does not end: it waits for a file system that does not answer")


class StartingCommand:
    """init, which waits before it executes the command.

    As a context manager it kills init at the end, unless the command was executed.
    """

    def __init__(self, init: int, name: str, channel: socket.socket, reports: int) -> None:
        self._init = init
        self._name = name
        self._channel = channel
        self._reports = reports
        self._listener = -1
        self._is_running = False

    def wait_until_ready(self) -> None:
        """Wait until /proc is set up and the filter installed, and receive its listener.

        Raises:
            SandboxError: the command cannot be started; `status` is the exit status that a shell would return.
        """
        (self._listener,) = self._receive()

    def execute(self) -> RunningCommand:
        """Have init execute the command, and wait for its execve(2).  SandboxError as `wait_until_ready`."""
        self._channel.send(_SUCCEEDED)
        (process,) = self._receive()
        self._is_running = True
        return RunningCommand(self._init, process, seccomp.NotificationListener(self._listener), self._reports)

    def _receive(self) -> list[int]:
        """Receive the report of a step that succeeded: a descriptor."""
        message, descriptors, _, _ = socket.recv_fds(self._channel, _LONGEST_REPORT, 1)
        if message != _SUCCEEDED:
            raise _failure(self._name, message)
        return descriptors

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        if not self._is_running:
            os.kill(self._init, signal.SIGKILL)
            os.waitpid(self._init, 0)


@frozen
class _Order:
    """What init executes.

    Attributes:
        argv: the command and its arguments.
        machine: the machine's mount.
        directory: the command's working directory.
        umask: its umask; that of the supervisor is the sandbox's.
    """

    argv: Sequence[str]
    machine: Path
    directory: Path
    umask: int


@frozen
class _LateOrder:
    """What an init gets that was forked before there was a sandbox.

    Attributes:
        order: what it executes.
        supervisor: the supervisor's process id.
        kinds: the kinds of namespaces to join.
    """

    order: _Order
    supervisor: int
    kinds: int


_prepared = EarlyProcesses[_LateOrder]()


def prepare_init() -> None:
    """Fork init of the sandbox that this process builds next, where it will be able to join it.

    OSError or SandboxError.  Nothing happens where the PID namespace has to belong to a user namespace of the sandbox.
    """
    if namespaces.is_privileged() and namespaces.can_be_joined():
        with namespaces.new_pid_namespace():
            _prepared.fork(_join_sandbox)


def start(argv: Sequence[str], machine: Path, directory: Path, umask: int, kinds: int) -> StartingCommand:
    """Start init, which executes the command later.  SandboxError.

    From now on /proc does not show this process.

    Args:
        argv: the command and its arguments.
        machine: the machine's mount.
        directory: the command's working directory.
        umask: its umask.
        kinds: the kinds of namespaces that this process has entered.
    """
    order = _Order(argv, machine, directory, umask)
    with step("start the command's processes"):
        reports, report = os.pipe()
        supervisor = os.pidfd_open(os.getpid())
        init, channel = _hand_over(order, kinds, report, supervisor) or _forked(order, report, supervisor)
    os.close(supervisor)
    os.close(report)
    return StartingCommand(init, argv[0], channel, reports)


def _hand_over(order: _Order, kinds: int, report: int, supervisor: int) -> tuple[int, socket.socket] | None:
    """Have an init that was prepared start the command; None when there is none.  Returns its id, and a socket."""
    init = _prepared.hand_over(_LateOrder(order, os.getpid(), kinds), (report, supervisor))
    if init is not None:
        _have_namespace_of(init[0])
    return init


def _have_namespace_of(init: int) -> None:
    """Have this process's next child be in the PID namespace of an init: `OpenNodes` knows the sandbox by that."""
    pidfd = os.pidfd_open(init)
    try:
        libc.setns(pidfd, libc.CLONE_NEWPID)
    finally:
        os.close(pidfd)


def _forked(order: _Order, report: int, supervisor: int) -> tuple[int, socket.socket]:
    """Fork an init that starts the command.  Returns its process id, and a socket.  OSError or SandboxError."""
    namespaces.unshare_pid_namespace()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    init = os.fork()
    if init == 0:
        _run_init(order, theirs, report, supervisor)
    theirs.close()
    return init, ours


def _join_sandbox(late: _LateOrder, files: list[int], messages: socket.socket) -> NoReturn:
    """In an init that was prepared: join the sandbox."""
    report, supervisor = files
    try:
        namespaces.join(late.supervisor, supervisor, late.kinds)
    except OSError as failure:
        _report_failure(messages, failure.errno or 0, str(failure.strerror or failure))
        os._exit(0)
    _run_init(late.order, messages, report, supervisor)


def _failure(name: str, report: bytes) -> SandboxError:
    shown = shlex.quote(name)
    if not report:
        return SandboxError(f"cannot run {shown}: its process was killed", NOT_EXECUTABLE)
    _, number = _FAILED.unpack_from(report)
    line = f"cannot run {shown}: {report[_FAILED.size :].decode(errors='replace')}"
    if number != errno.ENOENT:
        return SandboxError(line, NOT_EXECUTABLE)
    return SandboxError(f"{line}; a shell runs a line: sh -c {shown}" if " " in name else line, NOT_FOUND)


def _run_init(order: _Order, socket_: socket.socket, report: int, supervisor: int) -> NoReturn:
    """In init: set up /proc and the filter, execute the command, reap orphans, and exit when the command has ended."""
    try:
        libc.die_with_parent(signal.SIGKILL, supervisor)
        # Otherwise init would hold the loop devices of disks that are gone.
        close_files_except(*STANDARD_FILES, socket_.fileno(), report)
        _reset_signals()
        _mount_proc(order.machine)
        listener = _install_filter()
        socket.send_fds(socket_, [_SUCCEEDED], [listener])
        os.close(listener)
        socket_.recv(len(_SUCCEEDED))
        os.umask(order.umask)
        command = _execute(order.argv, order.directory)
        process = os.pidfd_open(command)  # nothing has waited for it, so the process id is still its own
        socket.send_fds(socket_, [_SUCCEEDED], [process])
        os.close(process)
        socket_.close()
        while True:
            process, status = os.wait()
            if process == command:
                os.write(report, _ENDED.pack(status))
                break
    except OSError as failure:
        _report_failure(socket_, failure.errno or 0, str(failure.strerror or failure))
    except Exception as failure:
        _report_failure(socket_, 0, f"{type(failure).__name__}: {failure}")
    finally:
        os._exit(0)


def _report_failure(socket_: socket.socket, number: int, message: str) -> None:
    with contextlib.suppress(OSError):
        socket_.send(_FAILED.pack(_FAILED_MARK, number) + message.encode(errors="replace")[: _LONGEST_REPORT // 2])


def _reset_signals() -> None:
    """Restore the default actions, as execve(2) does.

    The kernel then drops signals that other processes of the PID namespace send to init.
    """
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)) or number in _IGNORED_BY_PYTHON:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED_SIGNALS)


def _mount_proc(machine: Path) -> None:
    """Mount a /proc of the new PID namespace, and the machine's files over its own.

    Where parts of the host's /proc are masked the kernel refuses that mount; then the host's processes stay visible.
    """
    with contextlib.suppress(PermissionError):
        libc.mount("proc", "/proc", "proc", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)
    for name in MACHINE_FILES:
        source, target = machine / "proc" / name, Path("/proc", name)
        if source.exists() and target.exists():  # a kernel without modules has no /proc/modules
            libc.bind_mount(source, target)


def _install_filter() -> int:
    """Install the filter; an OSError has the reason and the remedy."""
    if not (seccomp.is_available() and shows_inode_numbers()):
        raise OSError(
            errno.ENOSYS, "this kernel does not let nvdimmfs answer ioctls; use Linux 5.14 or newer, built with seccomp"
        )
    try:
        return seccomp.install_filter()
    except OSError as failure:
        if failure.errno == errno.EBUSY:
            reason = "a surrounding sandbox answers its system calls already; leave that sandbox"
        else:
            reason = (
                f"its system calls cannot be filtered: {failure.strerror}; "
                "start the container with `--security-opt seccomp=unconfined`"
            )
        raise OSError(failure.errno, reason) from failure


def _execute(argv: Sequence[str], directory: Path) -> int:
    """In init: execute the command in a child, and return its process id.  OSError when that is not possible.

    posix_spawn(3) uses vfork(2): a copy of this process would take as long as all that init does.  All other files of
    this process close when a program is executed.
    """
    with contextlib.suppress(OSError):
        os.chdir(directory)
    return os.posix_spawnp(argv[0], list(argv), os.environ)
