"""The files of /proc that show physical memory."""

from __future__ import annotations

import errno
from collections.abc import Callable

import attrs

from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Attribute
from nvdimmfs.mm.memory import Memory


@attrs.frozen
class ProcFile:
    """A file of /proc: read only, made anew at each read."""

    text: Callable[[Memory], str]

    def show(self, memory: Memory) -> bytes:
        return self.text(memory).encode("ascii")

    def store(self, _memory: Memory, _data: bytes) -> None:
        """EIO: nothing in /proc here can be written."""
        raise KernelError(errno.EIO, "cannot be written")


def create_proc_files(system: System, memory: Memory) -> None:
    """Make iomem and zoneinfo."""
    for name, text in (("iomem", Memory.iomem_text), ("zoneinfo", Memory.zoneinfo_text)):
        system.proc.add(Attribute(name, 0o444, ProcFile(text), memory))
