"""A daemon with --media that is killed: in a process of its own, at a system call, at a moment, or while it boots."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import attrs
import mounting
from media_cuts import CALLS

import nvdimmfs.fuse.mount  # noqa: F401  # before the fork, as it takes half of a start
from nvdimmfs.cli import mount
from nvdimmfs.machine_file.model import MachineDescription


@attrs.frozen
class Kill:
    """When a daemon is killed, if it does not end its work before.

    Attributes:
        call: the number of the system call that changes what the host stores, at which it kills itself; 0 for none.
        in_boot: whether that is counted from the start of the process, not from the moment when the mount answers.
        after: seconds after which it is killed from outside; 0 for never.
    """

    call: int = 0
    in_boot: bool = False
    after: float = 0.0


class Daemon:
    """A mount of a machine, served by a fork of this process, which has loaded all modules.

    Attributes:
        pid: of the daemon.
        is_ready: whether the mount answers; False if the daemon was killed before that.
    """

    def __init__(self, folder: Path, machine: MachineDescription, kill: Kill, *, durable: bool) -> None:
        """Start it; returns when the mount answers or the daemon has ended.

        Args:
            folder: a folder with an empty folder `mount`; it gets `media` and `log`.
            machine: the machine.
            kill: when it is killed.
            durable: as `MountRequest.durable`.
        """
        reader, writer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self._directory = folder / "mount"
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reader)
            request = mount.MountRequest(self._directory, machine, folder / "media", (), cache=True, durable=durable)
            _serve(request, folder / "log", kill, writer)
        os.close(writer)
        self.is_ready = os.read(reader, 1) == b"R"
        os.close(reader)
        self._timer: threading.Timer | None = None
        if kill.after and self.is_ready:
            self._timer = threading.Timer(kill.after, os.kill, (self.pid, signal.SIGKILL))
            self._timer.start()

    def end(self) -> None:
        """Kill the daemon, unless it was killed already, and remove the mount."""
        if self._timer:
            self._timer.join()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        mounting.detach(self._directory)


def _serve(request: mount.MountRequest, log: Path, kill: Kill, ready: int) -> NoReturn:
    """The daemon's process; does not return."""
    status = 1
    try:
        os.setsid()
        os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
        logging.basicConfig(level=logging.WARNING, force=True)
        counter = _Counter(kill.call)
        counter.is_on = kill.in_boot

        def on_ready() -> None:
            counter.is_on = True
            os.write(ready, b"R")

        counter.install()
        mount.serve(request, on_ready)
        status = 0
    except BaseException:  # the log is read at the end
        logging.exception("the daemon ended")
    finally:
        os._exit(status)


@attrs.define
class _Counter:
    """Kills this process at a call."""

    at: int
    is_on: bool = False
    count: int = 0

    def install(self) -> None:
        """Count the calls of this process, which ends with it."""
        if self.at:
            for name in CALLS:
                setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **keywords: Any) -> Any:
            self.count += self.is_on
            if self.is_on and self.count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **keywords)

        return counted
