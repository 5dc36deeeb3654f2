"""`nvdimmfs show`: draw what lies where in a mounted machine's persistent memory."""

from __future__ import annotations

import argparse
import errno
import json
import sys
from pathlib import Path

from nvdimmfs.cli.drawing import Document, bars_of, is_layout
from nvdimmfs.cli.errors import MISUSED, CommandError
from nvdimmfs.fuse.identity import daemon_of

#: Where a mounted machine says what lies where.
LAYOUT = "sys/kernel/debug/nvdimmfs/layout"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("directory", metavar="DIR", help="where the machine is mounted")
    parser.add_argument("--json", action="store_true", help="print the layout for programs, in bytes")
    parser.add_argument("--svg", metavar="FILE", help="write the drawing as a picture for a web page")
    parser.add_argument("--no-color", action="store_true", help="plain text, on a terminal too")


def run(arguments: argparse.Namespace) -> int:
    """Draw it."""
    if arguments.json and arguments.svg is not None:
        raise CommandError("--json and --svg are two answers; ask for one", MISUSED)
    document = _read_layout(arguments.directory)
    if arguments.json:
        print(json.dumps(document, indent=2))
    elif arguments.svg is not None:
        from nvdimmfs.cli.drawing_svg import draw_svg

        Path(arguments.svg).write_text(draw_svg(bars_of(document)), encoding="utf-8")
    else:
        _print(document, plain=arguments.no_color or not sys.stdout.isatty())
    return 0


def _print(document: Document, *, plain: bool) -> None:
    from nvdimmfs.cli.drawing_text import draw_on_terminal, draw_plain

    bars = bars_of(document)
    if not bars:
        print("no persistent memory")
    elif plain:
        print(draw_plain(bars), end="")
    else:
        draw_on_terminal(bars)


def _read_layout(directory: str) -> Document:
    """What the machine says.  CommandError when there is no machine, or none that this command understands."""
    try:
        daemon_of(Path(directory))
        text = Path(directory, LAYOUT).read_text(encoding="utf-8")
    except TimeoutError:
        raise CommandError(f"the daemon of {directory} does not answer: it is stopped, or hangs") from None
    except OSError as error:
        raise CommandError(_why_not(directory, error)) from None
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not is_layout(document):
        raise CommandError(f"{directory} is a machine of another version of nvdimmfs: mount it anew")
    layout: Document = document
    return layout


def _why_not(directory: str, error: OSError) -> str:
    if error.errno == errno.ENOTCONN:
        return f"the daemon of {directory} was killed: clean up with `nvdimmfs umount {directory}`"
    if not Path(directory).exists():
        return f"{directory} does not exist"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"{directory} is not a mount of nvdimmfs"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission to look into {directory}: its owner and root may"
    return f"{directory}: {error.strerror}"
