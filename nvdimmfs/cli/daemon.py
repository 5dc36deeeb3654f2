"""Leaving a process behind that serves, and hearing from it whether it does."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from nvdimmfs.cli.errors import FAILED, CommandError, one_line

log = logging.getLogger(__name__)

#: How a daemon's report begins: it serves; it gave up, and why follows.
_SERVES = b"+"
_GAVE_UP = b"-"

#: Serves until it is told to stop, and calls its argument once it does serve.
Service = Callable[[Callable[[], None]], None]


def leave_behind(service: Service, *, stderr: int | None, keep: int) -> None:
    """Return once a daemon serves, detached from this process and its terminal.

    Args:
        service: what the daemon does.
        stderr: the open file to which its stderr goes; nowhere when None.
        keep: an open file that stays open in the daemon, as no other does.

    Raises:
        CommandError: the daemon gave up before it served; the reason is its own.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        _fork_again(service, stderr, keep, _Report(write_end))
    os.close(write_end)
    os.waitpid(child, 0)
    with os.fdopen(read_end, "rb") as reports:
        report = reports.read()
    if report == _SERVES:
        return
    if report.startswith(_GAVE_UP):
        raise CommandError(report[1:].decode(errors="replace"))
    raise CommandError("the daemon was killed before the mount answered")


class _Report:
    """The pipe on which a daemon says, once, how it went."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        self._is_open = True

    def serves(self) -> None:
        """The mount answers.  If nobody waits for it any more, nobody wants it either."""
        try:
            self._send(_SERVES)
        except BrokenPipeError:
            signal.raise_signal(signal.SIGTERM)

    def gave_up(self, why: BaseException) -> None:
        try:
            self._send(_GAVE_UP + one_line(why).encode(errors="replace"))
        except BrokenPipeError:
            log.info("nobody waits to hear it")

    def _send(self, message: bytes) -> None:
        if not self._is_open:
            return
        self._is_open = False
        try:
            os.write(self.pipe, message)
        finally:
            os.close(self.pipe)


def _fork_again(service: Service, stderr: int | None, keep: int, report: _Report) -> NoReturn:
    """In the child: a session of its own, then a grandchild that can never get a terminal again."""
    status = FAILED
    try:
        os.setsid()
        status = 0 if os.fork() else _serve_detached(service, stderr, keep, report)
    finally:
        os._exit(status)


def _serve_detached(service: Service, stderr: int | None, keep: int, report: _Report) -> int:
    """In the grandchild.  Whoever called may have gone by the time this fails, hence the log."""
    try:
        _let_go(stderr, {keep, report.pipe})
        service(report.serves)
    except BaseException as error:
        if not isinstance(error, CommandError):
            log.exception("the daemon ends")
        report.gave_up(error)
        return FAILED
    return 0


def _let_go(stderr: int | None, keep: set[int]) -> None:
    """Hold no working directory, no terminal, and no files of the caller's but those to keep."""
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard, target in ((0, nowhere), (1, nowhere), (2, nowhere if stderr is None else stderr)):
        os.dup2(target, standard)
    first = 3
    for kept in sorted(keep):
        os.closerange(first, kept)
        first = kept + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))
