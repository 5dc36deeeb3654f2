"""`nvdimmfs serve`: a warm server, which carries out `mount` and `run` without loading anything."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable

from nvdimmfs.cli import log as logs
from nvdimmfs.cli.daemon import Daemon
from nvdimmfs.cli.errors import CommandError
from nvdimmfs.cli.numbers import seconds
from nvdimmfs.warm.endpoint import Endpoint, ServerError, listen, stop

log = logging.getLogger(__name__)

#: How long a server waits for the next command by default, in seconds.
IDLE = 600.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--idle",
        metavar="SECONDS",
        type=seconds,
        default=IDLE,
        help=f"end when no command has been carried out for so long; 0 for never (default: {IDLE:.0f})",
    )
    parser.add_argument("--foreground", action="store_true", help="serve in this process instead of a daemon")
    parser.add_argument(
        "--stop", action="store_true", help="have the server end, once the commands that it carries out have ended"
    )


def run(arguments: argparse.Namespace) -> int:
    """Start or stop the server.  Returns once clients can connect; in the foreground, once it has ended."""
    if arguments.stop:
        _stop()
    elif arguments.foreground:
        logs.log_to_stderr()
        preload()
        _serve(arguments.idle, lambda: log.info("serving; Ctrl-C ends it"))
    else:
        _serve_in_background(arguments.idle)
    return 0


def _stop() -> None:
    try:
        stop()
    except ServerError as error:
        raise CommandError(str(error)) from None


def _serve_in_background(idle: float) -> None:
    logs.log_to_system()
    with Daemon(preload, _serve, stderr=None) as daemon:
        daemon.serve(idle)


def preload() -> None:
    """Import what the commands need, before there is a client."""
    from nvdimmfs.cli import main, mount, templates
    from nvdimmfs.warm.client import COMMANDS

    templates.preload()
    main.preload_commands(COMMANDS)
    mount.boot_default()


def _serve(idle: float, on_ready: Callable[[], None]) -> None:
    from nvdimmfs.cli.main import main
    from nvdimmfs.warm.server import serve

    endpoint = _listen()
    serve(endpoint, main, idle, on_ready, _prepare)


def _prepare() -> None:
    """In a process that may carry out a command next: use what it needs."""
    from nvdimmfs.cli.main import parse
    from nvdimmfs.cli.run import prepare

    prepare(parse(["run", "--", "true"]))


def _listen() -> Endpoint:
    try:
        return listen()
    except ServerError as error:
        raise CommandError(str(error)) from None
