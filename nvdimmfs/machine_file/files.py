"""Machine files: TOML that describes a machine with persistent memory.

`load_machine` accepts the name of a machine that comes with this package, or the path of a file.  The classes are in
`nvdimmfs.machine_file.model`, and docs/how-to/machines.md explains them to users.
"""

from __future__ import annotations

import functools
import importlib.resources
import os
from collections.abc import Iterable
from importlib.resources.abc import Traversable
from pathlib import Path

import attrs

from nvdimmfs.errors import printable
from nvdimmfs.machine_file.checks import checked
from nvdimmfs.machine_file.defaults import completed
from nvdimmfs.machine_file.errors import MachineFileError
from nvdimmfs.machine_file.model import DimmDescription, MachineDescription
from nvdimmfs.machine_file.reader import NotAMachine, read_machine
from nvdimmfs.machine_file.type_checks import require

SUFFIX = ".toml"

#: The folder of the machines in an installed package, and in a clone of the repository, beside the package.
_INSTALLED = "machines"
_IN_THE_REPOSITORY = "mountpoint-fixtures"

#: Size limit of a machine file, in bytes; far more than any machine needs.
_LARGEST_FILE = 16 << 20
#: How a ZIP archive begins, which saved machines are.
_ARCHIVE = b"PK\x03\x04"


def load_machine(name_or_path: str | Path) -> MachineDescription:
    """Return the machine with that name or in that file, checked and completed.

    A text without a slash and without .toml is a name.  MachineFileError.
    """
    return parse_machine(*_source(name_or_path))


def load_as_written(name_or_path: str | Path) -> MachineDescription:
    """Return that machine, checked but not completed, so that options can still change what defaults depend on."""
    return _read(*_source(name_or_path))


def is_name(text: str) -> bool:
    """Whether a text names a machine of this package rather than a file."""
    return "/" not in text and not text.endswith(SUFFIX)


def machines() -> dict[str, Traversable]:
    """The machines that come with this package, by name, in alphabetical order."""
    files = {
        file.name.removesuffix(SUFFIX): file
        for file in (_folder().iterdir() if _folder().is_dir() else ())
        if file.name.endswith(SUFFIX)
    }
    return dict(sorted(files.items()))


def parse_machine(text: str, file: str, name: str = "", folder: Path | None = None) -> MachineDescription:
    """Return the machine that a text describes, checked and completed.

    Args:
        text: TOML.
        file: the name of the text in errors.
        name: the machine's name if the text has none.
        folder: the base of relative paths in the text; the working directory when None.

    Raises:
        MachineFileError: with all errors.
    """
    return completed(_read(text, file, name, folder or Path()))


def _source(name_or_path: str | Path) -> tuple[str, str, str, Path]:
    """The text of a machine, the name of its file, its own name, and the folder that paths in it start from."""
    require("a machine", name_or_path, (str, os.PathLike), "a name or a path")
    if isinstance(name_or_path, str) and is_name(name_or_path):
        file = _folder().joinpath(f"{name_or_path}{SUFFIX}")
        if not file.is_file():
            known = ", ".join(machines()) or "none"
            such = f" such as ./{name_or_path}" if name_or_path else ""
            shown = name_or_path or repr("")
            raise MachineFileError([f"{shown}: unknown machine; the machines are {known}; or write a path{such}"])
        return _text_of_name(name_or_path), str(file), name_or_path, Path()
    path = Path(name_or_path)
    return _text_of(path), str(path), path.stem, path.parent


@functools.cache
def _text_of_name(name: str) -> str:
    """The text of a machine that comes with this package, which does not change while this process runs."""
    return _folder().joinpath(f"{name}{SUFFIX}").read_text()


def _read(text: str, file: str, name: str, folder: Path) -> MachineDescription:
    """Return the machine that a text describes, checked but not completed."""
    machine = _parsed(text, file, name, folder)
    if any(dimm.label.file for bus in machine.buses for dimm in bus.dimms):
        _check(machine, file)  # again, because these files may have changed
    return machine


@functools.lru_cache(maxsize=16)
def _parsed(text: str, file: str, name: str, folder: Path) -> MachineDescription:
    """As `_read`, once for each text: a test suite boots few machines many times."""
    try:
        machine = _named(read_machine(text), name, folder)
    except NotAMachine as error:
        raise MachineFileError(error_lines(file, error.problems)) from None
    _check(machine, file)
    return machine


def _check(machine: MachineDescription, file: str) -> None:
    """MachineFileError when the machine cannot exist."""
    _, found = checked(machine)
    if found:
        raise MachineFileError(error_lines(file, found))


@functools.cache
def _folder() -> Traversable:
    """The folder of the machines that come with this package."""
    package = importlib.resources.files("nvdimmfs")
    installed = package.joinpath(_INSTALLED)
    return installed if installed.is_dir() else Path(str(package)).parent / _IN_THE_REPOSITORY


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
        if data.startswith(_ARCHIVE):
            raise MachineFileError([f"{path}: not a machine file, but an archive; a saved machine needs --restore"])
        if len(data) > _LARGEST_FILE:
            raise MachineFileError([f"{path}: not a machine file: it is larger than {_LARGEST_FILE >> 20} MiB"])
        return data.decode()
    except OSError as error:
        raise MachineFileError([f"{path}: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise MachineFileError(
            [f"{path}: not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}"]
        ) from None


def error_lines(file: str, found: Iterable[tuple[str, str]]) -> list[str]:
    """The errors of a file, one line each: the file's name, the key path and the message."""
    return [printable(" ".join(f"{file}: {path}{': ' if path else ''}{message}".split())) for path, message in found]


def _named(machine: MachineDescription, name: str, folder: Path) -> MachineDescription:
    """Set the default name, and resolve the paths of label files."""
    buses = tuple(
        attrs.evolve(bus, dimms=tuple(_resolved(dimm, folder) for dimm in bus.dimms)) for bus in machine.buses
    )
    return attrs.evolve(machine, name=machine.name or name, buses=buses)


def with_absolute_files(machine: MachineDescription) -> MachineDescription:
    """The same machine for a process with another working directory."""
    return _named(machine, machine.name, Path.cwd())


def _resolved(dimm: DimmDescription, folder: Path) -> DimmDescription:
    if not dimm.label.file:
        return dimm
    return attrs.evolve(dimm, label=attrs.evolve(dimm.label, file=str(folder / dimm.label.file)))
