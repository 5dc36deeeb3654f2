"""The cookies that link labels to their interleave set (acpi_nfit_init_interleave_set, drivers/acpi/nfit/core.c, 6.1).

A cookie is a checksum over one record for each DIMM of the set.  All numbers are those of the NFIT, little-endian; the
attributes under nfit/ show vendor and serial with their bytes reversed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from uuid import UUID

import attrs

from nvdimmfs.formats.fletcher import fletcher64
from nvdimmfs.formats.label import PMEM_RANGE_GUID

#: struct nfit_set_info and struct nfit_set_info2.
_RECORD_1_1 = struct.Struct("<QI4x")
_RECORD_1_2 = struct.Struct("<QIHHB31x")

_U64 = struct.Struct("<Q")


@attrs.frozen(kw_only=True)
class InterleavedDimm:
    """The entry of one DIMM of an interleave set in the NFIT.

    Attributes:
        region_offset: of the memory device's region mapping, bytes; firmware gives each DIMM of a set another.
        serial_number, vendor_id, manufacturing_date, manufacturing_location: of the DIMM's control region.
    """

    region_offset: int
    serial_number: int
    vendor_id: int
    manufacturing_date: int = 0
    manufacturing_location: int = 0

    @property
    def identity(self) -> tuple[int, int, int, int]:
        """The values that distinguish DIMMs."""
        return self.serial_number, self.vendor_id, self.manufacturing_date, self.manufacturing_location


@attrs.frozen(kw_only=True)
class InterleaveSet:
    """A region's description of its interleave set (struct nd_interleave_set).

    Attributes:
        type_guid: the type of the range.
        cookie1: stored in labels of version 1.1.
        cookie2: stored in labels of version 1.2.
        altcookie: stored in labels 1.1 by kernels that sorted by the bytes of the offset; accepted, never written.
        positions: for each mapping, in the order in which the DIMMs were given, its place in the set.
    """

    type_guid: UUID = PMEM_RANGE_GUID
    cookie1: int
    cookie2: int
    altcookie: int
    positions: tuple[int, ...]

    @classmethod
    def of(cls, dimms: Sequence[InterleavedDimm], type_guid: UUID = PMEM_RANGE_GUID) -> InterleaveSet:
        """The set of these DIMMs, in the order of the region's mappings.

        DIMMs with the same region offset, which are a mistake of the firmware, stay in this order; the kernel's sort
        may exchange them.
        """
        by_offset = sorted(dimms, key=lambda dimm: dimm.region_offset)
        by_bytes = sorted(dimms, key=lambda dimm: _U64.pack(dimm.region_offset))
        return cls(
            type_guid=type_guid,
            cookie1=fletcher64(b"".join(map(_record_1_1, by_offset))),
            cookie2=fletcher64(b"".join(map(_record_1_2, by_offset))),
            altcookie=fletcher64(b"".join(map(_record_1_1, by_bytes))),
            positions=_positions(dimms, by_offset),
        )


def _positions(dimms: Sequence[InterleavedDimm], by_offset: Sequence[InterleavedDimm]) -> tuple[int, ...]:
    """DIMMs are found again by their identity; where two have the same, the first gets the last place, and others 0."""
    identities = [dimm.identity for dimm in dimms]
    positions = [0] * len(dimms)
    for place, dimm in enumerate(by_offset):
        positions[identities.index(dimm.identity)] = place
    return tuple(positions)


def _record_1_1(dimm: InterleavedDimm) -> bytes:
    return _RECORD_1_1.pack(dimm.region_offset, dimm.serial_number)


def _record_1_2(dimm: InterleavedDimm) -> bytes:
    return _RECORD_1_2.pack(
        dimm.region_offset,
        dimm.serial_number,
        dimm.vendor_id,
        dimm.manufacturing_date,
        dimm.manufacturing_location,
    )
