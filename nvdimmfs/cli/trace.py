"""`nvdimmfs trace`: print what programs have asked of a mounted machine, and what its kernel did because of that."""

from __future__ import annotations

import argparse
import errno
import os
import select
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from nvdimmfs.cli.errors import CommandError, daemon_was_killed, mount_cannot_be_read
from nvdimmfs.cli.places import reading
from nvdimmfs.traces.event import TraceEvent, TraceState
from nvdimmfs.traces.forms import JSON, TEXT, TraceForm
from nvdimmfs.traces.json_lines import TraceFormatError, decoded
from nvdimmfs.traces.selection import REFUSED, SELECTORS, selects

#: The file in which a mounted machine shows its trace, one JSON object a line.
TRACE = "sys/kernel/debug/nvdimmfs/trace.jsonl"

_WORDS = (*SELECTORS, REFUSED)

#: Bytes to read at once.
_BUFFER_SIZE = 1 << 18

#: The machine is gone: it was unmounted, or its process has ended.
_GONE = frozenset({errno.ENOTCONN, errno.ECONNABORTED, errno.ENODEV})


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("directory", metavar="DIR", help="where the machine is mounted")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="go on with what happens from now on, until Ctrl-C or the machine's end; the trace is on meanwhile",
    )
    parser.add_argument("--json", action="store_true", help="print JSON Lines, see docs/reference/trace.md")
    parser.add_argument(
        "--only",
        metavar="KIND[,KIND]",
        type=_kinds,
        action="extend",
        default=[],
        help=f"print calls of these kinds alone: {', '.join(SELECTORS)}; with {REFUSED}, of those (or of all) the ones "
        "that were refused",
    )


def _kinds(text: str) -> list[str]:
    words = text.split(",")
    for word in words:
        if word not in _WORDS:
            raise argparse.ArgumentTypeError(f"{word!r} is no kind of call; kinds are {', '.join(_WORDS)}")
    return words


def run(arguments: argparse.Namespace) -> int:
    """Print the trace."""
    directory: str = arguments.directory
    form = JSON if arguments.json else TEXT
    with reading(directory):
        file = _opened(directory, follow=arguments.follow)
    try:
        for line in _lines(directory, file, follow=arguments.follow):
            _print(directory, line, form, arguments.only, follow=arguments.follow)
    finally:
        os.close(file)
    return 0


def _opened(directory: str, *, follow: bool) -> int:
    """Open the file, and have the machine record as long as it is open, to follow the trace."""
    try:
        file = os.open(Path(directory, TRACE), (os.O_RDWR if follow else os.O_RDONLY) | os.O_CLOEXEC)
        if follow:
            os.write(file, b"follow")
    except PermissionError:
        raise
    except OSError as error:
        raise mount_cannot_be_read(directory, error) from None
    return file


def _lines(directory: str, file: int, *, follow: bool) -> Iterator[bytes]:
    """The lines of the file, and of what is appended while it is followed.  Standard output is written in between."""
    rest = b""
    while True:
        try:
            data = os.read(file, _BUFFER_SIZE)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            if follow:
                return
            raise daemon_was_killed(directory) from None
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
        if data:
            continue
        if not follow:
            return
        sys.stdout.flush()
        if not _is_readable(file):
            return


def _is_readable(file: int) -> bool:
    """Wait until there is more to read.  False when the reader of standard output is gone."""
    waits = select.poll()
    waits.register(file, select.POLLIN)
    waits.register(sys.stdout.fileno(), 0)  # POLLERR is always reported
    return all(descriptor == file for descriptor, _ in waits.poll())


def _print(directory: str, line: bytes, form: TraceForm, only: list[str], *, follow: bool) -> None:
    try:
        found = decoded(line)
    except TraceFormatError as error:
        raise CommandError(f"{directory}: {error}") from None
    match found:
        case TraceState():
            if not (found.on or found.recorded or follow):
                file = Path(directory, TRACE).with_suffix("")
                raise CommandError(
                    f"the trace of {directory} is off: `nvdimmfs trace --follow {shlex.quote(directory)}` records what "
                    f"happens meanwhile, `echo on > {shlex.quote(str(file))}` from now on"
                )
        case TraceEvent():
            if selects(only, found):
                print(form.event(found), end="")
        case _:
            print(form.dropped(found.count), end="")
