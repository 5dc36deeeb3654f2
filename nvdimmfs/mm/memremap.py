"""Registering a memmap for a range of device memory (mm/memremap.c; register_dev_memmap in the RFC)."""

from __future__ import annotations

import enum
import errno

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.media.base import Media
from nvdimmfs.mm.altmap import VmemAltmap
from nvdimmfs.mm.sparse import Memmap
from nvdimmfs.units import Range


class MemoryType(enum.IntEnum):
    """The use of device memory (enum memory_type, include/linux/memremap.h)."""

    FS_DAX = 3
    GENERIC = 4


class PagemapState(enum.Enum):
    """The life of a registration."""

    IDLE = "idle"
    LIVE = "live"
    DYING = "dying"
    """Unmapped by its owner, but references to its pages remain."""


@attrs.define(eq=False)
class DevPagemap:
    """Ranges of device memory that are, or will be, registered with struct pages (struct dev_pagemap).

    Attributes:
        ranges: physical addresses; usually one range.  Only the first may use the altmap.
        type: FS_DAX for a disk, GENERIC for a device dax.
        altmap: frames of the range that hold its memmap; None for a memmap in RAM.
        vmemmap_shift: log2 of the pages of a compound page; 0 for plain pages.
        media: the bytes from physical address `media_start` on, which a memmap in the range itself overwrites; None
            when the memory has no stored bytes.
        owner: name of the device that maps it, for the debug folder.
        state: see PagemapState.
        refs: 1 for the owner while it is live, one for each page (or compound page), and those of
            `Memory.get_dev_pagemap`.
        memmaps: the memmap of each range, while registered.
        nid: the node whose ZONE_DEVICE contains it.
    """

    ranges: tuple[Range, ...]
    type: MemoryType = MemoryType.FS_DAX
    altmap: VmemAltmap | None = None
    vmemmap_shift: int = attrs.field(default=0)
    media: Media | None = attrs.field(default=None, repr=False)
    media_start: int = attrs.field(default=0, repr=False)
    owner: str = ""
    state: PagemapState = attrs.field(default=PagemapState.IDLE, init=False)
    refs: int = attrs.field(default=0, init=False)
    memmaps: list[Memmap] = attrs.field(factory=list, init=False, repr=False)
    nid: int = attrs.field(default=0, init=False)

    @vmemmap_shift.validator
    def _check_shift(self, _attribute: object, value: int) -> None:
        if value and value < 7:
            raise ValueError("a compound page must be so large that its struct pages fill two pages or more")

    @property
    def range(self) -> Range:
        """The first range."""
        return self.ranges[0]

    @property
    def compound(self) -> int:
        """Number of pages in each compound page; 0 for plain pages."""
        return 1 << self.vmemmap_shift if self.vmemmap_shift else 0

    def pfn_first(self, index: int = 0) -> int:
        """The first page of a range with an initialised struct page: the page after the altmap."""
        offset = self.altmap.offset if self.altmap and index == 0 else 0
        return self.ranges[index].first_pfn + offset

    def pfn_len(self, index: int = 0) -> int:
        """Number of pages, or of compound pages, in a range after the altmap."""
        return (self.ranges[index].end_pfn - self.pfn_first(index)) >> self.vmemmap_shift

    def pfn_valid(self, pfn: int) -> bool:
        """Whether the page's struct page is initialised (pgmap_pfn_valid)."""
        return any(self.pfn_first(i) <= pfn < r.end_pfn for i, r in enumerate(self.ranges))

    def overwrite_media(self) -> None:
        """Overwrite the media at the place of the first range's memmap.

        The kernel does not write the struct pages of the frames that the altmap reserves, but it writes all others
        (memmap_init_range, mm/page_alloc.c, Linux 6.1).  Their content is kernel addresses, which differ from boot to
        boot; this model writes zeros instead.
        """
        if self.media is None or self.altmap is None:
            return
        first = self.range.first_pfn + self.altmap.reserve
        for struct_pages in self.memmaps[0].in_pmem(first, self.range.end_pfn):
            start = max(0, struct_pages.start - self.media_start)
            end = min(self.media.size, struct_pages.stop - self.media_start)
            if start < end:
                self.media.zero(start, end - start)

    @property
    def ram_bytes(self) -> int:
        """Bytes of RAM in use for its memmap."""
        return sum(memmap.ram_bytes for memmap in self.memmaps)


def check_altmap(altmap: VmemAltmap, first_pfn: int, nr_pages: int) -> None:
    """EINVAL unless the altmap begins with the range and lies within it (__add_pages, mm/memory_hotplug.c)."""
    if altmap.base_pfn != first_pfn or altmap.offset > nr_pages:
        raise KernelError(errno.EINVAL, "memory add fail, invalid altmap")
