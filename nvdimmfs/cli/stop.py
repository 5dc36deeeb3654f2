"""`nvdimmfs stop`: unmount a machine that `nvdimmfs start` has mounted, and remove its directory."""

from __future__ import annotations

import argparse
import contextlib
import os

from nvdimmfs.cli import umount
from nvdimmfs.cli.errors import MISUSED, CommandError, umount_line
from nvdimmfs.cli.mount_table import absolute
from nvdimmfs.cli.start import PREFIX

_VARIABLE = "NVDIMMFS_DIR"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", help=f"where the machine is mounted (default: ${_VARIABLE})"
    )
    parser.set_defaults(lazy=False)


def run(arguments: argparse.Namespace) -> int:
    """Unmount, wait until the daemon has exited, and remove what a killed daemon has left."""
    directory = arguments.directory or os.environ.get(_VARIABLE)
    if not directory:
        raise CommandError(f"no machine to stop: {_VARIABLE} is not set, and no DIR is given", MISUSED)
    path = absolute(directory)
    if not path.name.startswith(PREFIX):
        raise CommandError(f"{path} is not from `nvdimmfs start`; {umount_line(path)} unmounts it", MISUSED)
    arguments.directory = str(path)
    status = umount.run(arguments)
    with contextlib.suppress(OSError):  # the daemon has removed it
        path.rmdir()
    return status
