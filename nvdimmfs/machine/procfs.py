"""The files of /proc that show physical memory, modules and disks."""

from __future__ import annotations

import errno
import itertools
import re
from collections.abc import Callable
from typing import TypeAlias

import attrs

from nvdimmfs.block.disk import BlockLayer
from nvdimmfs.core.module import Modules
from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.partition_name import disk_of_partition
from nvdimmfs.kernfs import RecordFile
from nvdimmfs.mm.meminfo import buddyinfo_text, meminfo_text
from nvdimmfs.mm.memory import Memory

#: Divides the text of a file into the records that the kernel produces one by one.
Divide: TypeAlias = Callable[[str], list[str]]

#: Where the lines of a zone begin.
_ZONE = re.compile(r"^(?=Node )", re.MULTILINE)


@attrs.frozen
class ProcFile:
    """A read-only file of /proc whose content is generated at each read.

    Attributes:
        text: generates all of it, for root or for another user.
        divide: divides it into records.
    """

    text: Callable[[bool], str]
    divide: Divide

    def records(self, *, privileged: bool) -> list[bytes]:
        return [record.encode("ascii") for record in self.divide(self.text(privileged))]

    def show(self, _subject: object) -> bytes:
        return self.text(True).encode("ascii")

    def store(self, _subject: object, _data: bytes) -> None:
        """EIO: the file is read-only."""
        raise KernelError(errno.EIO, "the file is read-only")


def create_proc_files(system: System, memory: Memory, modules: Modules, blocks: BlockLayer) -> None:
    """Create /proc/buddyinfo, diskstats, iomem, meminfo, modules, partitions and zoneinfo."""
    files = {
        "diskstats": ProcFile(lambda _: blocks.diskstats_text(), _disks),
        "buddyinfo": ProcFile(lambda _: buddyinfo_text(memory), _nodes),
        "iomem": ProcFile(memory.iomem_text, _lines),
        "meminfo": ProcFile(lambda _: meminfo_text(memory), _whole),
        "modules": ProcFile(lambda _: modules.proc_text(), _lines),
        "partitions": ProcFile(lambda _: blocks.partitions_text(), _lines_below_head),
        "zoneinfo": ProcFile(lambda _: memory.zoneinfo_text(), _nodes),
    }
    for name, file in files.items():
        system.proc.add(RecordFile(name, 0o444, file, system))


def _whole(text: str) -> list[str]:
    """One record (single_open)."""
    return [text] if text else []


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _lines_below_head(text: str) -> list[str]:
    """Lines, the first with the head of the table and the empty line below it (show_partition_start)."""
    lines = _lines(text)
    return ["".join(lines[:3]), *lines[3:]] if lines else []


def _disks(text: str) -> list[str]:
    """The lines of a disk and its partitions (diskstats_show)."""
    records: list[str] = []
    for line in _lines(text):
        if records and disk_of_partition(line.split()[2]):
            records[-1] += line
        else:
            records.append(line)
    return records


def _nodes(text: str) -> list[str]:
    """The lines of each node (walk_zones_in_node)."""
    parts = filter(None, _ZONE.split(text))
    return ["".join(zones) for _, zones in itertools.groupby(parts, lambda part: part.split(",")[0])]
