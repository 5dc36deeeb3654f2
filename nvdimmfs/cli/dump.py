"""`nvdimmfs dump`: write what belongs to libnvdimm in a sysfs as text."""

from __future__ import annotations

import argparse
from pathlib import Path

from nvdimmfs.cli.errors import CommandError, accessing
from nvdimmfs.cli.places import reading
from nvdimmfs.dumps.dump import dump_of_folder
from nvdimmfs.dumps.text import DumpError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("directory", metavar="DIR", help="where a machine is mounted, or /sys, or a copy of a /sys")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE instead of stdout")


def run(arguments: argparse.Namespace) -> int:
    """Write the dump."""
    try:
        with reading(arguments.directory):
            text = dump_of_folder(Path(arguments.directory))
    except DumpError as error:
        raise CommandError(str(error)) from None
    if arguments.output is None:
        print(text, end="")
    else:
        with accessing(arguments.output):
            Path(arguments.output).write_text(text, encoding="ascii")
    return 0
