"""The BTT driver's files in debugfs: the layouts of the arenas in use (drivers/nvdimm/btt.c, Linux 6.1)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection, Iterator, Mapping

import attrs

from nvdimmfs.core.debugfs import DebugAttribute
from nvdimmfs.drivers.btt import Btt
from nvdimmfs.drivers.btt_arena import Arena
from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.kernel import Kernel
from nvdimmfs.kernfs import Directory

#: Formats: hexadecimal numbers of 64 and of 32 bits, decimal numbers (debugfs_create_x64, _x32, _u32 and _u16).
_X64, _X32, _DECIMAL = "#018x", "#010x", "d"


@attrs.frozen
class _Number:
    """A file that shows a number of an arena.

    Attributes:
        value: the number.
        form: the format.
        since: the first kernel that has the file; None for all.
    """

    value: Callable[[Arena], int]
    form: str
    since: str | None = None

    def show(self, arena: Arena) -> bytes:
        return f"{self.value(arena):{self.form}}\n".encode()

    def store(self, _arena: Arena, _data: bytes) -> None:
        """EACCES: root can open a read-only file of debugfs for writing, but it has no write operation."""
        raise KernelError(errno.EACCES, "the file is read-only")


_NUMBERS: Mapping[str, _Number] = {
    "size": _Number(lambda arena: arena.layout.size, _X64),
    "external_lba_start": _Number(lambda arena: arena.layout.external_lba_start, _X64),
    "internal_nlba": _Number(lambda arena: arena.layout.internal_nlba, _X32),
    "internal_lbasize": _Number(lambda arena: arena.layout.internal_lbasize, _DECIMAL),
    "external_nlba": _Number(lambda arena: arena.layout.external_nlba, _X32),
    "external_lbasize": _Number(lambda arena: arena.layout.external_lbasize, _DECIMAL),
    "nfree": _Number(lambda arena: arena.layout.nfree, _DECIMAL),
    "version_major": _Number(lambda arena: arena.layout.version_major, _DECIMAL),
    "version_minor": _Number(lambda arena: arena.layout.version_minor, _DECIMAL),
    "nextoff": _Number(lambda arena: arena.layout.nextoff, _X64),
    "infooff": _Number(lambda arena: arena.layout.infooff, _X64),
    "dataoff": _Number(lambda arena: arena.layout.dataoff, _X64),
    "mapoff": _Number(lambda arena: arena.layout.mapoff, _X64),
    "logoff": _Number(lambda arena: arena.layout.logoff, _X64),
    "info2off": _Number(lambda arena: arena.layout.info2off, _X64),
    "flags": _Number(lambda arena: arena.layout.flags, _X32),
    "log_index_0": _Number(lambda arena: arena.log_index[0], _DECIMAL, since="4.15"),
    "log_index_1": _Number(lambda arena: arena.log_index[1], _DECIMAL, since="4.15"),
}


@attrs.frozen
class _ArenaFiles:
    """The files of an arena's folder, created when a reader looks them up."""

    arena: Arena
    kernel: Kernel
    directories: int = 0

    @property
    def names(self) -> Collection[str]:
        return [name for name, number in _NUMBERS.items() if number.since is None or self.kernel.has(number.since)]

    def instantiate(self) -> Iterator[DebugAttribute[Arena]]:
        return (DebugAttribute(name, 0o444, _NUMBERS[name], self.arena) for name in self.names)


@attrs.frozen
class _ArenaFolders:
    """The folders of a BTT, created when a reader looks them up: a petabyte has two thousand arenas."""

    arenas: tuple[Arena, ...]
    kernel: Kernel

    @property
    def names(self) -> Collection[str]:
        return [f"arena{number}" for number in range(len(self.arenas))]

    @property
    def directories(self) -> int:
        return len(self.arenas)

    def instantiate(self) -> Iterator[Directory]:
        for name, arena in zip(self.names, self.arenas, strict=True):
            folder = Directory(name)
            folder.populate_lazily(_ArenaFiles(arena, self.kernel))
            yield folder


def show_arenas(root: Directory, name: str, btt: Btt, kernel: Kernel) -> None:
    """Add the folder of a BTT device to the driver's (btt_debugfs_init)."""
    root.add(Directory(name)).populate_lazily(_ArenaFolders(tuple(btt.arenas), kernel))
