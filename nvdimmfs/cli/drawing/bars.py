"""Bars: what lies where in a namespace or in a label area.

A mounted machine reports it in the file `layout` of its debug folder (`nvdimmfs.machine.layout`).  A namespace is one
bar; when it is a BTT of several arenas, arenas that are divided alike are one segment of it, and each kind of arena has
a bar of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeGuard

from nvdimmfs.cli.sizes import rough_size
from nvdimmfs.formats.layout_document import (
    FORMAT,
    VERSION,
    DimmDocument,
    LayoutDocument,
    NamespaceDocument,
    RangeDocument,
    RegionDocument,
    StructPagesDocument,
)
from nvdimmfs.units import exact_size

#: The kinds of segment beside those of the document: a run of arenas, a part of a region without namespace, slots.
ARENAS = "arenas"
FREE = "free"
MIXED_SLOTS = "mixed_slots"

#: A label area of more parts than these is shown in less detail.
MOST_PARTS_OF_A_LABEL_AREA = 24

#: What each kind of segment is called.
WORDS = {
    "idle": "not in use",
    "raw": "raw bytes",
    "data": "data",
    "system_ram": "System RAM (kmem)",
    "start_pad": "start padding",
    "info": "info block",
    "memmap": "memmap",
    "padding": "alignment padding",
    "end_trunc": "end truncation",
    "map": "map",
    "log": "log",
    "info_copy": "info block copy",
    "unused": "unused",
    "index": "index block",
    FREE: "no namespace",
}


class Segment(NamedTuple):
    """A piece of a bar: bytes of one kind from physical address `start` on."""

    kind: str
    name: str
    start: int
    size: int


class Bar(NamedTuple):
    """A range and its segments, which fill it.

    Attributes:
        title: what it is.
        notes: further facts, a few words each.
        start: first physical address.
        size: bytes.
        segments: in address order.
        detail: it shows a segment of the bar before it.
        brief: the most important notes, in a few words.
    """

    title: str
    notes: tuple[str, ...]
    start: int
    size: int
    segments: tuple[Segment, ...]
    detail: bool = False
    brief: str = ""

    @property
    def last(self) -> int:
        """The last physical address."""
        return self.start + self.size - 1

    @property
    def is_free(self) -> bool:
        """Whether it is space that no namespace has."""
        return all(segment.kind == FREE for segment in self.segments)


class Part(NamedTuple):
    """A part of a namespace or of a label area, as the document has it."""

    kind: str
    start: int
    size: int
    arena: int | None
    slots: int | None


def is_layout(document: object) -> TypeGuard[LayoutDocument]:
    """Whether a JSON value is a layout of a version that is understood here."""
    if not isinstance(document, dict) or "system_ram" not in document:
        return False
    return (document.get("format"), document.get("version")) == (FORMAT, VERSION)


def region_bars(region: RegionDocument) -> Iterator[Bar]:
    """One for each namespace and for what has none, in address order."""
    free = [(part["start"], [_free_bar(region, part)]) for part in region["free"]]
    used = [(namespace["start"], _namespace_bars(region, namespace)) for namespace in region["namespaces"]]
    for _, bars in sorted([*free, *used], key=lambda entry: entry[0]):
        yield from bars


def _free_bar(region: RegionDocument, part: RangeDocument) -> Bar:
    segment = Segment(FREE, WORDS[FREE], part["start"], part["size"])
    return Bar(region["name"], ("no namespace",), part["start"], part["size"], (segment,))


def _namespace_bars(region: RegionDocument, namespace: NamespaceDocument) -> list[Bar]:
    parts = _parts(namespace)
    title = f"{namespace['name']} in {region['name']}"
    place = namespace["start"], namespace["size"]
    brief = _brief(namespace)
    runs = _alike_arenas(parts)
    if len({part.arena for part in parts if part.arena is not None}) < 2:
        return [Bar(title, _notes(namespace), *place, tuple(map(_segment, parts)), brief=brief)]
    outside = [_segment(part) for part in parts if part.arena is None]
    arenas = [_arenas_segment(run) for run in runs]
    segments = tuple(sorted([*outside, *arenas], key=lambda segment: segment.start))
    return [Bar(title, _notes(namespace), *place, segments, brief=brief), *(_arena_bar(run) for run in runs)]


def label_area_bar(dimm: DimmDocument) -> Bar:
    """A label area.  One in which labels and free slots alternate too often is shown without their order."""
    parts = _parts(dimm)
    if len(parts) > MOST_PARTS_OF_A_LABEL_AREA:
        slots = [part for part in parts if part.slots is not None]
        size = sum(part.size for part in slots)
        mixed = Part(MIXED_SLOTS, slots[0].start, size, None, sum(part.slots or 0 for part in slots))
        parts = sorted([*(part for part in parts if part.slots is None), mixed], key=lambda part: part.start)
    notes = (f"labels {dimm['version']}", f"room for {dimm['available_slots']} more")
    title = f"label area of {dimm['name']}"
    return Bar(title, notes if dimm["version"] else ("no labels",), 0, dimm["size"], tuple(map(_segment, parts)))


def _notes(namespace: NamespaceDocument) -> tuple[str, ...]:
    """Who uses it, as what, and what its struct pages cost."""
    struct_pages = namespace["struct_pages"]
    if namespace["driver"] is None:
        return ("bound to no driver", *([] if struct_pages is None else [_cost(struct_pages)]))
    notes = [f"{namespace['device']} bound to {namespace['driver']}"]
    if namespace["disk"]:
        notes.append(f"dev/{namespace['disk']}")
    if "mode" in namespace:
        notes += [f"mode {namespace['mode']}", f"align {exact_size(namespace['align'])}"]
    if "sector_size" in namespace:
        notes.append(f"sectors of {namespace['sector_size']} bytes")
    return (*notes, "no struct pages" if struct_pages is None else _cost(struct_pages))


def _brief(namespace: NamespaceDocument) -> str:
    """What it is in service as, and where its struct pages are."""
    if namespace["driver"] is None:
        return "bound to no driver"
    device = namespace["device"]
    words = ["raw" if device is None or device == namespace["name"] else device]
    if "sector_size" in namespace:
        words.append(f"{namespace['sector_size']} B sectors")
    places = [place for place, _ in _places(namespace["struct_pages"])]
    words += [f"memmap in {' and '.join(places)}"] if places else []
    return ", ".join([*words, *([namespace["disk"]] if namespace["disk"] else [])])


def _cost(struct_pages: StructPagesDocument) -> str:
    places = [f"{exact_size(size)} in {place}" for place, size in _places(struct_pages)]
    return f"struct pages: {' and '.join(places) or 'those of the RAM around it'}"


def _places(struct_pages: StructPagesDocument | None) -> list[tuple[str, int]]:
    """Where there are struct pages, and how many bytes."""
    if struct_pages is None:
        return []
    return [(place, size) for place, size in (("ram", struct_pages["ram"]), ("pmem", struct_pages["pmem"])) if size]


def _segment(part: Part) -> Segment:
    return Segment(part.kind, _name(part), part.start, part.size)


def _name(part: Part) -> str:
    if part.slots is None:
        return WORDS.get(part.kind, part.kind)
    if part.kind == MIXED_SLOTS:
        return f"{part.slots} slots, some free"
    return _count(part.slots, "label" if part.kind == "labels" else "free slot")


def _parts(holder: NamespaceDocument | DimmDocument) -> list[Part]:
    return [
        Part(part["kind"], part["start"], part["size"], part.get("arena"), part.get("slots"))
        for part in holder["parts"]
    ]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _alike_arenas(parts: Iterable[Part]) -> list[list[list[Part]]]:
    """The arenas, each as its parts, grouped with those after it that are divided in the same way."""
    in_arenas = (part for part in parts if part.arena is not None)
    arenas = [list(members) for _, members in itertools.groupby(in_arenas, key=lambda part: part.arena)]
    return [list(alike) for _, alike in itertools.groupby(arenas, key=_shape)]


def _shape(arena: Sequence[Part]) -> list[tuple[str, int, int]]:
    return [(part.kind, part.start - arena[0].start, part.size) for part in arena]


def _end(arena: Sequence[Part]) -> int:
    return arena[-1].start + arena[-1].size


def _arenas_segment(run: Sequence[Sequence[Part]]) -> Segment:
    start = run[0][0].start
    return Segment(ARENAS, _arenas_name(run), start, _end(run[-1]) - start)


def _arenas_name(run: Sequence[Sequence[Part]]) -> str:
    first, last = run[0][0].arena, run[-1][0].arena
    return f"arena {first}" if first == last else f"arenas {first} to {last}"


def _arena_bar(run: Sequence[Sequence[Part]]) -> Bar:
    """The first arena of a run that are all like it."""
    arena = run[0]
    start = arena[0].start
    size = _end(arena) - start
    notes = () if len(run) == 1 else (f"the first of {len(run)} of {rough_size(size)} each",)
    return Bar(_arenas_name(run), notes, start, size, tuple(map(_segment, arena)), detail=True)
