"""The drawing of a mounted machine, from the file `layout` of its debug folder."""

from __future__ import annotations

from collections.abc import Iterator

from nvdimmfs.cli.drawing.bars import Bar, Segment, label_area_bar, region_bars
from nvdimmfs.cli.drawing.model import (
    RAM,
    Bus,
    Entry,
    EntryKind,
    MachineDrawing,
    Module,
    Way,
    marked_entry,
    pieces_of,
    with_ram,
)
from nvdimmfs.formats.layout_document import (
    DimmDocument,
    LayoutDocument,
    NamedRangeDocument,
    RegionDocument,
    SoftReservedDocument,
)
from nvdimmfs.units import exact_size

#: The provider of the bus of what memmap= marks.
_LEGACY_PROVIDER = "e820"


def drawing_of(document: LayoutDocument, title: str) -> MachineDrawing:
    """The drawing of a machine as it is now."""
    ram = [(each["start"], each["start"] + each["size"]) for each in document["system_ram"]]
    others = [*map(_region, document["regions"]), *map(_soft_reserved, document["soft_reserved"])]
    entries = with_ram(ram, others)
    return MachineDrawing(
        title=title,
        description=f"Linux {document['kernel']}",
        buses=tuple(_buses(document)),
        modules=(_ram(document, entries), *(_dimm(dimm, entries) for dimm in document["dimms"])),
        entries=entries,
        label_areas=tuple(label_area_bar(dimm) for dimm in document["dimms"] if dimm["parts"]),
    )


def _buses(document: LayoutDocument) -> Iterator[Bus]:
    providers = {region["bus"]: region["provider"] for region in document["regions"]}
    names = dict.fromkeys([*providers, *(dimm["bus"] for dimm in document["dimms"])])
    for name in sorted(names, key=lambda name: (len(name), name)):
        yield Bus(name, providers.get(name, ""))


def _ram(document: LayoutDocument, entries: tuple[Entry, ...]) -> Module:
    size = sum(way.size for entry in entries for way in entry.ways if way.module == RAM)
    struct_pages = sum(
        namespace["struct_pages"]["ram"]
        for region in document["regions"]
        for namespace in region["namespaces"]
        if namespace["struct_pages"]
    )
    notes = (f"{exact_size(struct_pages)} hold struct pages of pmem",) if struct_pages else ()
    return Module(RAM, "", "", size, pieces_of(RAM, size, entries), notes=notes)


def _dimm(dimm: DimmDocument, entries: tuple[Entry, ...]) -> Module:
    name = dimm["name"]
    ways = [way for entry in entries for way in entry.ways if way.module == name]
    size = dimm["capacity"] or max((way.start + way.size for way in ways), default=0)
    notes = () if dimm["enabled"] else ("disabled",)
    slots = dimm["labels"] + dimm["available_slots"]
    used = dimm["labels"] / max(1, slots)
    pieces = pieces_of(name, size, entries)
    return Module(name, "", dimm["bus"], size, pieces, dimm["size"], _labels(dimm, slots), used, notes)


def _labels(dimm: DimmDocument, slots: int) -> str:
    if not dimm["parts"]:
        return "not read"
    return f"v{dimm['version']}, {dimm['labels']} of {slots} in use" if dimm["version"] else "no labels"


def _region(region: RegionDocument) -> Entry:
    name, start, size, bus = region["name"], region["start"], region["size"], region["bus"]
    bars = tuple(region_bars(region))
    read_only = ("read-only",) if region["read_only"] else ()
    if region["provider"] == _LEGACY_PROVIDER:
        return marked_entry(name, start, size, bus, ("marked by memmap=", *read_only), region["without_memory"], bars)
    notes = ("volatile" if region["volatile"] else "pmem", *read_only)
    ways = tuple(Way(mapping["dimm"], mapping["start"], mapping["size"]) for mapping in region["mappings"])
    return Entry(name, start, size, EntryKind.PERSISTENT, bus, ways, notes, bars)


def _soft_reserved(range_: SoftReservedDocument) -> Entry:
    """A range for the dax bus, its devices as bars."""
    name, start, size = range_["name"], range_["start"], range_["size"]
    bars = [_dax_bar(name, device) for device in range_["devices"]]
    notes = ("soft reserved", "for the dax bus")
    return Entry(name, start, size, EntryKind.SOFT_RESERVED, "", (), notes, tuple(bars), from_ram=True)


def _dax_bar(region: str, device: NamedRangeDocument) -> Bar:
    segment = Segment("data", "data", device["start"], device["size"])
    return Bar(f"{device['name']} in {region}", (), device["start"], device["size"], (segment,))
