"""Leaving a process behind that serves, and hearing from it whether it does."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import sys
from collections.abc import Callable
from typing import Generic, NoReturn, Self, TypeVar, cast

from nvdimmfs.cli.errors import FAILED, CommandError, one_line

log = logging.getLogger(__name__)

RequestT = TypeVar("RequestT")

#: How a daemon's report begins: it serves; it gave up, and why follows.
_SERVES = b"+"
_GAVE_UP = b"-"


class Daemon(Generic[RequestT]):
    """A process that will serve, detached from this one and its terminal.

    It gets ready while its caller still finds out what it is to serve: each is half of the time until a mount answers,
    and most machines have two processors.  Use it as a context manager; without a request it is gone afterwards.
    """

    def __init__(
        self,
        prepare: Callable[[], None],
        service: Callable[[RequestT, Callable[[], None]], None],
        *,
        stderr: int | None,
        keep: int,
    ) -> None:
        """Start nothing yet.

        Args:
            prepare: what the daemon does before it knows the request.
            service: serves a request until it is told to stop, and calls its second argument once it does serve.
            stderr: the open file to which the daemon's stderr goes; nowhere when None.
            keep: an open file that stays open in the daemon, as no other does.
        """
        self._prepare = prepare
        self._service = service
        self._stderr = stderr
        self._keep = keep
        self._process = 0
        self._requests = self._reports = -1

    def __enter__(self) -> Self:
        sys.stdout.flush()
        sys.stderr.flush()
        read_requests, self._requests = os.pipe()
        self._reports, write_reports = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            os.close(self._requests)
            os.close(self._reports)
            self._live(read_requests, _Report(write_reports))
        os.close(read_requests)
        os.close(write_reports)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
        os.close(self._reports)
        if self._requests >= 0:
            os.close(self._requests)

    def serve(self, request: RequestT) -> None:
        """Return once it serves.  CommandError: it gave up before that; the reason is its own."""
        pipe, self._requests = self._requests, -1
        with contextlib.suppress(BrokenPipeError), os.fdopen(pipe, "wb") as requests:
            pickle.dump(request, requests)
        process, self._process = self._process, 0
        os.waitpid(process, 0)
        with os.fdopen(self._reports, "rb", closefd=False) as reports:
            report = reports.read()
        if report == _SERVES:
            return
        if report.startswith(_GAVE_UP):
            raise CommandError(report[1:].decode(errors="replace"))
        raise CommandError("the daemon was killed before the mount answered")

    def _live(self, requests: int, report: _Report) -> NoReturn:
        """In the child.  Whoever called may have gone by the time this fails, hence the log."""
        status = FAILED
        try:
            self._prepare()
            request = cast("RequestT", _received(requests))
            _detach()
            _let_go(self._stderr, {self._keep, report.pipe})
            self._service(request, report.serves)
            status = 0
        except CommandError as error:
            report.gave_up(str(error))
        except KeyboardInterrupt:
            report.gave_up("the daemon was interrupted")
        except BaseException as error:
            log.exception("the daemon ends")
            report.gave_up(one_line(error))
        finally:
            os._exit(status)


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

    def gave_up(self, why: str) -> None:
        try:
            self._send(_GAVE_UP + why.encode(errors="replace"))
        except BrokenPipeError:
            log.info("no process waits for the report")

    def _send(self, message: bytes) -> None:
        if not self._is_open:
            return
        self._is_open = False
        try:
            os.write(self.pipe, message)
        finally:
            os.close(self.pipe)


def _received(pipe: int) -> object:
    """The request.  The end of this process when there will be none, because the caller has ended."""
    try:
        with os.fdopen(pipe, "rb") as requests:
            return pickle.load(requests)  # noqa: S301  # nobody else can write to it
    except (EOFError, pickle.UnpicklingError):
        os._exit(FAILED)


def _detach() -> None:
    """Go on in a session of its own, as a grandchild that can never get a terminal again."""
    os.setsid()
    if os.fork():
        os._exit(0)


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
