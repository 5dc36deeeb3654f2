"""Files that consist of records, such as lines, which each read produces as long as there is room."""

from __future__ import annotations

from typing import Protocol

from nvdimmfs.kernfs.attribute import Attribute


class RecordSource(Protocol):
    """What produces the records of a file."""

    def records(self, *, privileged: bool) -> list[bytes]:
        """All records, in order.

        Args:
            privileged: whether root has opened the file, whom the kernel shows more.
        """

    def show(self, subject: object) -> bytes:
        """All records in one text."""

    def store(self, subject: object, data: bytes) -> None:
        """Refuse a write: `KernelError`."""


class RecordFile(Attribute[object]):
    """A file of /proc that the kernel iterates over (seq_open).

    Attributes:
        source: what produces its records.
        size, block_size: st_size and st_blksize (proc_get_inode and proc_fill_super, fs/proc, Linux 6.1).
    """

    __slots__ = ("source",)

    size = 0
    block_size = 1024

    def __init__(self, name: str, permissions: int, source: RecordSource, subject: object) -> None:
        super().__init__(name, permissions, source, subject)
        self.source = source
