"""The payload of a CALL: inputs and outputs of a function."""

from __future__ import annotations

import errno
from typing import TypeVar

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.ndctl import PACKAGE_SIZE, Package
from nvdimmfs.formats.structure import Structure
from nvdimmfs.units import U32_MASK

_StructureT = TypeVar("_StructureT", bound=Structure)


class Payload:
    """Inputs and outputs of a function, one after the other.

    The test platform rarely checks that the payload has room for its reads and writes.  Here, bytes past the end read
    as zeros, and writes to them are lost.

    Attributes:
        size: bytes of both, as the caller declares them.
    """

    def __init__(self, package: Package, argument: bytearray) -> None:
        self.size = (package.size_in + package.size_out) & U32_MASK
        self._argument = argument

    def require(self, size: int) -> None:
        """EINVAL for a shorter payload."""
        if self.size < size:
            raise KernelError(errno.EINVAL, f"a payload of {self.size} bytes where {size} are needed")

    def require_exactly(self, size: int) -> None:
        """EINVAL for a payload of another size."""
        if self.size != size:
            raise KernelError(errno.EINVAL, f"a payload of {self.size} bytes where there should be {size}")

    def get(self, structure: type[_StructureT]) -> _StructureT:
        """The structure at the start of the payload."""
        data = self._argument[PACKAGE_SIZE : PACKAGE_SIZE + structure.size()]
        return structure.from_bytes(data.ljust(structure.size(), b"\0"))

    def put(self, structure: Structure, offset: int = 0) -> None:
        """Write a structure at an offset in bytes."""
        self.write(offset, structure.to_bytes())

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes at an offset."""
        start = PACKAGE_SIZE + offset
        room = max(0, len(self._argument) - start)
        self._argument[start : start + min(room, len(data))] = data[:room]
