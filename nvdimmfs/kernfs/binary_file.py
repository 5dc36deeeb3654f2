"""Files over bytes of a fixed size, such as those of block devices."""

from __future__ import annotations

import stat
from typing import Protocol

from nvdimmfs.kernfs.node import Node


class Bytes(Protocol):
    """Random-access bytes of a fixed size, such as those of a block device."""

    @property
    def size(self) -> int:
        """Capacity in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes; the caller stays within `size`."""

    def view(self, offset: int, length: int) -> bytes | memoryview:
        """As `read`, but perhaps not a copy: it is valid until the next write."""

    def write(self, offset: int, data: bytes) -> None:
        """Replace the bytes at `offset`; the caller stays within `size`."""

    def flush(self) -> None:
        """Return when all data written so far would survive a power failure."""


class BinaryFile(Node):
    """A file over bytes of a fixed size, such as a block device in dev/.

    Attributes:
        data: the bytes.
        block_size: required alignment, in bytes, of offset and length of a request that bypasses the page cache.
        direct_data: the bytes as such a request (O_DIRECT) reads and writes them.
    """

    __slots__ = ("block_size", "data", "direct_data")

    def __init__(
        self, name: str, permissions: int, data: Bytes, block_size: int = 1, direct_data: Bytes | None = None
    ) -> None:
        super().__init__(name, stat.S_IFREG | permissions)
        self.data = data
        self.block_size = block_size
        self.direct_data = data if direct_data is None else direct_data

    @property
    def size(self) -> int:
        return self.data.size
