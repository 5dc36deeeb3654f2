"""`nvdimmfs record`: write a machine file that describes a real machine, from its sysfs and its DIMMs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nvdimmfs.cli.errors import CommandError
from nvdimmfs.errors import FAILED
from nvdimmfs.machine_file.checks import problems
from nvdimmfs.machine_file.defaults import abridged
from nvdimmfs.machine_file.dimm_commands import DeviceFolder
from nvdimmfs.machine_file.record import record_machine
from nvdimmfs.machine_file.sysfs import MountedSysfs
from nvdimmfs.machine_file.writer import machine_text

#: The sysfs of the computer that this runs on.
_SYSFS = "/sys"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--root",
        metavar="FOLDER",
        default=_SYSFS,
        help="a mounted sysfs, or a copy of one (default: %(default)s)",
    )
    parser.add_argument(
        "--dev",
        metavar="FOLDER",
        help="the device nodes of its DIMMs, for label areas, health and firmware (default: /dev for /sys, else none)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the machine file.  The exit status is 1 when the file must be corrected by hand."""
    root = Path(arguments.root)
    if not root.is_dir():
        raise CommandError(f"{root} is not a folder")
    try:
        recording = record_machine(MountedSysfs(root), _devices(arguments))
    except ValueError as error:
        raise CommandError(f"{root}: {error}") from None
    print(machine_text(abridged(recording.machine), recording.remarks), end="")
    wrong = list(problems(recording.machine))
    for path, message in wrong:
        print(f"nvdimmfs: correct by hand: {path}: {message}", file=sys.stderr)
    return FAILED if wrong else 0


def _devices(arguments: argparse.Namespace) -> DeviceFolder | None:
    """The device nodes that belong to the sysfs.  CommandError."""
    folder = arguments.dev or ("/dev" if arguments.root == _SYSFS else None)
    if folder is None:
        return None
    if not Path(folder).is_dir():
        raise CommandError(f"{folder} is not a folder")
    return DeviceFolder(Path(folder))
