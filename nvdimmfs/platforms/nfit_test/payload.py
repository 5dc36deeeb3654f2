"""The payload of a CALL, in which functions of the test platform find their inputs and leave their outputs."""

from __future__ import annotations

import errno
import struct

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.ndctl import PACKAGE_SIZE, Package
from nvdimmfs.units import U32_MASK


class Payload:
    """Inputs and outputs of a function, one after the other.

    The test platform hardly ever looks whether there is room for what it reads and writes.  What lies past the end
    reads as zeros here, and what is written there is lost.

    Attributes:
        size: bytes of both, as the caller says.
    """

    def __init__(self, package: Package, argument: bytearray) -> None:
        self.size = (package.size_in + package.size_out) & U32_MASK
        self._argument = argument

    def require(self, size: int) -> None:
        """EINVAL when there are less bytes."""
        if self.size < size:
            raise KernelError(errno.EINVAL, f"a payload of {self.size} bytes where {size} are needed")

    def require_exactly(self, size: int) -> None:
        """EINVAL when there are more or less bytes."""
        if self.size != size:
            raise KernelError(errno.EINVAL, f"a payload of {self.size} bytes where there should be {size}")

    def get(self, layout: struct.Struct, offset: int = 0) -> tuple[int, ...]:
        """The fields at an offset."""
        data = self._argument[PACKAGE_SIZE + offset : PACKAGE_SIZE + offset + layout.size]
        return layout.unpack(data.ljust(layout.size, b"\0"))

    def read(self, offset: int, length: int) -> bytes:
        """The bytes at an offset."""
        return bytes(self._argument[PACKAGE_SIZE + offset : PACKAGE_SIZE + offset + length].ljust(length, b"\0"))

    def put(self, layout: struct.Struct, offset: int, *values: int) -> None:
        """Write fields at an offset."""
        self.write(offset, layout.pack(*values))

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes at an offset."""
        start = PACKAGE_SIZE + offset
        room = max(0, len(self._argument) - start)
        self._argument[start : start + min(room, len(data))] = data[:room]


#: A status, or another number of 32 bits.
WORD = struct.Struct("<I")
