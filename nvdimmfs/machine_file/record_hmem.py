"""The recorder's part for soft reserved memory: the ranges of the platform devices hmem.N."""

from __future__ import annotations

from collections.abc import Iterator

from nvdimmfs.machine_file.model import RangeDescription
from nvdimmfs.machine_file.sysfs import AttributeReader
from nvdimmfs.machine_file.values import TO_BE_CHOSEN

_PLATFORM = "devices/platform"


def soft_reserved_ranges(reader: AttributeReader) -> tuple[RangeDescription, ...]:
    """Return the ranges that dax_hmem has registered, in the order of their devices.

    A dax region does not show where it begins: that is known from its devices, if they have all of it.
    """
    return tuple(
        RangeDescription(size=size, start=_start(reader, f"{_PLATFORM}/{name}", size))
        for name in reader.sysfs.numbered(_PLATFORM, "hmem.")
        if (size := reader.number(f"{_PLATFORM}/{name}/dax_region/size", 0))
    )


def _start(reader: AttributeReader, folder: str, size: int) -> int:
    """The first address of a region; `TO_BE_CHOSEN` if its devices do not reach from its beginning to its end."""
    spans = list(_spans(reader, folder))
    first = min((start for start, _ in spans), default=0)
    last = max((end for _, end in spans), default=0)
    return first if last - first == size else TO_BE_CHOSEN


def _spans(reader: AttributeReader, folder: str) -> Iterator[tuple[int, int]]:
    """First address and end of each range of the devices of a region."""
    for device in reader.sysfs.numbered(folder, "dax"):
        for mapping in reader.sysfs.numbered(f"{folder}/{device}", "mapping"):
            start, end = (reader.number(f"{folder}/{device}/{mapping}/{name}", -1) for name in ("start", "end"))
            if 0 <= start < end:
                yield start, end + 1


def memmap_entry(size: str, start: str) -> str:
    """An entry of memmap= that makes RAM soft reserved: type 0xefffffff in place of type 1."""
    return f"{size}%{start}-1+0xefffffff"
