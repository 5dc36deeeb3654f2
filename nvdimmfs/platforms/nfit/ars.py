"""Address range scrub (ARS) on the side of the platform, which reports bad memory after a scrub.

Address range scrub: ACPI 6.4, section 9.20.7.  Behaviour is that of tools/testing/nvdimm/test/nfit.c (Linux 6.1).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import ClassVar, TypeVar

import attrs

from nvdimmfs.core.clock import Clock
from nvdimmfs.errors import KernelError
from nvdimmfs.formats.ndctl import (
    ARS_PERSISTENT,
    U32,
    ArsCapability,
    ArsRecord,
    ArsStart,
    ArsStatus,
    BusCommand,
    ClearError,
)
from nvdimmfs.formats.nfit_dsm import ARS_BUSY, ARS_DONE, ARS_SCRUBS, ARS_START_BUSY, INVALID, SUCCESS, UNSUPPORTED
from nvdimmfs.formats.structure import Structure
from nvdimmfs.kernels.durations import RANGE_SCRUB, SECOND
from nvdimmfs.nd.badrange import Badrange
from nvdimmfs.nd.command import Outcome
from nvdimmfs.units import U64_MASK

#: The unit in which errors are cleared, bytes (NFIT_TEST_CLEAR_ERR_UNIT).
CLEAR_ERROR_UNIT = 256

#: The largest number of records in a status: 4 KiB of them.
MAX_RECORDS = 170

#: Bytes of the longest ARS status.
_LONGEST_STATUS = ArsStatus.size() + MAX_RECORDS * ArsRecord.size()

#: Bytes of each command's outputs.
_OUTPUTS = {
    BusCommand.ARS_CAP: 16,
    BusCommand.ARS_START: 8,
    BusCommand.ARS_STATUS: _LONGEST_STATUS,
    BusCommand.CLEAR_ERROR: 16,
}


class AddressRangeScrub:
    """The platform's implementation of the four commands.

    Attributes:
        errors: the bad ranges.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.errors = Badrange()
        self._ends = 0
        self._result = ArsStatus(ARS_DONE, ArsStatus.size()).to_bytes()

    @property
    def running(self) -> bool:
        """Whether a scrub runs.  Its result is determined at the start, and returned after the end."""
        return self._clock.now < self._ends

    def control(self, command: int, argument: bytearray) -> Outcome:
        """Execute a command.  ENOTTY for others, EINVAL for an argument that is too short or invalid."""
        execute = self._commands.get(command)
        if execute is None:
            raise KernelError(errno.ENOTTY, f"no command {command}")
        return execute(self, argument)

    def _capability(self, argument: bytearray) -> Outcome:
        request = _decode(ArsCapability, argument)
        answer = attrs.evolve(
            request, status=ARS_SCRUBS, max_ars_out=_LONGEST_STATUS, clear_error_unit=CLEAR_ERROR_UNIT
        )
        answer.write_to(argument)
        return Outcome()

    def _start(self, argument: bytearray) -> Outcome:
        request = _decode(ArsStart, argument)
        if self.running:
            attrs.evolve(request, status=ARS_START_BUSY).write_to(argument)
            return Outcome(status=-errno.EBUSY)
        self.start(request.address, request.length)
        attrs.evolve(request, status=ARS_DONE, scrub_time=RANGE_SCRUB.nanoseconds // SECOND).write_to(argument)
        return Outcome()

    def start(self, address: int, length: int) -> None:
        """Scrub a range; the result is what is bad in it now."""
        last = (address + length - 1) & U64_MASK
        found = list(self.errors.within(address, last))[:MAX_RECORDS]
        size = ArsStatus.size() + len(found) * ArsRecord.size()
        head = ArsStatus(ARS_DONE, size, address, length, type=ARS_PERSISTENT, record_count=len(found))
        self._result = head.to_bytes() + b"".join(ArsRecord(0, 0, *error).to_bytes() for error in found)
        self._ends = self._clock.now + RANGE_SCRUB.nanoseconds

    def _status(self, argument: bytearray) -> Outcome:
        if len(argument) < len(self._result):
            raise KernelError(errno.EINVAL, f"the status has {len(self._result)} bytes")
        if not self.running:
            argument[: len(self._result)] = self._result
            return Outcome()
        argument[:] = ArsStatus(ARS_BUSY, ArsStatus.size()).to_bytes().ljust(len(argument), b"\0")
        return Outcome(status=-errno.EBUSY)

    def _clear(self, argument: bytearray) -> Outcome:
        request = _decode(ClearError, argument)
        if (request.address | request.length) % CLEAR_ERROR_UNIT:
            raise KernelError(errno.EINVAL, f"errors are cleared in units of {CLEAR_ERROR_UNIT} bytes")
        self.errors.forget(request.address, request.length)
        attrs.evolve(request, status=SUCCESS, cleared=request.length).write_to(argument)
        return Outcome()

    def evaluate(self, family: int, function: int, payload: bytes) -> bytes | None:  # noqa: ARG002  # a bus has one
        """Execute the same commands as _DSM functions, see `nfit.command.DsmEvaluator`."""
        if function not in self._commands:
            return U32.pack(UNSUPPORTED)
        argument = bytearray(payload) + bytes(_OUTPUTS[BusCommand(function)])
        try:
            self.control(function, argument)
        except KernelError:
            return U32.pack(INVALID)
        if function == BusCommand.ARS_STATUS:
            return bytes(argument[: len(self._result)])
        return bytes(argument[len(payload) :])

    _commands: ClassVar[dict[int, Callable[[AddressRangeScrub, bytearray], Outcome]]] = {
        BusCommand.ARS_CAP: _capability,
        BusCommand.ARS_START: _start,
        BusCommand.ARS_STATUS: _status,
        BusCommand.CLEAR_ERROR: _clear,
    }


_StructureT = TypeVar("_StructureT", bound=Structure)


def _decode(structure: type[_StructureT], argument: bytearray) -> _StructureT:
    """The argument of a command; EINVAL when it is too short."""
    if len(argument) < structure.size():
        raise KernelError(errno.EINVAL, f"an argument of {len(argument)} bytes where {structure.size()} are needed")
    return structure.from_bytes(argument)
