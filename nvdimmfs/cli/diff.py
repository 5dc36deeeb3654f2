"""`nvdimmfs diff`: report in words what differs between two mounts, dumps or /sys."""

from __future__ import annotations

import argparse
from pathlib import Path

from nvdimmfs.cli.errors import MISUSED, CommandError, one_line
from nvdimmfs.cli.places import reading
from nvdimmfs.dumps.difference import differences
from nvdimmfs.dumps.dump import rows_of_place
from nvdimmfs.dumps.text import DumpError, Row
from nvdimmfs.errors import printable

#: Exit statuses, those of diff(1): nothing differs, something differs, and trouble.
SAME, DIFFERENT, TROUBLE = 0, 1, MISUSED

#: What can be compared.
_PLACE = "a mounted machine, /sys, a copy of a /sys, or a file that `nvdimmfs dump` wrote"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("before", metavar="A", help=_PLACE)
    parser.add_argument("after", metavar="B", help="likewise")


def run(arguments: argparse.Namespace) -> int:
    """Print what differs."""
    lines = differences(_rows(arguments.before), _rows(arguments.after))
    for line in lines:
        print(printable(line))
    return DIFFERENT if lines else SAME


def _rows(place: str) -> list[Row]:
    """The rows of an argument.  CommandError."""
    try:
        with reading(place):
            return rows_of_place(Path(place))
    except DumpError as error:
        raise CommandError(str(error), TROUBLE) from None
    except (CommandError, OSError) as error:
        raise CommandError(one_line(error), TROUBLE) from None
