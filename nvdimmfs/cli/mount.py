"""`nvdimmfs mount`: a machine, its daemon, its mount."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import attrs

from nvdimmfs.cli import log as logs
from nvdimmfs.cli.daemon import leave_behind
from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.cli.mount_table import absolute, require_free
from nvdimmfs.fuse.requirements import MountError, require_fuse

log = logging.getLogger(__name__)

DEFAULT_MEMMAP = "512M!4G,256M!6G"
DEFAULT_RAM = "4G"


@attrs.frozen
class MountRequest:
    """What is to be mounted, and how; all paths are absolute."""

    mountpoint: Path
    memmap: str
    ram: int
    media: Path | None
    cache: bool


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("directory", metavar="DIR", help="an empty directory to mount on")
    parser.add_argument(
        "--memmap",
        metavar="RANGES",
        default=DEFAULT_MEMMAP,
        help="legacy persistent memory, size!start, as on the Linux command line (default: %(default)s)",
    )
    parser.add_argument(
        "--ram", metavar="SIZE", default=DEFAULT_RAM, help="the machine's memory (default: %(default)s)"
    )
    parser.add_argument(
        "--media", metavar="FOLDER", help="keep the bytes in files in this folder (default: in memory, lost at the end)"
    )
    parser.add_argument(
        "--foreground", action="store_true", help="do not leave a daemon behind: serve, and log to stderr"
    )
    parser.add_argument("--no-cache", action="store_true", help="let the kernel cache no names and attributes")
    parser.add_argument("--log", metavar="FILE", help="append the log to a file (default: warnings, to the system log)")


def run(arguments: argparse.Namespace) -> int:
    """Mount.  Returns once the mount answers; in the foreground, once it has ended."""
    ram = _size(arguments.ram, "--ram")
    request = MountRequest(
        mountpoint=absolute(arguments.directory),
        memmap=_checked_memmap(arguments.memmap, ram),
        ram=ram,
        media=None if arguments.media is None else absolute(arguments.media),
        cache=not arguments.no_cache,
    )
    if request.media is None:
        _warn_of_missing_memory(request)
    require_free(request.mountpoint)
    try:
        require_fuse()
    except MountError as error:
        raise CommandError(str(error)) from None
    log_file = None if arguments.log is None else _opened_log(arguments.log)
    if arguments.foreground:
        return _serve_in_foreground(request, log_file)
    (logs.log_to_system if log_file is None else logs.log_to_stderr)()
    leave_behind(lambda on_ready: _serve(request, on_ready), stderr=log_file)
    return 0


def _serve_in_foreground(request: MountRequest, log_file: int | None) -> int:
    if log_file is not None:
        os.dup2(log_file, 2)
    logs.log_to_stderr()
    _serve(request, lambda: log.info("mounted on %s; Ctrl-C unmounts", request.mountpoint))
    return 0


def _opened_log(path: str) -> int:
    """A descriptor to append to."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _serve(request: MountRequest, on_ready: Callable[[], None]) -> None:
    """Build the machine and serve its tree.  Loads what that needs only now: half of the start-up time is imports."""
    from nvdimmfs.media.base import MediaError
    from nvdimmfs.platforms.machine import Machine

    try:
        from nvdimmfs.fuse.mount import serve
    except ImportError as error:
        raise CommandError(f"the FUSE library cannot be loaded: {error}") from None

    try:
        machine = Machine.legacy(request.memmap, request.ram, request.media)
    except MediaError as error:
        raise CommandError(str(error)) from None
    with contextlib.closing(machine):
        try:
            serve(
                machine.tree,
                request.mountpoint,
                cache=request.cache,
                on_ready=on_ready,
                on_rest=machine.system.rest,
            )
        except MountError as error:
            raise CommandError(str(error)) from None


def _checked_memmap(memmap: str, ram: int) -> str:
    from nvdimmfs.mm.memmap_option import MemmapError, check_memmap

    try:
        check_memmap(memmap, ram)
    except MemmapError as error:
        raise CommandError(str(error), MISUSED) from None
    return memmap


def _warn_of_missing_memory(request: MountRequest) -> None:
    """Say which ranges will forget what is written to them, and what would help."""
    from nvdimmfs.mm.firmware import memory_reaching, without_memory
    from nvdimmfs.mm.units import GIB

    for missing in without_memory(request.memmap, request.ram):
        needed = -(-memory_reaching(missing.end) // GIB)
        print(
            f"nvdimmfs: warning: the machine has no memory at {missing}: it reads as zeros and forgets what is written;"
            f" --ram {needed}G or --media FOLDER gives it bytes",
            file=sys.stderr,
        )


def _size(text: str, option: str) -> int:
    """A number of bytes, as the kernel's command line has them."""
    from nvdimmfs.mm.e820 import scan_size

    size, rest = scan_size(text)
    if rest or not size:
        raise CommandError(f"{option} {text}: not a size such as 4G", MISUSED)
    return size
