"""The files of /proc that show physical memory, modules and disks."""

from __future__ import annotations

import errno
from collections.abc import Callable

import attrs

from nvdimmfs.block.disk import BlockLayer
from nvdimmfs.core.module import Modules
from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Attribute
from nvdimmfs.mm.memory import Memory


@attrs.frozen
class ProcFile:
    """A file of /proc: read only, made anew at each read."""

    text: Callable[[], str]

    def show(self, _subject: object) -> bytes:
        return self.text().encode("ascii")

    def store(self, _subject: object, _data: bytes) -> None:
        """EIO: nothing in /proc here can be written."""
        raise KernelError(errno.EIO, "cannot be written")


def create_proc_files(system: System, memory: Memory, modules: Modules, blocks: BlockLayer) -> None:
    """Make iomem, modules, partitions and zoneinfo."""
    texts = {
        "iomem": memory.iomem_text,
        "modules": modules.proc_text,
        "partitions": blocks.proc_text,
        "zoneinfo": memory.zoneinfo_text,
    }
    for name, text in texts.items():
        system.proc.add(Attribute(name, 0o444, ProcFile(text), system))
