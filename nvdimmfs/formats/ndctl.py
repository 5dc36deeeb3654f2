"""The ioctl commands of DIMMs and nvdimm buses: their numbers, the layout of their arguments, their structures.

Numbers and structures are those of include/uapi/linux/ndctl.h, sizes of fields those of the tables in
drivers/nvdimm/bus.c (Linux 6.1).  An argument is a command's inputs, field after field, followed by its outputs.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from typing import ClassVar, Self, TypeAlias, TypeVar

import attrs

from nvdimmfs.formats.structure import Structure
from nvdimmfs.units import U32_MASK

#: The size of a field that cannot be derived from the argument (UINT_MAX).
UNKNOWN_SIZE = 0xFFFF_FFFF

#: A status, a length, or another number of 32 bits.
U32 = struct.Struct("<I")


class Command(enum.IntEnum):
    """ND_CMD_...: the number of a command, and its bit in a command mask."""

    @property
    def word(self) -> str:
        """The command's name in the attribute `commands` (nvdimm_cmd_name, nvdimm_bus_cmd_name)."""
        return self.name.lower()


class DimmCommand(Command):
    """A command of a DIMM."""

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


class BusCommand(Command):
    """A command of a bus."""

    ARS_CAP = 1
    ARS_START = 2
    ARS_STATUS = 3
    CLEAR_ERROR = 4
    CMD_CALL = 10


#: The commands that access labels.
LABEL_COMMANDS = (DimmCommand.GET_SIZE, DimmCommand.GET_DATA, DimmCommand.SET_DATA)

#: The command that wraps a firmware function in a `Package`; DIMMs and buses have it under the same number.
CALL = 10

_CommandT = TypeVar("_CommandT", bound=Command)


def command_mask(commands: Iterable[int]) -> int:
    """One bit for each command."""
    return sum(1 << command for command in set(commands))


def in_order(commands: Iterable[_CommandT]) -> tuple[_CommandT, ...]:
    """Each command once, in the order of the numbers: the order of the attribute `commands`."""
    return tuple(sorted(set(commands)))


#: Families of firmware functions (NVDIMM_FAMILY_..., NVDIMM_BUS_FAMILY_...), and the largest of either; -1 stands for
#: none that the kernel knows.
DIMM_FAMILY_UNKNOWN = -1
DIMM_FAMILY_INTEL = 0
DIMM_FAMILY_HPE1 = 1
DIMM_FAMILY_MICROSOFT = 3
DIMM_FAMILY_HYPERV = 4
MAX_DIMM_FAMILY = 5
BUS_FAMILY_NFIT = 0
BUS_FAMILY_INTEL = 1
MAX_BUS_FAMILY = 1


class Source(enum.Enum):
    """Where the size of a variable field is stored."""

    INPUT = "input"
    OUTPUT = "output"
    ARS_RECORDS = "records"


@attrs.frozen
class Variable:
    """A field whose size is stored in the argument: 32 bits, `offset` bytes into the inputs or the outputs."""

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
        """Bytes of an input field, given the fields before it (nd_cmd_in_size)."""
        size = self.inputs[index]
        return size if isinstance(size, int) else u32(inputs, size.offset)

    def output_size(self, index: int, inputs: bytes | bytearray, outputs: bytes | bytearray, remainder: int = 0) -> int:
        """Bytes of an output field, given the inputs and the outputs before it (nd_cmd_out_size).

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
            return u32(inputs, size.offset)
        value = u32(outputs, size.offset)
        return value if size.source is Source.OUTPUT else _records_size(value, remainder)


def _records_size(length: int, remainder: int) -> int:
    """Bytes of an ARS status after its length field.  Firmware disagrees on whether that counts the status word."""
    if length < U32.size:
        return 0
    if length - U32.size == remainder:
        return remainder
    return (length - 2 * U32.size) & U32_MASK


def u32(data: bytes | bytearray, offset: int = 0) -> int:
    """The 32 bits at `offset`."""
    value: int = U32.unpack_from(data, offset)[0]
    return value


#: Bytes of a package before its payload (struct nd_cmd_pkg).
PACKAGE_SIZE = 64

_CALL_FORMAT = CommandFormat((PACKAGE_SIZE, Variable(Source.INPUT, 16)), (Variable(Source.INPUT, 20),))

#: The arguments of a DIMM's commands; it has no others.
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

#: The arguments of a bus's commands; it has no others.
BUS_FORMATS: dict[int, CommandFormat] = {
    BusCommand.ARS_CAP: CommandFormat((8, 8), (4, 4, 4, 4)),
    BusCommand.ARS_START: CommandFormat((8, 8, 2, 1, 5), (4, 4)),
    BusCommand.ARS_STATUS: CommandFormat((), (4, 4, Variable(Source.ARS_RECORDS, 4))),
    BusCommand.CLEAR_ERROR: CommandFormat((8, 8), (4, 4, 8)),
    BusCommand.CMD_CALL: _CALL_FORMAT,
}


@attrs.frozen
class Package:
    """The head of a CALL, before the payload (struct nd_cmd_pkg).

    Attributes:
        family: the family that the function belongs to.
        function: the function's number within its family.
        size_in: bytes of the payload that go in.
        size_out: bytes of the payload, after those, that may come out.
        reserved: nine words that should be zero.
        firmware_size: bytes that the firmware returned, which may be more than fit.
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

    def argument(self, payload: bytes) -> bytearray:
        """The argument of the CALL: the package and a payload of its size, which begins so and goes on with zeros."""
        return bytearray(self.to_bytes() + payload.ljust(self.size_in + self.size_out, b"\0"))


_PACKAGE = struct.Struct("<QQII9II")

#: Where `Package.firmware_size` lies, in bytes.
FIRMWARE_SIZE_OFFSET = 60


@attrs.frozen
class LabelAreaSize(Structure):
    """GET_SIZE (struct nd_cmd_get_config_size).

    Attributes:
        status: of the firmware; see `CONFIG_LOCKED`.
        config_size: bytes of the label area.
        max_transfer: bytes that one GET_DATA or SET_DATA moves at most.
    """

    layout: ClassVar = struct.Struct("<III")

    status: int = 0
    config_size: int = 0
    max_transfer: int = 0


@attrs.frozen
class LabelRead(Structure):
    """The head of GET_DATA (struct nd_cmd_get_config_data_hdr); `length` bytes of data follow.

    Attributes:
        offset, length: the part of the label area to read, in bytes.
        status: of the firmware.
    """

    layout: ClassVar = struct.Struct("<III")

    offset: int
    length: int
    status: int = 0


@attrs.frozen
class LabelWrite(Structure):
    """The head of SET_DATA (struct nd_cmd_set_config_hdr); `length` bytes of data and the status follow.

    Attributes:
        offset, length: the part of the label area to write, in bytes.
    """

    layout: ClassVar = struct.Struct("<II")

    offset: int
    length: int


#: In GET_SIZE's status: the DIMM is locked (ND_CONFIG_LOCKED, in the extended half of the status).
CONFIG_LOCKED = 1 << 16


@attrs.frozen
class ArsCapability(Structure):
    """ARS_CAP: whether and how a range can be scrubbed (struct nd_cmd_ars_cap).

    Attributes:
        address, length: the range, in bytes.
        status: of the firmware; the extended half lists the kinds of memory that can be scrubbed, see `ARS_SCRUBS`.
        max_ars_out: bytes of the longest ARS status.
        clear_error_unit: errors are cleared in multiples of this many bytes.
        flags: see ACPI.
        reserved: left alone.
    """

    layout: ClassVar = struct.Struct("<QQIIIHH")

    address: int
    length: int
    status: int = 0
    max_ars_out: int = 0
    clear_error_unit: int = 0
    flags: int = 0
    reserved: int = 0


@attrs.frozen
class ArsStart(Structure):
    """ARS_START: begin a scrub (struct nd_cmd_ars_start).

    Attributes:
        address, length: the range, in bytes.
        type: which kind of memory, `ARS_VOLATILE` or `ARS_PERSISTENT`.
        flags: see `ARS_RETURN_PREVIOUS`.
        reserved: left alone.
        status: of the firmware.
        scrub_time: seconds that the scrub takes, as estimated.
    """

    layout: ClassVar = struct.Struct("<QQHB5sII")

    address: int
    length: int
    type: int = 0
    flags: int = 0
    reserved: bytes = bytes(5)
    status: int = 0
    scrub_time: int = 0


#: Kinds of memory to scrub, and the flag that has known errors returned without a new search (ND_ARS_...).
ARS_VOLATILE = 1
ARS_PERSISTENT = 2
ARS_RETURN_PREVIOUS = 2


@attrs.frozen
class ArsStatus(Structure):
    """The head of ARS_STATUS: the result of a scrub (struct nd_cmd_ars_status); records follow.

    Attributes:
        status: of the scrub, see `nvdimmfs.formats.nfit_dsm`.
        out_length: bytes of the whole status, records included.
        address, length: the range that was scrubbed, in bytes.
        restart_address, restart_length: the range to go on with when the records did not fit.
        type: which kind of memory.
        flags: bit 0: there were more records than fit.
        record_count: how many records follow.
    """

    layout: ClassVar = struct.Struct("<IIQQQQHHI")

    status: int = 0
    out_length: int = 0
    address: int = 0
    length: int = 0
    restart_address: int = 0
    restart_length: int = 0
    type: int = 0
    flags: int = 0
    record_count: int = 0


@attrs.frozen
class ArsRecord(Structure):
    """A bad range in an ARS status (struct nd_ars_record).

    Attributes:
        address, length: the range, in bytes.
        handle: of the DIMM.
        reserved: zero.
    """

    layout: ClassVar = struct.Struct("<IIQQ")

    handle: int
    reserved: int
    address: int
    length: int


@attrs.frozen
class ClearError(Structure):
    """CLEAR_ERROR: make bad memory usable again (struct nd_cmd_clear_error).

    Attributes:
        address, length: the range, in bytes.
        status: of the firmware.
        reserved: left alone.
        cleared: bytes that the firmware cleared.
    """

    layout: ClassVar = struct.Struct("<QQI4sQ")

    address: int
    length: int
    status: int = 0
    reserved: bytes = bytes(4)
    cleared: int = 0
