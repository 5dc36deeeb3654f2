"""`nvdimmfs record`: a machine file of a real machine, made from its sysfs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nvdimmfs.cli.errors import FAILED, CommandError
from nvdimmfs.machine_file.checks import problems
from nvdimmfs.machine_file.defaults import abridged
from nvdimmfs.machine_file.record import record_machine
from nvdimmfs.machine_file.sysfs import MountedSysfs
from nvdimmfs.machine_file.writer import machine_text


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--root", metavar="FOLDER", default="/sys", help="where its sysfs is, or a copy of it (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the machine file.  The exit status is not 0 when it needs to be corrected by hand."""
    root = Path(arguments.root)
    if not root.is_dir():
        raise CommandError(f"{root} is not a folder")
    try:
        recording = record_machine(MountedSysfs(root))
    except ValueError as error:
        raise CommandError(f"{root}: {error}") from None
    print(machine_text(abridged(recording.machine), recording.remarks), end="")
    wrong = list(problems(recording.machine))
    for path, message in wrong:
        print(f"nvdimmfs: correct by hand: {path}: {message}", file=sys.stderr)
    return FAILED if wrong else 0
