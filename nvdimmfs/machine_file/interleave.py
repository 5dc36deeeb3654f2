"""The interleave sets of a described machine."""

from __future__ import annotations

import attrs

from nvdimmfs.formats.interleave import InterleavedDimm, InterleaveSet
from nvdimmfs.machine_file.model import BusDescription, DimmDescription, MappingDescription, RangeDescription


def interleave_set(bus: BusDescription, range_: RangeDescription) -> InterleaveSet:
    """Return the interleave set of a completed range, whose cookies tie labels to DIMMs; without DIMMs they are 0.

    The range's own cookie, if it has one, replaces those of all versions of labels.
    """
    computed = InterleaveSet.of([_member(mapping, bus.dimm(mapping.dimm)) for mapping in range_.mappings])
    return attrs.evolve(computed, cookie1=range_.cookie, cookie2=range_.cookie) if range_.cookie else computed


def _member(mapping: MappingDescription, dimm: DimmDescription) -> InterleavedDimm:
    return InterleavedDimm(
        region_offset=mapping.region_offset,
        serial_number=swapped(dimm.serial, 4),
        vendor_id=swapped(dimm.vendor, 2),
        manufacturing_date=swapped(max(dimm.manufacturing_date, 0), 2),
        manufacturing_location=max(dimm.manufacturing_location, 0),
    )


def swapped(number: int, size: int) -> int:
    """Reverse the bytes of a number of `size` bytes: converts between the value in sysfs and that in the NFIT."""
    return int.from_bytes(number.to_bytes(size, "big"), "little")
