"""`nvdimmfs mount`: a machine, its daemon, its mount."""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from nvdimmfs.cli import log as logs
from nvdimmfs.cli import machine_options
from nvdimmfs.cli.daemon import Daemon
from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.cli.mount_table import absolute
from nvdimmfs.cli.vacancy import Vacancy, held
from nvdimmfs.fuse.requirements import MountError, require_fuse
from nvdimmfs.units import div_round_up

if TYPE_CHECKING:  # loaded when a machine is described
    from nvdimmfs.machine_file.model import MachineDescription

log = logging.getLogger(__name__)


@attrs.frozen
class MountRequest:
    """What is to be mounted, and how; all paths are absolute."""

    mountpoint: Path
    machine: MachineDescription
    media: Path | None
    blacklist: tuple[str, ...]
    cache: bool


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("directory", metavar="DIR", help="an empty directory to mount on")
    machine_options.configure(parser)
    parser.add_argument(
        "--foreground", action="store_true", help="stay in the foreground and log to stderr; start no daemon"
    )
    parser.add_argument("--no-cache", action="store_true", help="let the host's kernel cache no names or attributes")
    parser.add_argument(
        "--log",
        metavar="FILE",
        help="append the log to a file, with the reason of every refused write (default: warnings, to the system log)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Mount.  Returns once the mount answers; in the foreground, once it has ended."""
    mountpoint = absolute(arguments.directory)
    media = None if arguments.media is None else absolute(arguments.media)
    if media is not None and media.is_relative_to(mountpoint):
        raise CommandError(f"--media {media}: the mount would cover it; choose another folder", MISUSED)

    def request() -> MountRequest:
        machine = machine_options.machine(arguments)
        return MountRequest(mountpoint, machine, media, tuple(arguments.blacklist), cache=not arguments.no_cache)

    with held(mountpoint) as vacancy, _no_search_for_garbage():
        try:
            require_fuse()
        except MountError as error:
            raise CommandError(str(error)) from None
        log_file = None if arguments.log is None else _opened_log(arguments.log)
        if arguments.foreground:
            _serve_in_foreground(request(), log_file, vacancy)
        else:
            _serve_in_background(request, log_file, vacancy)
    return 0


def _serve_in_foreground(request: MountRequest, log_file: int | None, vacancy: Vacancy) -> None:
    def on_ready() -> None:
        vacancy.end()
        log.info("mounted on %s; Ctrl-C unmounts", request.mountpoint)

    if log_file is not None:
        os.dup2(log_file, 2)
    logs.log_to_stderr()
    _warn_of_missing_memory(request)
    serve(request, on_ready)


def _serve_in_background(read: Callable[[], MountRequest], log_file: int | None, vacancy: Vacancy) -> None:
    """Leave a daemon behind.  It has the directory itself until the mount answers: this process may be killed.

    `read` finds out what to serve while the daemon loads what that takes.
    """

    def serve_in_daemon(request: MountRequest, report: Callable[[], None]) -> None:
        def on_ready() -> None:
            vacancy.end()
            report()

        serve(request, on_ready)

    (logs.log_to_system if log_file is None else logs.log_to_stderr)()
    with Daemon(load_what_serves, serve_in_daemon, stderr=log_file, keep=vacancy.descriptor) as daemon:
        request = read()
        daemon.serve(request)
    _warn_of_missing_memory(request)


def _opened_log(path: str) -> int:
    """A descriptor to append to."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


def load_what_serves() -> None:
    """Import what `serve` takes: half of the start-up time, which whoever asks for a mount may spend otherwise."""
    try:
        import nvdimmfs.fuse.mount
    except ImportError as error:
        raise CommandError(f"the FUSE library cannot be loaded: {error}") from None
    import nvdimmfs.machine.first_boot
    import nvdimmfs.machine.machine
    import nvdimmfs.sandbox.keyring  # noqa: F401  # loaded, not used


def serve(request: MountRequest, on_ready: Callable[[], None]) -> None:
    """Build the machine and serve its tree.

    Ten thousand namespaces are so many objects that looking for garbage among them would be a quarter of the boot, and
    each full search afterwards would keep whoever reads an attribute waiting.  They stay, so nobody looks at them.
    """
    load_what_serves()
    from nvdimmfs.fuse.mount import serve as serve_tree
    from nvdimmfs.machine.first_boot import NewMachineError
    from nvdimmfs.machine.machine import Machine
    from nvdimmfs.media.base import MediaError
    from nvdimmfs.sandbox.keyring import UserKeyring

    try:
        with _no_search_for_garbage():
            machine = Machine.described(request.machine, request.media, request.blacklist)
            gc.freeze()
    except (MediaError, NewMachineError) as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{error.filename or request.media}: {error.strerror}") from None
    machine.system.keyring = UserKeyring()
    with contextlib.closing(machine):
        try:
            serve_tree(
                machine.tree,
                request.mountpoint,
                clock=machine.system.clock,
                cache=request.cache,
                on_ready=on_ready,
            )
        except MountError as error:
            raise CommandError(str(error)) from None


@contextlib.contextmanager
def _no_search_for_garbage() -> Iterator[None]:
    """What is made meanwhile is none."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _warn_of_missing_memory(request: MountRequest) -> None:
    """Warn of ranges that lose what is written to them, and name the remedy."""
    from nvdimmfs.mm.pc_memory_map import memory_reaching, without_memory
    from nvdimmfs.units import GIB

    if request.media is not None:
        return
    for missing in without_memory(request.machine.memmap, request.machine.ram):
        needed = div_round_up(memory_reaching(missing.end), GIB)
        print(
            f"nvdimmfs: warning: the machine has no memory at {missing}: reads return zeros and writes are lost;"
            f" use --ram {needed}G or --media FOLDER",
            file=sys.stderr,
        )
