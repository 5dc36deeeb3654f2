"""`nvdimmfs start`: mount a machine on a new temporary directory, and print where, for a shell."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import select
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from nvdimmfs.cli import machine_options
from nvdimmfs.cli.daemon import Daemon
from nvdimmfs.cli.errors import CommandError
from nvdimmfs.cli.mount import (
    MountRequest,
    configure_serving,
    gc_disabled,
    log_of_daemon,
    preload_server,
    requested,
    require_mount,
    serve,
    warn_of_missing_memory,
)

#: The variables that are printed, and the part of the mount that each has.
VARIABLES = {"NVDIMMFS_DIR": "", "NVDIMMFS_SYS": "sys", "NVDIMMFS_DEV": "dev", "NVDIMMFS_PROC": "proc"}

#: The beginning of the names of directories, before random digits, and the number of bytes that they stand for.
PREFIX = "nvdimmfs-start-"
_RANDOM_BYTES = 8

#: Where temporary directories are without TMPDIR.
_TEMPORARY = "/tmp"  # noqa: S108  # the directory has a random name, and is made by mkdir(2)

#: Values of --shell.
SH = "sh"
FISH = "fish"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    machine_options.configure(parser)
    configure_serving(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--shell",
        choices=(SH, FISH),
        default=SH,
        help="the shell that reads the output: sh for all shells of its kind, or fish (default: sh)",
    )
    form.add_argument("--json", action="store_true", help="print a JSON object instead")


def run(arguments: argparse.Namespace) -> int:
    """Mount, and print the variables once the mount answers.

    If it fails, it prints `false` for the shell, which otherwise would not notice.
    """
    try:
        _start(arguments)
    except Exception:
        if not arguments.json:
            with contextlib.suppress(OSError, CommandError):  # which the failure may be about
                print("false")
        raise
    return 0


def _start(arguments: argparse.Namespace) -> None:
    parent = Path(os.environ.get("TMPDIR") or _TEMPORARY).resolve()  # gettempdir() makes a file to try it
    if not parent.is_dir():
        raise CommandError(f"{parent}, which TMPDIR names, is not a directory")
    mountpoint = parent / f"{PREFIX}{os.urandom(_RANDOM_BYTES).hex()}"
    read = requested(arguments, mountpoint)
    require_mount()
    log_file = machine_options.opened_log(arguments)
    trace = machine_options.opened_trace(arguments)
    log_of_daemon(log_file)
    with _lifeline() as line, gc_disabled():
        keep = {line.end} if trace is None else {line.end, trace.file}
        with Daemon(preload_server, line.serve, stderr=log_file, keep=keep) as daemon:
            request = read(trace)
            daemon.serve(request)
        warn_of_missing_memory(request)
        _print(mountpoint, arguments)
        line.let_go()


def _print(mountpoint: Path, arguments: argparse.Namespace) -> None:
    values = {name: str(mountpoint / part) for name, part in VARIABLES.items()}
    if arguments.json:
        text = json.dumps(values, indent=2)
    elif arguments.shell == FISH:
        text = "\n".join(f"set -gx {name} {_quoted_for_fish(value)};" for name, value in values.items())
    else:
        text = "\n".join(f"export {name}={shlex.quote(value)};" for name, value in values.items())
    print(text, flush=True)


def _quoted_for_fish(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class _Lifeline:
    """A pipe by which the daemon notices that this process has ended before it could print where the mount is.

    Attributes:
        end: the descriptor that the daemon keeps.
    """

    def __init__(self, end: int) -> None:
        self.end = end

    def serve(self, request: MountRequest, report: Callable[[], None]) -> None:
        """In the daemon: serve on a new directory, and remove it at the end."""
        request.mountpoint.mkdir(mode=0o700)
        try:
            serve(request, lambda: self._hold(report))
        finally:
            with contextlib.suppress(OSError):  # something is mounted there still
                request.mountpoint.rmdir()

    def let_go(self) -> None:
        """Let the daemon go on without this process.  The flags of the pipe's end are those of the daemon, too."""
        fcntl.fcntl(self.end, fcntl.F_SETFL, 0)

    def _hold(self, report: Callable[[], None]) -> None:
        """In the daemon, which handles SIGTERM now: get it when the other end is closed."""
        fcntl.fcntl(self.end, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self.end, fcntl.F_SETSIG, signal.SIGTERM)
        fcntl.fcntl(self.end, fcntl.F_SETFL, os.O_ASYNC)
        poll = select.poll()
        poll.register(self.end, select.POLLIN)
        if poll.poll(0):
            signal.raise_signal(signal.SIGTERM)
        report()


@contextlib.contextmanager
def _lifeline() -> Iterator[_Lifeline]:
    end, other = os.pipe()
    try:
        yield _Lifeline(end)
    finally:
        os.close(other)
        os.close(end)
