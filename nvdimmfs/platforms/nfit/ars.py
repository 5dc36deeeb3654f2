"""A platform that knows where its memory is bad and tells it after a scrub, as the kernel's test platform does.

Address range scrub: ACPI 6.4, section 9.20.7.  Behaviour is that of tools/testing/nvdimm/test/nfit.c (Linux 6.1).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import ClassVar

from nvdimmfs.core.clock import Clock
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.ndctl import BusCommand
from nvdimmfs.kernels.durations import RANGE_SCRUB, SECOND
from nvdimmfs.nd.badrange import Badrange
from nvdimmfs.nd.command import Outcome
from nvdimmfs.platforms.nfit.command import (
    ARS_BUSY,
    ARS_DONE,
    ARS_SCRUBS,
    ARS_START_BUSY,
    INVALID,
    UNSUPPORTED,
)
from nvdimmfs.units import U64_MASK

#: Errors are cleared so many bytes at a time (NFIT_TEST_CLEAR_ERR_UNIT).
CLEAR_ERROR_UNIT = 256

#: What a scrub finds is told in at most so many records: 4 KiB of them.
MAX_RECORDS = 170

#: The kinds of scrub: that of persistent memory.
_PERSISTENT = 2

#: What ARS_START and CLEAR_ERROR begin with: address and length.
_RANGE = struct.Struct("<QQ")
#: Outputs of ARS_CAP (status, longest ARS status, unit of clearing), of ARS_START (status; seconds that it takes), of
#: CLEAR_ERROR (status; bytes cleared), each with where it lies in the argument.
_CAPABILITY, _CAPABILITY_OFFSET = struct.Struct("<III"), 16
_STARTED, _STARTED_OFFSET = struct.Struct("<II"), 24
_CLEAR_STATUS_OFFSET = 16
_CLEARED, _CLEARED_OFFSET = struct.Struct("<Q"), 24
_STATUS_WORD = struct.Struct("<I")
#: ARS_STATUS: status, bytes in all, address, length, restart address and length, kind, flags, number of records.
_STATUS = struct.Struct("<IIQQQQHHI")
_RECORD = struct.Struct("<IIQQ")


#: Bytes that come out of each command.
_OUTPUTS = {
    BusCommand.ARS_CAP: 16,
    BusCommand.ARS_START: 8,
    BusCommand.ARS_STATUS: _STATUS.size + MAX_RECORDS * _RECORD.size,
    BusCommand.CLEAR_ERROR: 16,
}


class AddressRangeScrub:
    """What the platform does with the four commands.

    Attributes:
        errors: where memory is bad.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.errors = Badrange()
        self._ends = 0
        self._result = _STATUS.pack(ARS_DONE, _STATUS.size, 0, 0, 0, 0, 0, 0, 0)

    @property
    def running(self) -> bool:
        """Whether a scrub runs.  What it finds was decided when it began, and is returned when it has ended."""
        return self._clock.now < self._ends

    def control(self, command: int, argument: bytearray) -> Outcome:
        """Execute a command.  ENOTTY for others, EINVAL for an argument that is too short or that makes no sense."""
        execute = self._commands.get(command)
        if execute is None:
            raise KernelError(errno.ENOTTY, f"no command {command}")
        return execute(self, argument)

    def _capability(self, argument: bytearray) -> Outcome:
        longest = _STATUS.size + MAX_RECORDS * _RECORD.size
        _CAPABILITY.pack_into(argument, _CAPABILITY_OFFSET, ARS_SCRUBS, longest, CLEAR_ERROR_UNIT)
        return Outcome()

    def _start(self, argument: bytearray) -> Outcome:
        if self.running:
            _STATUS_WORD.pack_into(argument, _STARTED_OFFSET, ARS_START_BUSY)
            return Outcome(status=-errno.EBUSY)
        self.start(*_RANGE.unpack_from(argument))
        _STARTED.pack_into(argument, _STARTED_OFFSET, ARS_DONE, RANGE_SCRUB.nanoseconds // SECOND)
        return Outcome()

    def start(self, address: int, length: int) -> None:
        """Scrub a range: what is known to be bad in it now is what will be told."""
        last = (address + length - 1) & U64_MASK
        found = list(self.errors.within(address, last))[:MAX_RECORDS]
        size = _STATUS.size + len(found) * _RECORD.size
        head = _STATUS.pack(ARS_DONE, size, address, length, 0, 0, _PERSISTENT, 0, len(found))
        self._result = head + b"".join(_RECORD.pack(0, 0, *error) for error in found)
        self._ends = self._clock.now + RANGE_SCRUB.nanoseconds

    def _status(self, argument: bytearray) -> Outcome:
        if len(argument) < len(self._result):
            raise KernelError(errno.EINVAL, f"the status has {len(self._result)} bytes")
        if not self.running:
            argument[: len(self._result)] = self._result
            return Outcome()
        argument[:] = _STATUS.pack(ARS_BUSY, _STATUS.size, 0, 0, 0, 0, 0, 0, 0).ljust(len(argument), b"\0")
        return Outcome(status=-errno.EBUSY)

    def _clear(self, argument: bytearray) -> Outcome:
        address, length = _RANGE.unpack_from(argument)
        if (address | length) % CLEAR_ERROR_UNIT:
            raise KernelError(errno.EINVAL, f"errors are cleared {CLEAR_ERROR_UNIT} bytes at a time")
        self.errors.forget(address, length)
        _STATUS_WORD.pack_into(argument, _CLEAR_STATUS_OFFSET, 0)
        _CLEARED.pack_into(argument, _CLEARED_OFFSET, length)
        return Outcome()

    def evaluate(self, family: int, function: int, payload: bytes) -> bytes | None:  # noqa: ARG002  # a bus has one
        """The same commands as functions of firmware, see `nfit.command.DsmEvaluator`."""
        if function not in self._commands:
            return _STATUS_WORD.pack(UNSUPPORTED)
        argument = bytearray(payload) + bytes(_OUTPUTS[BusCommand(function)])
        try:
            self.control(function, argument)
        except KernelError:
            return _STATUS_WORD.pack(INVALID)
        if function == BusCommand.ARS_STATUS:
            return bytes(argument[: len(self._result)])
        return bytes(argument[len(payload) :])

    _commands: ClassVar[dict[int, Callable[[AddressRangeScrub, bytearray], Outcome]]] = {
        BusCommand.ARS_CAP: _capability,
        BusCommand.ARS_START: _start,
        BusCommand.ARS_STATUS: _status,
        BusCommand.CLEAR_ERROR: _clear,
    }
