"""The texts of the debug folder about a machine's memory.

Each is a pure function of `Memory`.  A petabyte needs as many lines as a section.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nvdimmfs.kernels.differences import NOTHING
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.memremap import DevPagemap, MemoryType
from nvdimmfs.mm.resource import Resource, ResourceDescriptor, ResourceFlag
from nvdimmfs.mm.sparse import Memmap, MemmapRun, Place, SparseMemory
from nvdimmfs.mm.zone import Zone
from nvdimmfs.units import PAGE_SHIFT, PAGES_PER_SECTION, PAGES_PER_SUBSECTION, Range

_FLAG_WORDS = {ResourceFlag.MEM: "mem", ResourceFlag.SYSRAM: "sysram", ResourceFlag.BUSY: "busy"}
_TYPE_WORDS = {MemoryType.FS_DAX: "fs_dax", MemoryType.GENERIC: "generic"}


def zones_text(memory: Memory) -> str:
    """Return a table of all zones of all nodes: their range, and their spanned, present and managed page frames."""
    rows = [_zone_row(zone) for zones in memory.zones.values() for zone in zones]
    return _table(("node", "zone", "pfns", "physical", "spanned", "present", "managed"), rows)


def sections_text(memory: Memory) -> str:
    """Return a table of the device memory in sparse memory, one line for each run that was populated in one step.

    A run consists of whole sections (128 MiB), or of subsections (2 MiB) of one section.  One without an owner was
    left behind by a registration that failed.
    """
    owned = [(run, pagemap.owner) for run, pagemap in _device_runs(memory)]
    left = [(run, NOTHING) for run in memory.sparse.left]
    rows = [
        (_pfns(run.first_pfn, run.end_pfn), _sections(run), _populated(run), _place_word(run.place), owner)
        for run, owner in sorted(owned + left, key=lambda entry: entry[0].first_pfn)
    ]
    return _table(("pfns", "sections", "populated", "struct pages", "owner"), rows)


def memmap_text(memory: Memory) -> str:
    """Return one line of key=value pairs for each registered range, in address order; empty when there is none."""
    ranges = [(range_, pagemap, index) for pagemap in memory.pagemaps for index, range_ in enumerate(pagemap.ranges)]
    lines = [_memmap_line(memory, *entry) for entry in sorted(ranges, key=lambda entry: entry[0].start)]
    return "".join(f"{line}\n" for line in lines)


def resources_text(memory: Memory) -> str:
    """Return the resource tree with flags and descriptors, which /proc/iomem does not show."""
    return "".join(f"{'  ' * depth}{_resource_words(resource)}\n" for depth, resource in memory.iomem.walk())


def ram_text(memory: Memory) -> str:
    """Return how System RAM is used, in bytes.  `total` is the sum of the other values.

    `memmap_ram` is the struct pages of the RAM itself, allocated at boot.  `memmap_devices` is the struct pages of
    device memory that are allocated in RAM, for mapped memory and for memory added as System RAM.  `memmap_left` is
    those that failed registrations left behind.  `reserved` is the kernel's image, the first MiB, pages that are RAM
    only in part, pages declared bad, and offline memory.
    """
    boot = sum(piece.size for run in memory.sparse.boot.runs for piece in run.pieces)
    devices = sum(pagemap.ram_bytes for pagemap in memory.pagemaps)
    devices += sum(memmap.ram_bytes for memmap in memory.hot_memmaps.values())
    left = Memmap(tuple(memory.sparse.left)).ram_bytes
    facts = {
        "total": memory.ram_bytes,
        "free": memory.ram_free,
        "memmap_devices": devices,
        "memmap_left": left,
        "memmap_ram": boot,
        "reserved": memory.ram_bytes - memory.ram_free - devices - left - boot,
    }
    return facts_text(facts.items())


def facts_text(facts: Iterable[tuple[str, object]]) -> str:
    """Return one line, `key: value`, for each fact."""
    return "".join(f"{key}: {value}\n" for key, value in facts)


def _zone_row(zone: Zone) -> tuple[str, ...]:
    counts = (str(zone.spanned), str(zone.present), str(zone.managed))
    if not zone.spanned:
        return (str(zone.nid), zone.name, NOTHING, NOTHING, *counts)
    physical = Range(zone.start_pfn << PAGE_SHIFT, (zone.end_pfn << PAGE_SHIFT) - 1)
    return (str(zone.nid), zone.name, _pfns(zone.start_pfn, zone.end_pfn), str(physical), *counts)


def _device_runs(memory: Memory) -> Iterator[tuple[MemmapRun, DevPagemap]]:
    for pagemap in memory.pagemaps:
        for memmap in pagemap.memmaps:
            yield from ((run, pagemap) for run in memmap.runs)


def _sections(run: MemmapRun) -> str:
    """The section numbers, counted as in /sys/devices/system/memory with blocks of one section."""
    first, last = run.first_pfn // PAGES_PER_SECTION, (run.end_pfn - 1) // PAGES_PER_SECTION
    return str(first) if first == last else f"{first}-{last}"


def _populated(run: MemmapRun) -> str:
    pages = run.end_pfn - run.first_pfn
    if pages % PAGES_PER_SECTION:
        whole = PAGES_PER_SECTION // PAGES_PER_SUBSECTION
        return f"{pages // PAGES_PER_SUBSECTION} of {whole} subsections"
    count = pages // PAGES_PER_SECTION
    return f"{count} section{'s' if count > 1 else ''}"


def _place_word(place: Place) -> str:
    return {Place.BOOT: "ram, since boot", Place.RAM: "ram", Place.PMEM: "pmem"}[place]


def _memmap_line(memory: Memory, range_: Range, pagemap: DevPagemap, index: int) -> str:
    altmap = pagemap.altmap if index == 0 else None
    facts = {
        "pfns": _pfns(range_.first_pfn, range_.end_pfn),
        "owner": pagemap.owner,
        "type": _TYPE_WORDS[pagemap.type],
        "node": pagemap.nid,
        "state": pagemap.state.value,
        "refs": pagemap.refs,
        "compound": pagemap.compound or 1,
        "first_page": f"{pagemap.pfn_first(index):#x}",
        "memmap": ",".join(_memmap_places(memory.sparse, pagemap.memmaps[index])) or NOTHING,
        "altmap": NOTHING,
    }
    if altmap:
        counts = {"reserve": altmap.reserve, "free": altmap.free, "align": altmap.align, "alloc": altmap.alloc}
        facts["altmap"] = f"base:{altmap.base_pfn:#x}," + ",".join(f"{key}:{count}" for key, count in counts.items())
    return " ".join(f"{key}={value}" for key, value in facts.items())


def _memmap_places(sparse: SparseMemory, memmap: Memmap) -> Iterator[str]:
    """Yield the location of struct pages, in the order of the pages that they describe."""
    for run in memmap.runs:
        yield from (f"{run.place.value}:{Range.sized(piece.start, piece.size)}" for piece in run.pieces)
        if run.place is Place.BOOT:
            yield from _boot_places(sparse, run.first_pfn, run.end_pfn)


def _boot_places(sparse: SparseMemory, first: int, end: int) -> Iterator[str]:
    """Yield the parts of the boot memmap that describe the pages from `first` to before `end`."""
    for run in sparse.runs_within(first, end):
        for _, _, struct_pages in run.linear(max(first, run.first_pfn), min(end, run.end_pfn)):
            if struct_pages is not None:
                yield f"{Place.BOOT.value}:{Range(struct_pages.start, struct_pages.stop - 1)}"


def _resource_words(resource: Resource) -> str:
    words = [word for flag, word in _FLAG_WORDS.items() if flag in resource.flags]
    if resource.desc is not ResourceDescriptor.NONE:
        words.append(f"desc={resource.desc.name.lower()}")
    return f"{resource.start:08x}-{resource.end:08x} : {resource.name} ({' '.join(words)})"


def _pfns(first: int, end: int) -> str:
    return f"{first:#x}-{end - 1:#x}"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Format a table whose columns are as wide as their widest cell; columns of numbers are right-aligned."""
    columns = [(head, *cells) for head, *cells in zip(header, *rows, strict=True)]
    lines = zip(*map(_aligned, columns), strict=True)
    return "".join("  ".join(line).rstrip() + "\n" for line in lines)


def _aligned(column: tuple[str, ...]) -> list[str]:
    width = max(map(len, column))
    numbers = len(column) > 1 and all(cell.isdecimal() for cell in column[1:])
    return [cell.rjust(width) if numbers else cell.ljust(width) for cell in column]
