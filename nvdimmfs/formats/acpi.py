"""ACPI tables about memory, bytes <-> attrs classes: NFIT, SRAT and SLIT (ACPI 6.4, sections 5.2.25, 5.2.16, 5.2.17).

The maker of a table is that of QEMU's firmware.  Fields that the specification reserves are zeros.
"""

from __future__ import annotations

import enum
import struct
import uuid
from collections.abc import Iterable, Iterator
from typing import ClassVar

import attrs

from nvdimmfs.formats.structure import Structure

#: The header of every table, and the place of its checksum.
_HEADER = struct.Struct("<4sIBB6s8sI4sI")
_CHECKSUM_AT = 9
_MAKER = (b"BOCHS ", b"BXPC    ", 1, b"BXPC", 1)

#: What stands between the header and the first structure.
_NFIT_RESERVED = bytes(4)
_SRAT_RESERVED = struct.pack("<IQ", 1, 0)

#: Type and length of a structure, in an NFIT and in an SRAT.
_NFIT_HEADER = struct.Struct("<HH")
_AFFINITY_HEADER = struct.Struct("<BB")

#: Memory attributes of persistent memory: write-back cacheable, non-volatile (UEFI 2.10, EFI_MEMORY_WB and _NV).
WRITE_BACK = 0x8
NON_VOLATILE = 0x8000


class AcpiTableError(ValueError):
    """Bytes that are not a table, or not a complete one; str() is the reason."""


def table(signature: str, body: bytes, revision: int = 1) -> bytes:
    """Return a table with its header and checksum."""
    length = _HEADER.size + len(body)
    data = bytearray(_HEADER.pack(signature.encode(), length, revision, 0, *_MAKER) + body)
    data[_CHECKSUM_AT] = -sum(data) & 0xFF
    return bytes(data)


def body_of(signature: str, data: bytes) -> bytes:
    """Return what follows the header of a table.  AcpiTableError."""
    if len(data) < _HEADER.size:
        raise AcpiTableError(f"{len(data)} bytes are too few for the header of a table")
    found, length, *_ = _HEADER.unpack_from(data)
    if found != signature.encode():
        raise AcpiTableError(f"the signature is {found!r}, not {signature}")
    if length < _HEADER.size or length > len(data):
        raise AcpiTableError(f"it has {len(data)} bytes, and its header {length}")
    if sum(data[:length]) & 0xFF:
        raise AcpiTableError("the checksum is wrong")
    return data[_HEADER.size : length]


def revision_of(data: bytes) -> int:
    """Return the revision of a table whose header `body_of` accepts."""
    return int(_HEADER.unpack_from(data)[2])


def _joined(header: struct.Struct, entries: Iterable[NfitEntry | Affinity]) -> bytes:
    return joined_structures(header, ((entry.type, entry.to_bytes()) for entry in entries))


def joined_structures(header: struct.Struct, contents: Iterable[tuple[int, bytes]]) -> bytes:
    """Return the bytes of structures, each after a header with its type and length."""
    return b"".join(header.pack(number, header.size + len(data)) + data for number, data in contents)


def split_structures(header: struct.Struct, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the content of each structure.  AcpiTableError."""
    at = 0
    while at + header.size <= len(data):
        number, length = header.unpack_from(data, at)
        if length < header.size or at + length > len(data):
            raise AcpiTableError(f"a structure of type {number} ends beyond the table")
        yield number, data[at + header.size : at + length]
        at += length


class TableStructure(Structure):
    """A structure of an NFIT or an SRAT, without type and length.

    Attributes:
        type: the number of its type.
    """

    __slots__ = ()

    type: ClassVar[int]


class RangeType(enum.Enum):
    """The kinds of ranges, by their GUIDs (ACPI 6.4, table 5.132)."""

    VOLATILE = uuid.UUID("7305944f-fdda-44e3-b16c-3f22d252e5d0")
    PMEM = uuid.UUID("66f0d379-b4f3-4074-ac43-0d3318b78cdb")
    VOLATILE_DISK = uuid.UUID("77ab535a-45fc-624b-5560-f7b281d1f96e")
    VOLATILE_CD = uuid.UUID("3d5abd30-4175-87ce-6d64-d2ade523c4bb")
    PERSISTENT_DISK = uuid.UUID("5cea02c9-4d07-69d3-269f-4496fbe096f9")
    PERSISTENT_CD = uuid.UUID("08018188-42cd-bb48-100f-5387d53ded3d")


#: Flags of a range: it is of use only while the memory is online, and its proximity domain is valid.
RANGE_FOR_HOT_ADD = 1
RANGE_HAS_DOMAIN = 2


@attrs.frozen
class SystemPhysicalRange(TableStructure):
    """A range of system physical addresses; `guid` is the bytes of a `RangeType`."""

    type = 0
    layout = struct.Struct("<HH4xI16sQQQ")

    index: int
    flags: int
    proximity_domain: int
    guid: bytes
    start: int
    length: int
    attributes: int

    @property
    def kind(self) -> RangeType:
        """Its kind.  ValueError for another one."""
        return RangeType(uuid.UUID(bytes_le=self.guid))


@attrs.frozen
class MemoryDevice(TableStructure):
    """The part of a DIMM that is in a range; with range index 0, a DIMM that is in none."""

    type = 1
    layout = struct.Struct("<IHHHHQQQHHH2x")

    handle: int
    physical_id: int
    region_id: int
    range_index: int
    control_region_index: int
    length: int
    region_offset: int
    dpa: int
    interleave_index: int
    interleave_ways: int
    state: int


@attrs.frozen
class ControlRegion(TableStructure):
    """The identity of a DIMM.  Vendor to revision and serial number are bytes, in the order of the SPD."""

    type = 4
    layout = struct.Struct("<H2s2s2s2s2s2sBB2s2x4sHHQ4Q8x")

    index: int
    vendor: bytes
    device: bytes
    revision: bytes
    subsystem_vendor: bytes
    subsystem_device: bytes
    subsystem_revision: bytes
    valid_fields: int
    manufacturing_location: int
    manufacturing_date: bytes
    serial: bytes
    interface_code: int
    windows: int = 0
    window_size: int = 0
    command_offset: int = 0
    command_size: int = 0
    status_offset: int = 0
    status_size: int = 0


@attrs.frozen
class Interleave:
    """The lines of a DIMM in a set of several: `offsets` has the place in the set of each of its lines, in lines."""

    index: int
    line_size: int
    offsets: tuple[int, ...]

    type: ClassVar[int] = 2
    _layout: ClassVar[struct.Struct] = struct.Struct("<H2xII")

    def to_bytes(self) -> bytes:
        """The bytes of the structure, without type and length."""
        head = self._layout.pack(self.index, len(self.offsets), self.line_size)
        return head + struct.pack(f"<{len(self.offsets)}I", *self.offsets)

    @classmethod
    def from_bytes(cls, data: bytes) -> Interleave:
        """Decode it."""
        index, count, line_size = cls._layout.unpack_from(data)
        return cls(index, line_size, struct.unpack_from(f"<{count}I", data, cls._layout.size))


@attrs.frozen
class FlushHints:
    """The addresses to which a store flushes a DIMM's queues."""

    handle: int
    addresses: tuple[int, ...]

    type: ClassVar[int] = 6
    _layout: ClassVar[struct.Struct] = struct.Struct("<IH6x")

    def to_bytes(self) -> bytes:
        """The bytes of the structure, without type and length."""
        return self._layout.pack(self.handle, len(self.addresses)) + struct.pack(
            f"<{len(self.addresses)}Q", *self.addresses
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> FlushHints:
        """Decode it."""
        handle, count = cls._layout.unpack_from(data)
        return cls(handle, struct.unpack_from(f"<{count}Q", data, cls._layout.size))


#: Capabilities of the platform: what reaches persistence on a power failure, a bit each.
FLUSHES_CPU_CACHE = 1
FLUSHES_MEMORY_CONTROLLER = 2


@attrs.frozen
class PlatformCapabilities(TableStructure):
    """What the platform does on a power failure; `highest` is the number of the last valid bit."""

    type = 7
    layout = struct.Struct("<B3xI4x")

    highest: int
    capabilities: int


NfitEntry = SystemPhysicalRange | MemoryDevice | ControlRegion | Interleave | FlushHints | PlatformCapabilities

_NFIT_TYPES: tuple[type[NfitEntry], ...] = (
    SystemPhysicalRange,
    MemoryDevice,
    ControlRegion,
    Interleave,
    FlushHints,
    PlatformCapabilities,
)


def nfit(entries: Iterable[NfitEntry], revision: int = 1) -> bytes:
    """Return an NFIT with these structures, in order."""
    return table("NFIT", _NFIT_RESERVED + _joined(_NFIT_HEADER, entries), revision)


def nfit_entries(data: bytes) -> Iterator[NfitEntry]:
    """Yield the structures of an NFIT whose types are known, in order.  AcpiTableError."""
    known = {each.type: each for each in _NFIT_TYPES}
    for number, content in split_structures(_NFIT_HEADER, body_of("NFIT", data)[len(_NFIT_RESERVED) :]):
        if number in known:
            try:
                yield known[number].from_bytes(content)
            except struct.error:
                raise AcpiTableError(f"a structure of type {number} is too short") from None


#: Flags of memory in an SRAT: it is there, it is persistent (ACPI 6.4, section 5.2.16.2).
MEMORY_ENABLED = 1
MEMORY_NON_VOLATILE = 4


@attrs.frozen
class ProcessorAffinity(TableStructure):
    """The node of a processor, which has the local APIC of that id."""

    type = 0
    layout = struct.Struct("<BBI8x")

    domain: int
    apic_id: int
    flags: int = 1


@attrs.frozen
class MemoryAffinity(TableStructure):
    """The node of a range of memory."""

    type = 1
    layout = struct.Struct("<I2xQQ4xI8x")

    domain: int
    start: int
    length: int
    flags: int


Affinity = ProcessorAffinity | MemoryAffinity


def srat(entries: Iterable[Affinity]) -> bytes:
    """Return an SRAT with these structures, in order."""
    return table("SRAT", _SRAT_RESERVED + _joined(_AFFINITY_HEADER, entries))


def srat_entries(data: bytes) -> Iterator[Affinity]:
    """Yield the structures of an SRAT whose types are known, in order.  AcpiTableError."""
    known: dict[int, type[Affinity]] = {each.type: each for each in (ProcessorAffinity, MemoryAffinity)}
    for number, content in split_structures(_AFFINITY_HEADER, body_of("SRAT", data)[len(_SRAT_RESERVED) :]):
        if number in known and len(content) >= known[number].size():
            yield known[number].from_bytes(content)


def slit(distances: tuple[tuple[int, ...], ...]) -> bytes:
    """Return a SLIT with the distance of each node to each, row by row."""
    return table("SLIT", struct.pack("<Q", len(distances)) + bytes(each for row in distances for each in row))


def slit_distances(data: bytes) -> tuple[tuple[int, ...], ...]:
    """Return the distances of a SLIT.  AcpiTableError."""
    body = body_of("SLIT", data)
    count = int.from_bytes(body[:8], "little")
    if len(body) < 8 + count * count:
        raise AcpiTableError(f"the distances of {count} nodes are not complete")
    return tuple(tuple(body[8 + row * count : 8 + (row + 1) * count]) for row in range(count))
