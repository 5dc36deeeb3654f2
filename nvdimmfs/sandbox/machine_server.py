"""The sandbox's server: the process that builds the machine and serves its mount.

It starts before there is a sandbox: it loads its modules and builds the machine while the supervisor sets the sandbox
up.  Then it joins the supervisor's namespaces, and mounts the machine there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
from collections.abc import Callable, Collection
from typing import BinaryIO, NoReturn, Self, TypeAlias

from attrs import frozen

from nvdimmfs.errors import FAILED, PERHAPS_MEMORY
from nvdimmfs.formats import control
from nvdimmfs.inherited_files import STANDARD_FILES, close_files_except
from nvdimmfs.sandbox import libc, namespaces
from nvdimmfs.sandbox.early_process import EarlyProcesses
from nvdimmfs.sandbox.errors import SandboxError, step


@frozen
class Built:
    """What the supervisor has to know of a machine before its mount answers.

    Attributes:
        modules: the names of the modules that it can load.
        listed: what its directories contain.
    """

    modules: tuple[str, ...]
    listed: control.Listed

    def encode(self) -> bytes:
        """Two lines."""
        return b"".join((" ".join(self.modules).encode(), b"\n", control.encode(self.listed), b"\n"))

    @classmethod
    def decode(cls, modules: bytes, listed: bytes) -> Self:
        """From these lines."""
        message = control.decode(listed)
        assert isinstance(message, control.Listed), message
        return cls(tuple(modules.decode().split()), message)


#: Builds a machine, calls its first argument before it mounts it, and its second one once the mount answers; then
#: serves until SIGTERM.
Serve: TypeAlias = Callable[[Callable[[Built], None], Callable[[], None]], None]

#: The server's reports that the machine is built, which `Built` follows, and that the mount answers.  Any other report
#: is the exit status that a failure leads to, and a message.
_BUILT = b"="
_READY = b"+"
_FAILED = struct.Struct("=B")

#: The message that lets the server mount the machine: the kinds of namespaces to join.
_ADMISSION = struct.Struct("=i")


class MachineServer:
    """The server, seen from the supervisor.  As a context manager it stops the server at the end.

    Args:
        serve: what the server does.
        keep: further descriptors that stay open in the server.
    """

    def __init__(self, serve: Serve, keep: Collection[int] = ()) -> None:
        self._serve = serve
        self._keep = keep
        self._process = 0
        self._admissions = -1
        self._reports: BinaryIO | None = None
        self._is_ready = False

    @property
    def process(self) -> int:
        """Its process id; 0 when it does not run."""
        return self._process

    def start_early(self) -> None:
        """Start it before there is a sandbox, where it will be able to join one.  SandboxError as `admit`."""
        if namespaces.can_be_joined():
            self._start()

    def admit(self, kinds: int) -> None:
        """Let it mount the machine.  SandboxError where a limit of the host forbids to start it.

        Args:
            kinds: those of the namespaces that this process has entered since the server was started early.
        """
        if not self._process:
            self._start()
            kinds = 0
        with contextlib.suppress(BrokenPipeError):  # it has ended, as `wait_until_ready` finds
            os.write(self._admissions, _ADMISSION.pack(kinds))

    def wait_until_built(self) -> Built:
        """Wait until the machine is built.  SandboxError when it cannot be."""
        assert self._reports is not None, "it was started"
        received = self._reports.readline()
        if not received.startswith(_BUILT):
            raise _failure(received + self._reports.read())
        return Built.decode(received.removeprefix(_BUILT), self._reports.readline())

    def wait_until_ready(self) -> None:
        """Wait until its mount answers; `wait_until_built` comes before.  SandboxError when it cannot be mounted."""
        assert self._reports is not None, "it was started"
        if self._is_ready:
            return
        received = self._reports.read()
        if received != _READY:
            raise _failure(received)
        self._is_ready = True

    def stop(self) -> None:
        """Stop it, and wait for its end.  Nothing happens twice."""
        if self._admissions >= 0:
            os.close(self._admissions)
            self._admissions = -1
        if self._reports is not None:
            self._reports.close()
        process, self._process = self._process, 0
        if process:
            os.kill(process, signal.SIGTERM)
            os.kill(process, signal.SIGCONT)
            os.waitpid(process, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        with step("start the machine's process"):
            admission, self._admissions = os.pipe()
            reports, report = os.pipe()
            self._reports = os.fdopen(reports, "rb")
            supervisor, pidfd = os.getpid(), os.pidfd_open(os.getpid())
            self._process = self._hand_over(admission, report, pidfd) or os.fork()
        if self._process == 0:
            self._run(admission, report, supervisor, pidfd)
        for descriptor in (admission, report, pidfd):
            os.close(descriptor)

    def _hand_over(self, *files: int) -> int:
        """Have a server that was prepared serve, and return its process id; 0 when there is none that can."""
        if self._keep:
            end_prepared_server()
        return _prepared.start((self._serve, os.getpid()), files)

    def _run(self, admission: int, report: int, supervisor: int, pidfd: int) -> NoReturn:
        """In the server: serve the mount, and report on a pipe that it answers, or why it does not."""
        try:
            # The terminal's signals are meant for the command.  In a group of its own within its parent's session, a
            # server that is stopped is continued by the kernel when its parent ends (kill_orphaned_pgrp,
            # kernel/exit.c).
            os.setpgid(0, 0)
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            libc.die_with_parent(signal.SIGTERM, os.dup(pidfd))
            close_files_except(*STANDARD_FILES, admission, report, pidfd, *self._keep)

            def before_mount(built: Built) -> None:
                os.write(report, _BUILT + built.encode())
                message = os.read(admission, _ADMISSION.size)
                if not message:
                    os._exit(1)  # the supervisor has given up
                _join(supervisor, pidfd, *_ADMISSION.unpack(message))

            def on_ready() -> None:
                os.write(report, _READY)
                os.close(report)

            self._serve(before_mount, on_ready)
        except BaseException as failure:  # the supervisor must learn of any error
            status = failure.status if isinstance(failure, SandboxError) else FAILED
            message = (str(failure) or repr(failure)).encode(errors="replace")
            with contextlib.suppress(OSError):
                os.write(report, _FAILED.pack(status) + message)
            os._exit(1)
        os._exit(0)


_prepared = EarlyProcesses[tuple[Serve, int]]()


def prepare_server(prepare: Callable[[], None]) -> None:
    """Fork the server of the sandbox that this process builds next, where it will be able to join it.  OSError.

    Args:
        prepare: called in it, in advance.
    """
    if namespaces.can_be_joined():
        _prepared.fork(_serve, prepare)


def end_prepared_server() -> None:
    """End it, as it is not needed."""
    _prepared.end()


def _serve(order: tuple[Serve, int], files: list[int], _messages: socket.socket) -> NoReturn:
    """In a server that was prepared."""
    serve, supervisor = order
    admission, report, pidfd = files
    MachineServer(serve)._run(admission, report, supervisor, pidfd)


def _failure(report: bytes) -> SandboxError:
    """The error of a report, which is empty when the process was killed."""
    if not report:
        return SandboxError(f"the machine's process was killed, {PERHAPS_MEMORY}")
    return SandboxError(report[_FAILED.size :].decode(errors="replace"), *_FAILED.unpack_from(report))


def _join(process: int, pidfd: int, kinds: int) -> None:
    """Join namespaces of the parent, and take its root directory.  SandboxError.

    Args:
        process: the parent.
        pidfd: a descriptor of it, which is closed.
        kinds: the kinds of namespaces; 0 when this process was forked in them.
    """
    if kinds:
        with step("join the sandbox"):
            namespaces.join(process, pidfd, kinds)
    # The kernel clears the signal where other capabilities are gained (commit_creds, kernel/cred.c, Linux 6.1).
    libc.die_with_parent(signal.SIGTERM, pidfd)
