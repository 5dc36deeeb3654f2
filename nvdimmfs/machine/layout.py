"""The current layout of the machine's persistent memory, to the byte.

Each namespace is divided into parts without gap or overlap.  Only a bound namespace is divided further: without a
driver, the meaning of the bytes is known to their owner alone.  `layout_json` is the file `layout` of the debug folder,
which `nvdimmfs show` draws.
"""

from __future__ import annotations

import enum
import itertools
import json
from collections.abc import Iterable, Iterator

import attrs

from nvdimmfs.block.disk import Disk
from nvdimmfs.core.device import Device
from nvdimmfs.dax.device import DevDax
from nvdimmfs.drivers.btt import Btt
from nvdimmfs.formats.btt import ArenaLayout
from nvdimmfs.formats.info_block import INFO_BLOCK_SIZE
from nvdimmfs.formats.layout_document import (
    FORMAT,
    VERSION,
    DimmDocument,
    LayoutDocument,
    MappingDocument,
    NamedRangeDocument,
    NamespaceDocument,
    PartDocument,
    RangeDocument,
    RegionDocument,
    SoftReservedDocument,
    StructPagesDocument,
)
from nvdimmfs.kernels.kernel import INFO_BLOCK_RESERVE
from nvdimmfs.media.populated import PopulatedMedia
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.memremap import DevPagemap
from nvdimmfs.mm.pfn_layout import PfnLayout
from nvdimmfs.mm.resource import Resource, ResourceDescriptor, ResourceFlag
from nvdimmfs.mm.sparse import Memmap, Place
from nvdimmfs.nd.btt import BttDevice
from nvdimmfs.nd.bus_type import NdBus
from nvdimmfs.nd.dimm import DimmDevice
from nvdimmfs.nd.label import LabelStorage
from nvdimmfs.nd.mapping import Mapping
from nvdimmfs.nd.namespace import NamespaceDevice
from nvdimmfs.nd.pfn import PageMapPersonality
from nvdimmfs.nd.region import RegionDevice
from nvdimmfs.units import PAGE_SHIFT


class PartKind(enum.StrEnum):
    """The use of a part of a namespace or label area."""

    IDLE = "idle"
    """The namespace is not bound."""
    RAW = "raw"
    """Bytes, not mapped with struct page."""
    DATA = "data"
    """Bytes available to user space: pages with struct pages, or a BTT's blocks."""
    SYSTEM_RAM = "system_ram"
    """Memory blocks that `kmem` has added as System RAM."""
    START_PAD = "start_pad"
    INFO = "info"
    """The info block, and the bytes reserved with it."""
    MEMMAP = "memmap"
    """Struct pages of this namespace."""
    PADDING = "padding"
    """Reserved for the memmap and not used, or lost to alignment."""
    END_TRUNC = "end_trunc"
    MAP = "map"
    LOG = "log"
    INFO_COPY = "info_copy"
    UNUSED = "unused"
    """Bytes before a BTT's first arena, or too few for another arena; the rest of a label area."""
    INDEX = "index"
    LABELS = "labels"
    """Slots of a label area that hold labels."""
    FREE_SLOTS = "free_slots"


@attrs.frozen
class Part:
    """`size` bytes from physical address `start` on, or from the start of a label area.

    Attributes:
        kind: its use.
        start: its first address, or its offset in a label area.
        size: bytes.
        arena: the arena of a BTT that contains it, from 0.
        slots: number of slots in it, for parts of a label area.
    """

    kind: PartKind
    start: int
    size: int
    arena: int | None = None
    slots: int | None = None

    @property
    def end(self) -> int:
        """The address after the last byte."""
        return self.start + self.size


def layout_json(memory: Memory, nd_bus: NdBus | None) -> str:
    """The whole machine, as one JSON object in one line."""
    devices = nd_bus.members.values() if nd_bus else ()
    regions = sorted(
        (device for device in devices if isinstance(device, RegionDevice)),
        key=lambda region: (region.start, region.id),
    )
    dimms = sorted((device for device in devices if isinstance(device, DimmDevice)), key=lambda dimm: dimm.id)
    document: LayoutDocument = {
        "format": FORMAT,
        "version": VERSION,
        "kernel": memory.kernel.name,
        "ram": {"total": memory.ram_bytes, "free": memory.ram_free},
        "system_ram": [_range(resource) for resource in memory.iomem.children if _is_ram(resource)],
        "soft_reserved": [_soft_reserved(each) for each in memory.iomem.children if _is_soft_reserved(each)],
        "regions": [_region(region) for region in regions],
        "dimms": [_dimm(dimm) for dimm in dimms],
    }
    return json.dumps(document) + "\n"


def namespaces_of(region: RegionDevice) -> list[NamespaceDevice]:
    """The namespaces of a region that have a size, in address order."""
    found = [child for child in region.children if isinstance(child, NamespaceDevice) and child.size]
    return sorted(found, key=lambda namespace: namespace.start)


def parts_of(namespace: NamespaceDevice) -> list[Part]:
    """A namespace's parts, in address order; they fill it exactly."""
    parts = _parts_in_use(namespace)
    for first, end in _added_as_ram(namespace):
        parts = _laid_over(parts, PartKind.SYSTEM_RAM, first << PAGE_SHIFT, end << PAGE_SHIFT)
    return parts


def _parts_in_use(namespace: NamespaceDevice) -> list[Part]:
    """As its driver, or that of its claim, has them."""
    device = _holder(namespace)
    if device is None:
        return [Part(PartKind.IDLE, namespace.start, namespace.size)]
    if isinstance(device, PageMapPersonality) and device.layout:
        return _page_map_parts(namespace, device.layout)
    btt = _btt_of(namespace)
    if btt:
        return list(_btt_parts(namespace, btt))
    kind = PartKind.DATA if _pagemap(namespace) else PartKind.RAW
    return [Part(kind, namespace.start, namespace.size)]


def label_parts_of(labels: LabelStorage) -> list[Part]:
    """The parts of a label area in order; they fill it exactly.  Adjacent slots of one kind are one part."""
    area = labels.layout
    if labels.index is None:
        return [Part(PartKind.UNUSED, 0, area.config_size)]
    parts = [Part(PartKind.INDEX, offset, area.index_size) for offset in area.index_offsets]
    used = set(labels.index.used())
    for taken, run in itertools.groupby(range(labels.index.nslot), key=used.__contains__):
        slots = list(run)
        kind = PartKind.LABELS if taken else PartKind.FREE_SLOTS
        size = len(slots) * area.label_size
        parts.append(Part(kind, area.slot_offset(slots[0]), size, slots=len(slots)))
    rest = area.config_size - parts[-1].end
    return [*parts, Part(PartKind.UNUSED, parts[-1].end, rest)] if rest else parts


def _is_ram(resource: Resource) -> bool:
    return ResourceFlag.SYSTEM_RAM in resource.flags


def _is_soft_reserved(resource: Resource) -> bool:
    return resource.desc is ResourceDescriptor.SOFT_RESERVED


def _range(resource: Resource) -> RangeDocument:
    return {"start": resource.start, "size": resource.size}


def _soft_reserved(resource: Resource) -> SoftReservedDocument:
    """A range, and the dax devices in it that are in use."""
    devices = [_named_range(each) for each in _below_resource(resource) if each.name.startswith("dax")]
    return {**_named_range(resource), "devices": devices}


def _named_range(resource: Resource) -> NamedRangeDocument:
    return {"name": resource.name, **_range(resource)}


def _below_resource(resource: Resource) -> Iterator[Resource]:
    for child in resource.children:
        yield child
        yield from _below_resource(child)


def _dimm(dimm: DimmDevice) -> DimmDocument:
    labels = dimm.data.labels if dimm.data else None
    return {
        "name": dimm.name,
        "bus": dimm.parent.name,
        "enabled": dimm.driver is not None,
        "capacity": dimm.capacity,
        "version": ".".join(map(str, labels.index.version)) if labels and labels.index else None,
        "size": labels.layout.config_size if labels else 0,
        "labels": len(labels.active()) if labels else 0,
        "available_slots": labels.available_slots if labels else 0,
        "parts": [_part(part) for part in label_parts_of(labels)] if labels else [],
    }


def _region(region: RegionDevice) -> RegionDocument:
    namespaces = namespaces_of(region)
    return {
        "name": region.name,
        "bus": region.parent.name,
        "provider": region.parent.provider,
        "start": region.start,
        "size": region.size,
        "volatile": region.description.volatile,
        "read_only": region.read_only,
        "without_memory": _without_memory(region),
        "mappings": [_mapping(each) for each in sorted(region.mappings, key=lambda each: each.position)],
        "free": [{"start": start, "size": size} for start, size in _free(region, namespaces)],
        "namespaces": [_namespace(namespace) for namespace in namespaces],
    }


def _without_memory(region: RegionDevice) -> int:
    """Bytes of the region at which reads give zeros and writes are lost."""
    if not isinstance(region.media, PopulatedMedia):
        return 0
    return region.size - sum(end - start for start, end in region.media.populated)


def _mapping(mapping: Mapping) -> MappingDocument:
    return {"dimm": mapping.dimm.name, "start": mapping.start, "size": mapping.size}


def _free(region: RegionDevice, namespaces: Iterable[NamespaceDevice]) -> Iterator[tuple[int, int]]:
    """Start and size of each range of a region without a namespace."""
    start = region.start
    for namespace in namespaces:
        if start < namespace.start:
            yield start, namespace.start - start
        start = namespace.start + namespace.size
    if start < region.start + region.size:
        yield start, region.start + region.size - start


def _namespace(namespace: NamespaceDevice) -> NamespaceDocument:
    device = _holder(namespace)
    described: NamespaceDocument = {
        "name": namespace.name,
        "start": namespace.start,
        "size": namespace.size,
        "device": device.name if device else None,
        "driver": device.driver.name if device and device.driver else None,
        "disk": _node_name(namespace),
        "struct_pages": _struct_pages(namespace),
        "parts": [_part(part) for part in parts_of(namespace)],
    }
    if isinstance(device, PageMapPersonality) and device.layout:
        described["mode"] = device.layout.mode.name.lower()
        described["align"] = device.align
    if isinstance(device, BttDevice):
        described["sector_size"] = device.sector_size
    return described


def _part(part: Part) -> PartDocument:
    described: PartDocument = {"kind": part.kind, "start": part.start, "size": part.size}
    if part.arena is not None:
        described["arena"] = part.arena
    if part.slots is not None:
        described["slots"] = part.slots
    return described


def _holder(namespace: NamespaceDevice) -> Device | None:
    """The bound device that puts a namespace into service: the namespace itself or the device that claims it."""
    device: Device = namespace.claim or namespace
    return device if device.driver else None


def _node_name(namespace: NamespaceDevice) -> str | None:
    """The name in /dev of the namespace's disk or dax device."""
    return next((child.name for child in _below(namespace) if isinstance(child, Disk | DevDax)), None)


def _btt_of(namespace: NamespaceDevice) -> Btt | None:
    disks = (child.data for child in _below(namespace) if isinstance(child, Disk))
    return next((data for data in disks if isinstance(data, Btt)), None)


def _below(namespace: NamespaceDevice) -> list[Device]:
    """The children of the namespace (up to 4.4 also a pfn device's disk) and of the device that claims it."""
    return [*namespace.children, *(namespace.claim.children if namespace.claim else ())]


def _pagemap(namespace: NamespaceDevice) -> DevPagemap | None:
    """The registration of a namespace's pages."""
    memory: Memory = namespace.region.memory
    return next((found for found in memory.pagemaps if namespace.start <= found.range.start <= namespace.end), None)


def _added_as_ram(namespace: NamespaceDevice) -> dict[tuple[int, int], Memmap]:
    """The pages of the namespace that were added to System RAM, by first and end pfn; they can outlast its driver."""
    memory: Memory = namespace.region.memory
    return {
        pfns: memmap
        for pfns, memmap in memory.hot_memmaps.items()
        if namespace.start <= pfns[0] << PAGE_SHIFT <= namespace.end
    }


def _struct_pages(namespace: NamespaceDevice) -> StructPagesDocument | None:
    pagemap = _pagemap(namespace)
    added = _added_as_ram(namespace)
    if pagemap is None and not added:
        return None
    in_pmem = sum(size for _, size in _memmap_pieces(pagemap)) if pagemap else 0
    in_ram = sum(memmap.ram_bytes for memmap in added.values()) + (pagemap.ram_bytes if pagemap else 0)
    return {"ram": in_ram, "pmem": in_pmem}


def _memmap_pieces(pagemap: DevPagemap) -> Iterator[tuple[int, int]]:
    """Start and size of each piece of persistent memory that holds struct pages."""
    for memmap in pagemap.memmaps:
        for run in memmap.runs:
            if run.place is Place.PMEM:
                yield from ((piece.start, piece.size) for piece in run.pieces)


def _page_map_parts(namespace: NamespaceDevice, layout: PfnLayout) -> list[Part]:
    """Divide according to the info block, with the memmap at its actual address."""
    start = layout.range.start
    end = namespace.end + 1
    parts = [Part(PartKind.DATA, namespace.start, namespace.size)]
    parts = _laid_over(parts, PartKind.START_PAD, namespace.start, start)
    parts = _laid_over(parts, PartKind.PADDING, start, layout.data.start)
    parts = _laid_over(parts, PartKind.INFO, start, start + INFO_BLOCK_RESERVE)
    parts = _laid_over(parts, PartKind.END_TRUNC, layout.range.end + 1, end)
    pagemap = _pagemap(namespace)
    for piece_start, size in _memmap_pieces(pagemap) if pagemap else ():
        parts = _laid_over(parts, PartKind.MEMMAP, piece_start, piece_start + size)
    return parts


def _laid_over(parts: list[Part], kind: PartKind, start: int, end: int) -> list[Part]:
    """Return the parts with a new one from `start` to before `end`, which replaces or truncates those there."""
    before = [Part(part.kind, part.start, min(part.end, start) - part.start) for part in parts if part.start < start]
    after = [Part(part.kind, max(part.start, end), part.end - max(part.start, end)) for part in parts if part.end > end]
    return [*before, Part(kind, start, end - start), *after] if start < end else parts


def _btt_parts(namespace: NamespaceDevice, btt: Btt) -> Iterator[Part]:
    origin = namespace.start + btt.initial_offset
    position = namespace.start
    for number, arena in enumerate(btt.layouts):
        for kind, offset, size in _arena_parts(arena):
            if position < origin + offset:
                yield Part(PartKind.UNUSED, position, origin + offset - position)
            yield Part(kind, origin + offset, size, number)
            position = origin + offset + size
    if position < namespace.end + 1:
        yield Part(PartKind.UNUSED, position, namespace.end + 1 - position)


def _arena_parts(arena: ArenaLayout) -> tuple[tuple[PartKind, int, int], ...]:
    """Kind, offset from the first arena, and size."""
    return (
        (PartKind.INFO, arena.infooff, INFO_BLOCK_SIZE),
        (PartKind.DATA, arena.dataoff, arena.mapoff - arena.dataoff),
        (PartKind.MAP, arena.mapoff, arena.logoff - arena.mapoff),
        (PartKind.LOG, arena.logoff, arena.info2off - arena.logoff),
        (PartKind.INFO_COPY, arena.info2off, INFO_BLOCK_SIZE),
    )
