"""Starting a daemon, and waiting for its report that it serves."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import sys
from collections.abc import Callable, Collection
from typing import Generic, NoReturn, Self, TypeVar, cast

from nvdimmfs.cli.errors import CommandError, one_line
from nvdimmfs.errors import FAILED, PERHAPS_MEMORY
from nvdimmfs.inherited_files import close_files_except
from nvdimmfs.warm.call import FAILURE, READY

log = logging.getLogger(__name__)

RequestT = TypeVar("RequestT")


class Daemon(Generic[RequestT]):
    """A process that serves a request, detached from this process and its terminal.

    The daemon prepares while its caller still reads the request: each is half of the time until a mount answers, and
    most hosts have two processors.  Use it as a context manager; if no request is sent, the daemon is killed at the
    end.
    """

    def __init__(
        self,
        prepare: Callable[[], None],
        service: Callable[[RequestT, Callable[[], None]], None],
        *,
        stderr: int | None,
        keep: Collection[int] = (),
    ) -> None:
        """Describe a daemon; entering the context starts it.

        Args:
            prepare: called in the daemon before it receives the request.
            service: serves a request until it is stopped, and calls its second argument once it serves.
            stderr: the descriptor for the daemon's stderr; None discards it.
            keep: the only other descriptors that stay open in the daemon.
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
            self._run(read_requests, _Report(write_reports))
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
        """Send the request and return once the daemon serves.  CommandError, with the reason, when the daemon fails."""
        pipe, self._requests = self._requests, -1
        with contextlib.suppress(BrokenPipeError), os.fdopen(pipe, "wb") as requests:
            pickle.dump(request, requests)
        process, self._process = self._process, 0
        os.waitpid(process, 0)
        with os.fdopen(self._reports, "rb", closefd=False) as reports:
            report = reports.read()
        if report == READY:
            return
        if report.startswith(FAILURE):
            raise CommandError(report[len(FAILURE) :].decode(errors="replace"))
        raise CommandError(f"the daemon was killed before the mount answered, {PERHAPS_MEMORY}")

    def _run(self, requests: int, report: _Report) -> NoReturn:
        """In the daemon.  The caller may have exited when the daemon fails, so the failure is logged as well."""
        status = FAILED
        try:
            self._prepare()
            request = cast("RequestT", _receive(requests))
            _detach()
            _close_inherited_files(self._stderr, {*self._keep, report.pipe})
            self._service(request, report.ready)
            status = 0
        except CommandError as error:
            report.failed(str(error))
        except KeyboardInterrupt:
            report.failed("the daemon was interrupted")
        except (MemoryError, OSError) as error:
            log.error("the daemon exits: %s", one_line(error))  # the host's limit, no bug
            report.failed(one_line(error))
        except BaseException as error:
            log.exception("the daemon exits because of an error")
            report.failed(one_line(error))
        finally:
            os._exit(status)


class _Report:
    """The pipe on which a daemon reports, once, whether it serves."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        self._is_open = True

    def ready(self) -> None:
        """Report that the mount answers.  If the caller has been killed, the daemon ends as well."""
        try:
            self._send(READY)
        except BrokenPipeError:
            signal.raise_signal(signal.SIGTERM)

    def failed(self, reason: str) -> None:
        try:
            self._send(FAILURE + reason.encode(errors="replace"))
        except BrokenPipeError:
            log.info("the command that started the daemon has exited")

    def _send(self, message: bytes) -> None:
        if not self._is_open:
            return
        self._is_open = False
        try:
            os.write(self.pipe, message)
        finally:
            os.close(self.pipe)


def _receive(pipe: int) -> object:
    """Receive the request.  Ends this process when the caller has exited without sending one."""
    try:
        with os.fdopen(pipe, "rb") as requests:
            return pickle.load(requests)  # noqa: S301  # only the parent process can write to it
    except (EOFError, pickle.UnpicklingError):
        os._exit(FAILED)


def _detach() -> None:
    """Continue in a new session, as a grandchild, which can never acquire a controlling terminal."""
    os.setsid()
    if os.fork():
        os._exit(0)


def _close_inherited_files(stderr: int | None, keep: set[int]) -> None:
    """Leave the caller's working directory, and close all its files except those to keep."""
    os.chdir("/")
    if stderr is not None:
        os.dup2(stderr, 2)
        keep = {2, *keep}
    close_files_except(*keep)
