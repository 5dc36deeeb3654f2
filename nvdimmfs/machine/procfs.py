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
from nvdimmfs.mm.meminfo import buddyinfo_text, meminfo_text
from nvdimmfs.mm.memory import Memory


@attrs.frozen
class ProcFile:
    """A read-only file of /proc whose content is generated at each read."""

    text: Callable[[], str]

    def show(self, _subject: object) -> bytes:
        return self.text().encode("ascii")

    def store(self, _subject: object, _data: bytes) -> None:
        """EIO: the file is read-only."""
        raise KernelError(errno.EIO, "the file is read-only")


def create_proc_files(system: System, memory: Memory, modules: Modules, blocks: BlockLayer) -> None:
    """Create /proc/buddyinfo, diskstats, iomem, meminfo, modules, partitions and zoneinfo."""
    texts = {
        "diskstats": blocks.diskstats_text,
        "buddyinfo": lambda: buddyinfo_text(memory),
        "iomem": memory.iomem_text,
        "meminfo": lambda: meminfo_text(memory),
        "modules": modules.proc_text,
        "partitions": blocks.partitions_text,
        "zoneinfo": memory.zoneinfo_text,
    }
    for name, text in texts.items():
        system.proc.add(Attribute(name, 0o444, ProcFile(text), system))
