"""`nvdimmfs run`: run a command that finds a machine with persistent memory in /sys, /dev and /proc."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from nvdimmfs.cli import log as logs
from nvdimmfs.cli import machine_options
from nvdimmfs.cli.errors import MISUSED, CommandError, one_line
from nvdimmfs.cli.machine_options import TraceOutput
from nvdimmfs.cli.mount import MountRequest, serve
from nvdimmfs.cli.mount_table import absolute, require_machine
from nvdimmfs.errors import printable
from nvdimmfs.fuse.requirements import MountError, require_fuse
from nvdimmfs.sandbox.command import NOT_FOUND, CommandNotStartedError
from nvdimmfs.sandbox.errors import SandboxError
from nvdimmfs.sandbox.front import run_behind_front
from nvdimmfs.sandbox.machine_server import Serve
from nvdimmfs.sandbox.sandbox import RunRequest, run_sandbox

#: Values of --net: the command's network namespace.
PRIVATE = "private"
HOST = "host"

#: Options that describe a new machine; they contradict --attach.
_MACHINE_OPTIONS = (
    "machine",
    "restore",
    "memmap",
    "ram",
    "kernel",
    "clock",
    "media",
    "media_sync",
    "blacklist",
    "log",
    "trace",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.usage = "%(prog)s [OPTION ...] -- COMMAND [ARGUMENT ...]"
    machine_options.configure(parser)
    machine_options.offer_files(parser, log_default="warnings, to stderr")
    parser.add_argument("--attach", metavar="DIR", help="use the machine that is mounted on DIR instead of a new one")
    parser.add_argument(
        "--net",
        choices=(PRIVATE, HOST),
        default=PRIVATE,
        help="the command's network: private, which has no connections but receives the machine's uevents, or the "
        "host's, without uevents (default: private)",
    )
    parser.add_argument(
        "command", metavar="-- COMMAND", nargs=argparse.REMAINDER, help="the command to run, with its arguments"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command, and exit with its status, or by the signal that ended it."""
    logs.log_to_stderr(logging.WARNING)
    command = _command(arguments.command)
    attach = None if arguments.attach is None else _attached_mount(arguments)
    log_file, trace = machine_options.opened_log(arguments), machine_options.opened_trace(arguments)
    request = RunRequest(
        command=command,
        serve=None if attach else _server(arguments, log_file, trace),
        attach=attach,
        keep=tuple(each for each in (log_file, None if trace is None else trace.file) if each is not None),
        warn=warn,
        private_network=arguments.net == PRIVATE,
    )
    try:
        status = run_behind_front(lambda: run_sandbox(request))
    except CommandNotStartedError as failure:
        raise CommandError(str(failure), failure.status) from None
    except SandboxError as failure:
        raise CommandError(str(failure)) from None
    if os.WIFSIGNALED(status):
        _exit_by_signal(os.WTERMSIG(status))
    return os.waitstatus_to_exitcode(status)


def _command(words: list[str]) -> list[str]:
    """The command, without the -- before it."""
    command = words[1:] if words[:1] == ["--"] else words
    if not command:
        raise CommandError("run: no command given; write it after --, as in `nvdimmfs run -- ndctl list`", MISUSED)
    if not command[0]:
        raise CommandError("cannot run a command whose name is empty", NOT_FOUND)
    return command


def _server(arguments: argparse.Namespace, log_file: int | None, trace: TraceOutput | None) -> Serve:
    try:
        require_fuse(helper=False)
    except MountError as error:
        raise CommandError(str(error)) from None
    saved = machine_options.saved_machine(arguments)
    machine = machine_options.machine(arguments, saved)
    media = None if arguments.media is None else absolute(arguments.media)
    blacklist, durable = tuple(arguments.blacklist), machine_options.is_durable(arguments)

    def serve_machine(mountpoint: Path, on_ready: Callable[[], None]) -> None:
        try:
            if log_file is not None:
                os.dup2(log_file, 2)
                logs.log_to_stderr()
            request = MountRequest(
                mountpoint, machine, media, blacklist, cache=True, durable=durable, saved=saved, trace=trace
            )
            serve(request, on_ready)
        except Exception as error:
            raise CommandError(one_line(error)) from error

    return serve_machine


def _attached_mount(arguments: argparse.Namespace) -> Path:
    for option in _MACHINE_OPTIONS:
        if getattr(arguments, option):
            name = option.replace("_", "-")
            raise CommandError(f"--attach uses a machine that is already mounted; --{name} cannot change it", MISUSED)
    directory = absolute(arguments.attach)
    require_machine(directory)
    return directory


def warn(message: str) -> None:
    """Print a line about what the sandbox lacks."""
    print(f"nvdimmfs: warning: {printable(message)}", file=sys.stderr)


def _exit_by_signal(number: int) -> None:
    """Exit by the signal that ended the command, so that the parent process sees the same, without a core dump."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
