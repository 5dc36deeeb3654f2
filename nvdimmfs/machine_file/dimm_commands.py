"""Commands to the DIMMs of a machine that is recorded: ioctls on /dev/nmemN, which need root.

Only commands that change nothing are sent: those that read labels, health and versions.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Protocol

import attrs

from nvdimmfs.formats.ndctl import (
    CALL,
    PACKAGE_SIZE,
    DimmCommand,
    LabelAreaSize,
    LabelRead,
    Package,
)

#: The bits of an ioctl's number: it reads and writes its argument, and is one of nvdimm devices (_IOWR, ND_IOCTL).
_READ_WRITE = 3 << 30
_ND_IOCTL = ord("N") << 8
_SIZE_SHIFT = 16


class DimmDevices(Protocol):
    """Device nodes of DIMMs."""

    def ioctl(self, name: str, request: int, argument: bytearray) -> None:
        """Make an ioctl on a device node, which changes the argument in place.  OSError."""


@attrs.frozen
class DeviceFolder:
    """The device nodes in a folder such as /dev."""

    folder: Path

    def ioctl(self, name: str, request: int, argument: bytearray) -> None:
        descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.ioctl(descriptor, request, argument, True)
        finally:
            os.close(descriptor)


@attrs.frozen
class DimmCommands:
    """Sends commands to one DIMM.

    Attributes:
        name: nmemN.
    """

    _devices: DimmDevices
    name: str

    def call(self, family: int, function: int, inputs: bytes, outputs: int) -> bytes | None:
        """Return the outputs of a function, status first; None when it is refused or has a status other than 0."""
        argument = Package(family, function, len(inputs), outputs).argument(inputs)
        if not self._send(CALL, PACKAGE_SIZE, argument):
            return None
        answer = bytes(argument[PACKAGE_SIZE + len(inputs) :])
        return None if any(answer[:4]) else answer

    def label_area_size(self) -> int:
        """Bytes of the label area; 0 when the DIMM does not report it."""
        argument = bytearray(LabelAreaSize.size())
        if not self._send(DimmCommand.GET_SIZE, len(argument), argument):
            return 0
        answer = LabelAreaSize.from_bytes(argument)
        return 0 if answer.status & 0xFFFF else answer.config_size

    def labels(self, length: int) -> bytes:
        """The first bytes of the label area; empty when they cannot be read."""
        argument = bytearray(LabelRead(0, length).to_bytes() + bytes(length))
        if not self._send(DimmCommand.GET_DATA, LabelRead.size(), argument):
            return b""
        answer = LabelRead.from_bytes(argument)
        return b"" if answer.status else bytes(argument[LabelRead.size() :])

    def _send(self, command: int, size: int, argument: bytearray) -> bool:
        """Send a command, whose number contains the bytes of its structure without the variable part."""
        request = _READ_WRITE | size << _SIZE_SHIFT | _ND_IOCTL | command
        try:
            self._devices.ioctl(self.name, request, argument)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                raise
            return False
        return True
