"""`nvdimmfs show`: draw a mounted machine's address map and the layout of its persistent memory."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nvdimmfs.cli.drawing.bars import is_layout
from nvdimmfs.cli.errors import MISUSED, CommandError, accessing, mount_cannot_be_read
from nvdimmfs.cli.places import reading

if TYPE_CHECKING:
    from nvdimmfs.cli.drawing.model import MachineDrawing
    from nvdimmfs.formats.layout_document import LayoutDocument

#: The file in which a mounted machine reports its layout.
LAYOUT = "sys/kernel/debug/nvdimmfs/layout"

#: The FILE of --svg that is no file.
STANDARD_OUTPUT = "-"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("directory", metavar="DIR", help="where the machine is mounted")
    parser.add_argument("--json", action="store_true", help="print the layout for programs, in bytes")
    offer_svg(parser)
    parser.add_argument("--no-color", action="store_true", help="plain text, even on a terminal")


def run(arguments: argparse.Namespace) -> int:
    """Draw it."""
    if arguments.json and arguments.svg is not None:
        raise CommandError("--json and --svg cannot be combined; give one of them", MISUSED)
    document = _read_layout(arguments.directory)
    if arguments.json:
        print(json.dumps(document, indent=2))
        return 0
    from nvdimmfs.cli.drawing.mounted import drawing_of

    drawing = drawing_of(document, arguments.directory)
    if arguments.svg is not None:
        write_svg(drawing, arguments.svg)
    else:
        _print(drawing, plain=arguments.no_color or not sys.stdout.isatty())
    return 0


def offer_svg(parser: argparse.ArgumentParser) -> None:
    """Declare --svg [FILE]."""
    parser.add_argument(
        "--svg",
        metavar="FILE",
        nargs="?",
        const=STANDARD_OUTPUT,
        help="draw a picture for a web page (SVG) into FILE; without FILE, or for -, on standard output",
    )


def write_svg(drawing: MachineDrawing, path: str) -> None:
    """Write the picture that --svg asks for.  OSError."""
    from nvdimmfs.cli.drawing.svg import draw_svg

    picture = draw_svg(drawing)
    if path == STANDARD_OUTPUT:
        print(picture, end="")
    else:
        with accessing(path):
            Path(path).write_text(picture, encoding="utf-8")


def _print(drawing: MachineDrawing, *, plain: bool) -> None:
    from nvdimmfs.cli.drawing.text import draw_on_terminal, draw_plain

    if not drawing.bars:
        print("no persistent memory")
    elif plain:
        print(draw_plain(drawing), end="")
    else:
        draw_on_terminal(drawing)


def _read_layout(directory: str) -> LayoutDocument:
    """The layout from the machine.  CommandError when there is no machine, or one of another version."""
    try:
        with reading(directory):
            text = Path(directory, LAYOUT).read_text(encoding="utf-8")
    except OSError as error:
        raise mount_cannot_be_read(directory, error) from None
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not is_layout(document):
        raise CommandError(f"{directory} was mounted by another version of nvdimmfs: unmount it and mount it again")
    return document
