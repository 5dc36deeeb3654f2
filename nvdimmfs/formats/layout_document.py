"""The layout of a machine's memory as a JSON document, which docs/reference/layout.md describes.

All numbers of bytes, addresses and offsets are in bytes; an address is a physical one.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

#: `format` and `version` of the document.  The version changes when a program that reads it would have to.
FORMAT = "nvdimmfs layout"
VERSION = 1


class RangeDocument(TypedDict):
    """`size` bytes from address `start` on."""

    start: int
    size: int


class RamDocument(TypedDict):
    """Bytes of RAM, and those of them that are free."""

    total: int
    free: int


class NamedRangeDocument(RangeDocument):
    """A range with the name of its user."""

    name: str


class SoftReservedDocument(NamedRangeDocument):
    """A range that firmware has set aside for the dax bus, and the dax devices in it."""

    devices: list[NamedRangeDocument]


class PartDocument(RangeDocument):
    """A part of a namespace, or of a label area, where `start` is an offset."""

    kind: str
    arena: NotRequired[int]
    slots: NotRequired[int]


class DimmDocument(TypedDict):
    """A DIMM and its label area."""

    name: str
    bus: str
    enabled: bool
    capacity: int | None
    version: str | None
    size: int
    labels: int
    available_slots: int
    parts: list[PartDocument]


class MappingDocument(RangeDocument):
    """The part of a DIMM that belongs to a region; `start` is an offset on the DIMM."""

    dimm: str


class StructPagesDocument(TypedDict):
    """Bytes of struct pages in RAM and in persistent memory."""

    ram: int
    pmem: int


class NamespaceDocument(NamedRangeDocument):
    """A namespace and its parts."""

    device: str | None
    driver: str | None
    disk: str | None
    struct_pages: StructPagesDocument | None
    mode: NotRequired[str]
    align: NotRequired[int]
    sector_size: NotRequired[int]
    parts: list[PartDocument]


class RegionDocument(NamedRangeDocument):
    """A region and its namespaces."""

    bus: str
    provider: str
    volatile: bool
    read_only: bool
    without_memory: int
    mappings: list[MappingDocument]
    free: list[RangeDocument]
    namespaces: list[NamespaceDocument]


class LayoutDocument(TypedDict):
    """The whole machine."""

    format: str
    version: int
    kernel: str
    ram: RamDocument
    system_ram: list[RangeDocument]
    soft_reserved: list[SoftReservedDocument]
    regions: list[RegionDocument]
    dimms: list[DimmDocument]
