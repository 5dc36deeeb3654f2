"""The payload of a CALL, in which functions of the test platform find their inputs and leave their outputs."""

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

    def get(self, structure: type[_StructureT]) -> _StructureT:
        """The structure that the payload begins with."""
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
