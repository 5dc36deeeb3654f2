"""`nvdimmfs save`: save a mounted machine with the bytes of its persistent memory in a file."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import attrs

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
    with os.fdopen(source, "rb", buffering=0) as machine, _replacement(file) as copy:
        with accessing(file):
            while piece := _read(machine, directory):
                copy.file.write(piece)
            copy.file.flush()
            os.fsync(copy.file.fileno())
        try:
            read_saved(copy.path)
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
def _replacement(file: Path) -> Iterator[_Part]:
    """A new file, which replaces `file` at the end.  After a failure, and if this process is killed, nothing is left.

    File systems without O_TMPFILE know no file without a name: there a kill leaves one beside `file`.
    """
    part = _without_name(file) or _with_name(file)
    try:
        yield part
        part.give_name(file)
    except BaseException:
        if part.name:
            part.name.unlink(missing_ok=True)
        raise
    finally:
        with contextlib.suppress(OSError):  # what could not be written cannot be written now
            part.file.close()


@attrs.define
class _Part:
    """A new file, and its name if it has one."""

    file: BinaryIO
    name: Path | None = None

    @property
    def path(self) -> Path:
        """A path that leads to it."""
        return self.name or Path(f"/proc/self/fd/{self.file.fileno()}")

    def give_name(self, name: Path) -> None:
        """Replace the file of a name by this one."""
        if self.name is None:
            own = self.path
            self.name = name.with_name(f".{name.name}.{secrets.token_hex(4)}")  # link(2) replaces nothing
            os.link(own, self.name, src_dir_fd=self.file.fileno())  # with a descriptor, os.link() follows the link
        self.name.replace(name)
        self.name = None


def _without_name(file: Path) -> _Part | None:
    """A new file in the folder of another; None where only files with names can be made, or reached."""
    try:
        part = _Part(os.fdopen(os.open(file.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), "wb"))
    except OSError:
        return None
    if part.path.exists():
        return part
    part.file.close()  # there is no /proc
    return None


def _with_name(file: Path) -> _Part:
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from None
    return _Part(os.fdopen(descriptor, "wb"), Path(name))
