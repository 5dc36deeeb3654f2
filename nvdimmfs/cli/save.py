"""`nvdimmfs save`: save a mounted machine with the bytes of its persistent memory in a file."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

from nvdimmfs.cli.errors import MISUSED, CommandError, accessing
from nvdimmfs.cli.mount_table import absolute, require_machine

#: The file in which a mounted machine offers itself.
SAVED = "sys/kernel/debug/nvdimmfs/saved"

#: Bytes that are copied at a time.
_PIECE = 1 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("directory", metavar="DIR", help="where the machine is mounted")
    parser.add_argument("file", metavar="FILE", help="the file to write; one that exists is replaced when all is saved")


def run(arguments: argparse.Namespace) -> int:
    """Copy the machine into a file beside FILE, check it, and give it the name."""
    from nvdimmfs.machine.saved import SavedMachineError, read_saved

    directory, file = absolute(arguments.directory), Path(arguments.file).absolute()
    if file.exists() and not file.is_file():
        raise CommandError(f"{file} is not a regular file, and would be replaced by one", MISUSED)
    require_machine(directory)
    source = _open(directory)
    _write_back_memory(directory)
    with os.fdopen(source, "rb", buffering=0) as machine, _replacement(file) as part:
        with accessing(file), part.open("wb") as copy:
            while piece := _read(machine, directory):
                copy.write(piece)
            copy.flush()
            os.fsync(copy.fileno())
        try:
            read_saved(part)
        except SavedMachineError as error:
            raise CommandError(f"{directory}: the machine was not saved completely: {error}") from None
    return 0


def _read(machine: FileIO, directory: Path) -> bytes:
    with accessing(directory):
        return machine.read(_PIECE)


def _open(directory: Path) -> int:
    try:
        return os.open(directory / SAVED, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENOENT:
            problem = "was mounted by another version of nvdimmfs: unmount it and mount it again"
        elif error.errno in (errno.EACCES, errno.EPERM):
            problem = "belongs to another user, who alone may save it"
        else:
            raise
        raise CommandError(f"{directory} {problem}") from None


def _write_back_memory(directory: Path) -> None:
    """Have the machine receive what processes have stored to device DAX, of which the kernel has no request yet."""
    for memory in directory.glob("dev/dax*"):
        with contextlib.suppress(OSError), memory.open("rb") as file:  # it may have no driver, or go
            os.fsync(file.fileno())


@contextlib.contextmanager
def _replacement(file: Path) -> Iterator[Path]:
    """A new file in the same folder, which replaces `file` at the end, or is removed after a failure."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from None
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
