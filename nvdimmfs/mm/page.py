"""Conversion between page frames, struct pages and addresses of one machine."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Protocol

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.mm.address_space import AddressSpace
from nvdimmfs.mm.memremap import DevPagemap
from nvdimmfs.mm.sparse import MemmapRun, Place, SparseMemory
from nvdimmfs.mm.zone import Zone
from nvdimmfs.units import PAGE_SHIFT, PAGE_SIZE, STRUCT_PAGE_SIZE


@attrs.frozen
class PageInfo:
    """All facts about one page frame.

    Attributes:
        pfn: its number.
        physical: its physical address.
        virtual: its address in the direct map (page_address).
        page: the virtual address of its struct page (pfn_to_page), mapped or not.
        valid: whether the struct page is mapped (pfn_valid).
        online: whether it is RAM that the page allocator manages (pfn_to_online_page).
        initialised: whether the struct page was ever written; false in holes and before a device's first page.
        zone: its zone; None without one.
        pagemap: the registration of device memory that contains it; None without one.
        place: the kind of memory that holds its struct page; None when that is not mapped.
        struct_page: the physical address of its struct page; None when that is not mapped.
    """

    pfn: int
    physical: int
    virtual: int
    page: int
    valid: bool
    online: bool
    initialised: bool
    zone: Zone | None
    pagemap: DevPagemap | None
    place: Place | None
    struct_page: int | None


@attrs.frozen
class PageSegment:
    """Consecutive pages whose translations are linear, so that their number does not affect the cost.

    Attributes:
        pfns: the page frames.
        pages: virtual addresses of their struct pages.
        addresses: virtual addresses of their contents.
        struct_pages: physical addresses of their struct pages; None for compound pages, whose tails share memory.
        place: the kind of memory that holds the struct pages.
        pagemap: the registration of device memory; None for RAM.
    """

    pfns: range
    pages: range
    addresses: range
    struct_pages: range | None
    place: Place
    pagemap: DevPagemap | None


class PhysicalMemory(Protocol):
    """A machine's memory, as the translations see it (`mm.memory.Memory`)."""

    @property
    def space(self) -> AddressSpace:
        """The layout of the kernel's address space."""

    @property
    def sparse(self) -> SparseMemory:
        """The memmaps."""

    def find_pagemap(self, pfn: int) -> DevPagemap | None:
        """The page map, live or dying, that a page frame belongs to."""

    def get_dev_pagemap(self, pfn: int) -> DevPagemap | None:
        """The live page map of a page frame, with a reference to it; None when there is none."""

    def put_dev_pagemap(self, pagemap: DevPagemap) -> None:
        """Drop a reference."""

    def device_zone(self, nid: int = 0) -> Zone:
        """A node's ZONE_DEVICE."""

    def ram_zone(self, pfn: int) -> Zone:
        """The zone of a page frame that is System RAM."""

    def is_ram(self, pfn: int) -> bool:
        """Whether a page frame is System RAM."""

    def initialised(self, first: int, end: int) -> Iterator[tuple[int, int, DevPagemap | None]]:
        """The page frames from `first` to before `end` with an initialised struct page, in order."""


class Pages:
    """The conversions for one machine.  A number that is not an address of the required kind is EINVAL."""

    def __init__(self, memory: PhysicalMemory) -> None:
        self._memory = memory
        self._space = memory.space

    def pfn_to_page(self, pfn: int) -> int:
        """The virtual address of a page's struct page, whether or not one is mapped there."""
        self._check_pfn(pfn)
        return self._space.pfn_to_page(pfn)

    def page_to_pfn(self, page: int) -> int:
        """The pfn of the page that a struct page describes."""
        pfn = self._space.page_to_pfn(page)
        if pfn is None:
            raise KernelError(errno.EINVAL, f"{page:#x} is not the address of a struct page")
        return pfn

    def page_address(self, page: int) -> int:
        """The virtual address of the contents of a struct page's page."""
        return self._space.phys_to_virt(self.page_to_pfn(page) << PAGE_SHIFT)

    def virt_to_page(self, virtual: int) -> int:
        """The struct page of the page that an address of the direct map is in."""
        return self._space.pfn_to_page(self.virt_to_phys(virtual) >> PAGE_SHIFT)

    def phys_to_virt(self, physical: int) -> int:
        """The direct map's address."""
        self._check_pfn(physical >> PAGE_SHIFT)
        return self._space.phys_to_virt(physical)

    def virt_to_phys(self, virtual: int) -> int:
        """The physical address behind an address of the direct map."""
        physical = self._space.virt_to_phys(virtual)
        if physical is None:
            raise KernelError(errno.EINVAL, f"{virtual:#x} is not in the direct map")
        return physical

    def pfn_valid(self, pfn: int) -> bool:
        """Whether a struct page is mapped for a page frame, initialised or not."""
        return self._memory.sparse.is_valid(pfn)

    def pfn_to_online_page(self, pfn: int) -> int | None:
        """The struct page of a page frame of online RAM; None for device memory and for frames without memory."""
        if not self._memory.sparse.is_online(pfn):
            return None
        pagemap = self._memory.get_dev_pagemap(pfn)
        if pagemap is not None:
            self._memory.put_dev_pagemap(pagemap)
            return None
        return self._space.pfn_to_page(pfn)

    def page_zone(self, pfn: int) -> Zone | None:
        """The zone of a page frame that has an initialised struct page; None for all others.

        In kernels that add whole sections only, two ranges may share a section.  It is removed with the range that was
        registered first, and then the other page map has pages without struct pages.
        """
        pagemap = self._memory.find_pagemap(pfn)
        if pagemap is not None:
            has_page = pagemap.pfn_valid(pfn) and self.pfn_valid(pfn)
            return self._memory.device_zone(pagemap.nid) if has_page else None
        if not self._memory.is_ram(pfn):
            return None
        return self._memory.ram_zone(pfn)

    def struct_page_location(self, pfn: int) -> int | None:
        """The physical address of a page frame's struct page; None when none is mapped."""
        run = self._run(pfn)
        return run.location(pfn) if run else None

    def describe(self, pfn: int) -> PageInfo:
        """Collect all facts about one page frame."""
        page = self.pfn_to_page(pfn)
        run = self._run(pfn)
        zone = self.page_zone(pfn)
        return PageInfo(
            pfn=pfn,
            physical=pfn << PAGE_SHIFT,
            virtual=self.page_address(page),
            page=page,
            valid=self.pfn_valid(pfn),
            online=self.pfn_to_online_page(pfn) is not None,
            initialised=zone is not None,
            zone=zone,
            pagemap=self._memory.find_pagemap(pfn),
            place=run.place if run else None,
            struct_page=self.struct_page_location(pfn),
        )

    def segments(self, first: int, end: int) -> Iterator[PageSegment]:
        """Yield the initialised pages from `first` to before `end`, in order, in as few segments as possible.

        A contiguous petabyte is one segment, whose ranges can be indexed, searched and iterated like lists.
        """
        for low, high, pagemap in self._memory.initialised(first, end):
            for run in self._memory.sparse.runs_within(low, high):
                yield from self._linear(run, max(low, run.first_pfn), min(high, run.end_pfn), pagemap)

    def _linear(self, run: MemmapRun, low: int, high: int, pagemap: DevPagemap | None) -> Iterator[PageSegment]:
        for a, b, struct_pages in run.linear(low, high):
            page, address = self._space.pfn_to_page(a), self._space.phys_to_virt(a << PAGE_SHIFT)
            yield PageSegment(
                pfns=range(a, b),
                pages=range(page, page + (b - a) * STRUCT_PAGE_SIZE, STRUCT_PAGE_SIZE),
                addresses=range(address, address + (b - a) * PAGE_SIZE, PAGE_SIZE),
                struct_pages=struct_pages,
                place=run.place,
                pagemap=pagemap,
            )

    def _run(self, pfn: int) -> MemmapRun | None:
        return next(iter(self._memory.sparse.runs_within(pfn, pfn + 1)), None)

    def _check_pfn(self, pfn: int) -> None:
        if not 0 <= pfn < self._space.physical_end >> PAGE_SHIFT:
            raise KernelError(errno.EINVAL, f"pfn {pfn:#x} is beyond the addressable range")
