"""The commands of DIMMs and buses, and which bytes of an ioctl's argument are what.

Numbers and layouts are those of include/uapi/linux/ndctl.h, sizes of fields those of drivers/nvdimm/bus.c (Linux 6.1).
An argument is the command's inputs, field after field, followed by its outputs.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from typing import Self, TypeAlias

import attrs

#: "Not to be told": a field whose size does not follow from what is there (UINT_MAX).
UNKNOWN_SIZE = 0xFFFF_FFFF

#: Lengths are kept in as many bits, and what overflows is lost.
U32_MASK = 0xFFFF_FFFF


class DimmCommand(enum.IntEnum):
    """ND_CMD_... of a DIMM; the names are the words of nmemN/commands."""

    SMART = 1
    SMART_THRESH = 2
    FLAGS = 3
    GET_SIZE = 4
    GET_DATA = 5
    SET_DATA = 6
    EFFECT_SIZE = 7
    EFFECT_LOG = 8
    VENDOR = 9
    CMD_CALL = 10


class BusCommand(enum.IntEnum):
    """ND_CMD_... of a bus; the names are the words of ndbusN/commands."""

    ARS_CAP = 1
    ARS_START = 2
    ARS_STATUS = 3
    CLEAR_ERROR = 4
    CMD_CALL = 10


#: Both kinds of device take it: a function of the firmware, wrapped in a `Package`.
CALL = 10


def command_mask(numbering: type[DimmCommand | BusCommand], words: Iterable[str]) -> int:
    """The commands named by `words`, a bit each."""
    return sum(1 << numbering[word.upper()] for word in set(words))


class Source(enum.Enum):
    """Where the size of a field is found."""

    INPUT = "input"
    OUTPUT = "output"
    ARS_RECORDS = "records"


@attrs.frozen
class Variable:
    """A field whose size the argument says itself: 32 bits, `offset` bytes into the inputs or the outputs."""

    source: Source
    offset: int


Size: TypeAlias = "int | Variable"


@attrs.frozen
class CommandFormat:
    """The fields of one command's argument (struct nd_cmd_desc).

    Attributes:
        inputs: bytes of each field that the command reads.
        outputs: bytes of each field that it writes.
    """

    inputs: tuple[Size, ...] = ()
    outputs: tuple[Size, ...] = ()

    def input_size(self, index: int, inputs: bytes | bytearray) -> int:
        """Bytes of an input field, as the fields before it say (nd_cmd_in_size)."""
        size = self.inputs[index]
        return size if isinstance(size, int) else _u32(inputs, size.offset)

    def output_size(self, index: int, inputs: bytes | bytearray, outputs: bytes | bytearray, remainder: int = 0) -> int:
        """Bytes of an output field, as the inputs and the outputs before it say (nd_cmd_out_size).

        Args:
            index: which field.
            inputs: the inputs.
            outputs: the outputs, at least up to this field.
            remainder: bytes of output from this field on, 0 when that is not known yet.
        """
        size = self.outputs[index]
        if isinstance(size, int):
            return size
        if size.source is Source.INPUT:
            return _u32(inputs, size.offset)
        value = _u32(outputs, size.offset)
        return value if size.source is Source.OUTPUT else _records_size(value, remainder)


def _records_size(length: int, remainder: int) -> int:
    """Bytes of an ARS status after its length; firmware disagrees on whether that counts the status before it."""
    if length < _U32.size:
        return 0
    if length - _U32.size == remainder:
        return remainder
    return (length - 2 * _U32.size) & U32_MASK


_U32 = struct.Struct("<I")


def _u32(data: bytes | bytearray, offset: int) -> int:
    (value,) = _U32.unpack_from(data, offset)
    assert isinstance(value, int)
    return value


#: Bytes before a package's payload (struct nd_cmd_pkg).
PACKAGE_SIZE = 64

_CALL_FORMAT = CommandFormat((PACKAGE_SIZE, Variable(Source.INPUT, 16)), (Variable(Source.INPUT, 20),))

#: What a DIMM's commands look like; others it does not have.
DIMM_FORMATS: dict[int, CommandFormat] = {
    DimmCommand.SMART: CommandFormat((), (4, 128)),
    DimmCommand.SMART_THRESH: CommandFormat((), (4, 8)),
    DimmCommand.FLAGS: CommandFormat((), (4, 4)),
    DimmCommand.GET_SIZE: CommandFormat((), (4, 4, 4)),
    DimmCommand.GET_DATA: CommandFormat((4, 4), (4, Variable(Source.INPUT, 4))),
    DimmCommand.SET_DATA: CommandFormat((4, 4, Variable(Source.INPUT, 4)), (4,)),
    DimmCommand.VENDOR: CommandFormat((4, 4, Variable(Source.INPUT, 4)), (4, 4, Variable(Source.OUTPUT, 4))),
    DimmCommand.CMD_CALL: _CALL_FORMAT,
}

#: What a bus's commands look like.
BUS_FORMATS: dict[int, CommandFormat] = {
    BusCommand.ARS_CAP: CommandFormat((8, 8), (4, 4, 4, 4)),
    BusCommand.ARS_START: CommandFormat((8, 8, 2, 1, 5), (4, 4)),
    BusCommand.ARS_STATUS: CommandFormat((), (4, 4, Variable(Source.ARS_RECORDS, 4))),
    BusCommand.CLEAR_ERROR: CommandFormat((8, 8), (4, 4, 8)),
    BusCommand.CMD_CALL: _CALL_FORMAT,
}


@attrs.frozen
class Package:
    """What precedes the payload of a CALL (struct nd_cmd_pkg).

    Attributes:
        family: whose functions.
        function: which of them.
        size_in: bytes of payload that go in.
        size_out: bytes of payload, after those, that may come out.
        reserved: nine words that should be zero.
        firmware_size: bytes that the firmware had to say.
    """

    family: int
    function: int
    size_in: int
    size_out: int
    reserved: tuple[int, ...] = (0,) * 9
    firmware_size: int = 0

    @classmethod
    def from_bytes(cls, data: bytes | bytearray) -> Self:
        """Decode the first 64 bytes of `data`."""
        family, function, size_in, size_out, *reserved, firmware_size = _PACKAGE.unpack_from(data)
        return cls(family, function, size_in, size_out, tuple(reserved), firmware_size)

    def to_bytes(self) -> bytes:
        """The 64 bytes."""
        return _PACKAGE.pack(
            self.family, self.function, self.size_in, self.size_out, *self.reserved, self.firmware_size
        )


_PACKAGE = struct.Struct("<QQII9II")

#: Where a package says how much the firmware had to say.
FIRMWARE_SIZE_OFFSET = 60


@attrs.frozen
class Outcome:
    """What a provider made of a command that it did not refuse.

    Attributes:
        result: the ioctl's result: bytes of the argument that were left alone.
        status: what the firmware's status means, 0 or a negative errno; who asks by ioctl reads the status himself.
    """

    result: int = 0
    status: int = 0
