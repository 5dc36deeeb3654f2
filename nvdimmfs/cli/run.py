"""`nvdimmfs run`: run a command that finds a machine with persistent memory in /sys, /dev and /proc."""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nvdimmfs.class_code import save_class_code
from nvdimmfs.cli import log as logs
from nvdimmfs.cli import machine_options
from nvdimmfs.cli.errors import MISUSED, CommandError, one_line
from nvdimmfs.cli.machine_options import TraceOutput
from nvdimmfs.cli.mount import MountRequest, default_machine, serve
from nvdimmfs.cli.mount_table import absolute, require_machine
from nvdimmfs.errors import printable
from nvdimmfs.fuse.requirements import MountError, require_fuse
from nvdimmfs.sandbox.errors import NOT_FOUND, SandboxError
from nvdimmfs.sandbox.front import run_behind_front
from nvdimmfs.sandbox.machine_server import Built, MachineServer, end_prepared_server, prepare_server
from nvdimmfs.sandbox.merged_sysfs import merged_directories
from nvdimmfs.sandbox.places import MACHINE
from nvdimmfs.sandbox.signals import acts_for_client

if TYPE_CHECKING:  # loaded when a machine is described
    from nvdimmfs.machine.machine import Machine

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


def prepare(arguments: argparse.Namespace) -> None:
    """Use what a run needs, in a process that may carry out one next, and fork the processes of its sandbox.

    Args:
        arguments: those of a run without options.
    """
    from nvdimmfs.sandbox import sandbox

    with contextlib.suppress(OSError):  # a limit of the host, which the sandbox then meets
        prepare_server(lambda: _prepare_machine(arguments))
    sandbox.prepare()
    with contextlib.suppress(MountError):
        require_fuse(helper=False)


def _prepare_machine(arguments: argparse.Namespace) -> None:
    """Use what the machine of a run needs, in a process that may serve one next."""
    from nvdimmfs.fuse import mount

    mount.prepare()
    _request(arguments, None)
    machine = default_machine()
    if machine is not None:
        _built(machine).encode()


def run(arguments: argparse.Namespace) -> int:
    """Run the command, and exit with its status, or by the signal that ended it."""
    logs.log_to_stderr(logging.WARNING)
    command = _command(arguments.command)
    attach = None if arguments.attach is None else _attached_mount(arguments)
    log_file, trace = machine_options.opened_log(arguments), machine_options.opened_trace(arguments)
    if attach is None:
        try:
            require_fuse(helper=False)
        except MountError as error:
            raise CommandError(str(error)) from None
    try:
        status = run_behind_front(lambda: _supervise(arguments, command, attach, log_file, trace))
    except SandboxError as failure:
        raise CommandError(str(failure), failure.status) from None
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


def _supervise(
    arguments: argparse.Namespace,
    command: list[str],
    attach: Path | None,
    log_file: int | None,
    trace: TraceOutput | None,
) -> int:
    """In the supervisor: run the command, and return its wait(2) status.

    The machine's process reads the machine file and loads its modules while this one loads those of the sandbox.
    """
    private_network = arguments.net == PRIVATE
    with contextlib.ExitStack() as stack:
        server = None
        if attach is None:
            files = (log_file, None if trace is None else trace.file, _descriptor_named(arguments.machine or ""))
            keep = [each for each in files if each is not None]
            serving = functools.partial(_serve, arguments, log_file, trace)
            server = stack.enter_context(MachineServer(serving, keep))
            server.start_early()
        else:
            end_prepared_server()
        from nvdimmfs.sandbox.sandbox import RunRequest, run_sandbox

        save_class_code()
        return run_sandbox(
            RunRequest(
                command,
                server,
                attach,
                warn,
                private_network,
                # A client of a warm server does not wait until the kernel has deleted the loop devices.
                waits_for_deletions=not acts_for_client(),
                waits_for_machine=attach is not None or _leaves_files(arguments),
            )
        )


def _descriptor_named(machine: str) -> int | None:
    """The open file of this process that is the machine file, as of a process substitution: <(...); None for others."""
    number = machine.removeprefix("/proc/self/fd/").removeprefix("/dev/fd/")
    return int(number) if number != machine and number.isdecimal() else None


def _leaves_files(arguments: argparse.Namespace) -> bool:
    """Whether the machine writes anything that is there when it has ended."""
    return any(each is not None for each in (arguments.media, arguments.log, arguments.trace))


def _serve(
    arguments: argparse.Namespace,
    log_file: int | None,
    trace: TraceOutput | None,
    before_mount: Callable[[Built], None],
    on_ready: Callable[[], None],
) -> None:
    """In the machine's process: serve it."""
    logs.log_to_stderr(logging.WARNING)  # it may have been forked before this was a `run`
    try:
        request = _request(arguments, trace)
        if log_file is not None:
            os.dup2(log_file, 2)
            logs.log_to_stderr()
        serve(request, on_ready, lambda machine: before_mount(_built(machine)))
    except SandboxError:
        raise
    except CommandError as error:
        raise SandboxError(str(error), error.status) from error
    except Exception as error:
        raise SandboxError(one_line(error)) from error


def _built(machine: Machine) -> Built:
    from nvdimmfs.machine.control import listed

    return Built(tuple(machine.persistent_memory.modules.known), listed(machine.system, merged_directories()))


def _request(arguments: argparse.Namespace, trace: TraceOutput | None) -> MountRequest:
    saved = machine_options.saved_machine(arguments)
    machine = machine_options.machine(arguments, saved)
    media = None if arguments.media is None else absolute(arguments.media)
    blacklist, durable = tuple(arguments.blacklist), machine_options.is_durable(arguments)
    return MountRequest(
        MACHINE, machine, media, blacklist, cache=True, durable=durable, saved=saved, trace=trace, is_private=True
    )


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
