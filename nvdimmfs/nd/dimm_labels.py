"""Access to a DIMM's label area through the DIMM's commands (drivers/nvdimm/dimm_devs.c, Linux 6.1)."""

from __future__ import annotations

import errno
from collections.abc import Callable

from nvdimmfs.errors import KernelError
from nvdimmfs.formats.ndctl import U32, DimmCommand, LabelAreaSize, LabelRead, LabelWrite
from nvdimmfs.media.base import Media
from nvdimmfs.nd.command import Outcome


class DimmLabels(Media):
    """The label area as a medium; each access is one or more commands to the DIMM.

    A command that the DIMM refuses raises `KernelError`, as can the constructor, which reads the area's size
    (nvdimm_init_nsarea).  ENXIO without an area, EIO when the DIMM reports a failure.

    Attributes:
        locked: the DIMM reported that it is locked, together with the size.
        max_transfer: the largest number of bytes that one command transfers.
    """

    def __init__(self, name: str, send: Callable[[int, bytearray], Outcome]) -> None:
        """`name`: the DIMM's; `send`: execute one of its commands, which works on its argument in place."""
        self._name = name
        self._execute = send
        argument = bytearray(LabelAreaSize.size())
        refusal = self._refusal_of_size(argument)
        self.locked = refusal == errno.EACCES
        if refusal and not self.locked:
            raise KernelError(refusal, f"{name} does not report the size of its label area")
        area = LabelAreaSize.from_bytes(argument)
        self._size, self.max_transfer = area.config_size, area.max_transfer
        if not self._size or not self.max_transfer:
            raise KernelError(errno.ENXIO, f"{name} has no label area")

    def _refusal_of_size(self, argument: bytearray) -> int:
        """Read the size; returns the errno when that fails.  The size may be valid even so."""
        try:
            return -self._execute(DimmCommand.GET_SIZE, argument).status
        except KernelError as refusal:
            return refusal.errno

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        self.require_range(offset, length)
        # The layout itself, not the class, as a label area takes many of these.
        return b"".join(
            self._get(LabelRead.layout.pack(first, count, 0) + bytes(count))[LabelRead.size() :]
            for first, count in self._transfers(offset, length)
        )

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self.require_range(offset, len(data))
        for first, count in self._transfers(offset, len(data)):
            piece = bytes(data[first - offset : first - offset + count])
            argument = bytearray(LabelWrite(first, count).to_bytes() + piece + bytes(U32.size))
            self._send(DimmCommand.SET_DATA, argument)

    def zero(self, offset: int, length: int) -> None:
        self.write(offset, bytes(length))

    def flush(self) -> None:
        """Nothing to do: a DIMM stores what it is sent."""

    def close(self) -> None:
        """Nothing to do: the area belongs to the DIMM."""

    def _transfers(self, offset: int, length: int) -> list[tuple[int, int]]:
        """(offset, length) of each command's share."""
        end = offset + length
        return [(first, min(self.max_transfer, end - first)) for first in range(offset, end, self.max_transfer)]

    def _get(self, argument: bytes) -> bytes:
        """The bytes that a command read.  A number of bytes that it left out is taken for an errno."""
        buffer = bytearray(argument)
        if left_out := self._send(DimmCommand.GET_DATA, buffer):
            raise KernelError(left_out, f"{self._name} left out {left_out} bytes")
        return bytes(buffer)

    def _send(self, command: DimmCommand, argument: bytearray) -> int:
        outcome = self._execute(command, argument)
        if outcome.status < 0:
            raise KernelError(-outcome.status, f"{self._name} failed {command.name}")
        return outcome.result
