"""Sparse memory: the populated sections, and the location of their struct pages.

mm/sparse.c, mm/sparse-vmemmap.c and arch/x86/mm/init_64.c of Linux 6.1 work section by section (128 MiB).  Here a run
of sections is one object, so that a petabyte costs as much as a section.  The memmap of a section has 2 MiB:

* with a vmem_altmap, it is one block of 512 frames of the range itself;
* in RAM, it is one block of 2 MiB, or single pages when no such block is free;
* a part of a section has its memmap in single pages of RAM, even with an altmap;
* a part of a section that held RAM at boot needs none, because the memmap of the whole section exists since boot;
* a compound page (of a device dax) has one page of RAM for the first page of struct pages, and one page that all
  further pages of struct pages share.
"""

from __future__ import annotations

import bisect
import enum
import errno
import itertools
from collections.abc import Iterable, Iterator, Mapping

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.faults.faults import Faults
from nvdimmfs.mm.altmap import VmemAltmap
from nvdimmfs.mm.intervals import IntervalSet
from nvdimmfs.mm.nodes import FIRST_NODE
from nvdimmfs.mm.ram import Piece, RamPool
from nvdimmfs.units import (
    PAGE_SHIFT,
    PAGE_SIZE,
    PAGES_PER_PMD,
    PAGES_PER_SECTION,
    PAGES_PER_SUBSECTION,
    PMD_SIZE,
    STRUCT_PAGE_SIZE,
    align_down,
    align_up,
    div_round_up,
)

#: Pages of RAM in the memmap of one compound page: one for the head, and one that the tails share.
VMEMMAP_PAGES_PER_COMPOUND = 2


class Place(enum.Enum):
    """The kind of memory that holds struct pages."""

    BOOT = "boot"
    """In RAM, allocated at boot."""
    RAM = "ram"
    PMEM = "pmem"


@attrs.frozen
class MemmapRun:
    """Struct pages of consecutive pfns that were allocated in one step.

    Attributes:
        first_pfn, end_pfn: the pages described; `end_pfn` is not included.
        place: the kind of memory that holds the struct pages.
        pieces: that memory, in order; empty where device memory uses a run allocated at boot.
        compound: pages in each compound page, whose tails share the memory of their struct pages; 0 for plain pages.
    """

    first_pfn: int
    end_pfn: int
    place: Place
    pieces: tuple[Piece, ...] = ()
    compound: int = 0

    def location(self, pfn: int) -> int:
        """Physical address of a page's struct page."""
        offset = (pfn - self.first_pfn) * STRUCT_PAGE_SIZE
        if self.compound:
            chunk, offset = divmod(offset, self.compound * STRUCT_PAGE_SIZE)
            shared = min(offset // PAGE_SIZE, VMEMMAP_PAGES_PER_COMPOUND - 1)
            offset = (chunk * VMEMMAP_PAGES_PER_COMPOUND + shared) * PAGE_SIZE + offset % PAGE_SIZE
        for piece in self.pieces:
            if offset < piece.size:
                return piece.start + offset
            offset -= piece.size
        raise AssertionError("the pieces hold every struct page of the run")

    def linear(self, low: int, high: int) -> Iterator[tuple[int, int, range | None]]:
        """Yield the parts of the pfns from `low` to before `high` whose struct pages are contiguous.

        Each item is first pfn, end pfn and the physical addresses of the struct pages.  Compound pages are one part
        without addresses.
        """
        if self.compound:
            yield low, high, None
            return
        first = self.first_pfn
        for piece in self.pieces:
            end = first + piece.size // STRUCT_PAGE_SIZE
            a, b = max(first, low), min(end, high)
            if a < b:
                start = piece.start + (a - first) * STRUCT_PAGE_SIZE
                yield a, b, range(start, start + (b - a) * STRUCT_PAGE_SIZE, STRUCT_PAGE_SIZE)
            first = end


@attrs.frozen
class Memmap:
    """The struct pages of one range of device memory."""

    runs: tuple[MemmapRun, ...]

    @property
    def ram_bytes(self) -> int:
        """Bytes of RAM allocated for it."""
        return sum(piece.size for run in self.runs if run.place is Place.RAM for piece in run.pieces)

    @property
    def altmap_pfns(self) -> int:
        """Page frames allocated for it from the altmap."""
        return sum(piece.size >> PAGE_SHIFT for run in self.runs if run.place is Place.PMEM for piece in run.pieces)

    def in_pmem(self, low: int, high: int) -> Iterator[range]:
        """Yield the physical addresses of the struct pages in an altmap for the pfns from `low` to before `high`."""
        for run in self.runs:
            if run.place is Place.PMEM:
                yield from (addresses for _, _, addresses in run.linear(low, high) if addresses)


class SparseMemory:
    """The sections of one machine.

    Attributes:
        boot: the memmap of the sections that held RAM at boot.
        left: the struct pages that failed calls of `add` left behind.
        faults: the fault rules: an allocation can fail as if the altmap were full.
    """

    def __init__(
        self, ram: Mapping[int, Iterable[tuple[int, int]]], pool: RamPool, *, whole_sections: bool = False
    ) -> None:
        """Populate the RAM at boot, given as first and end pfns by node, and allocate its memmap from `pool`.  ENOMEM.

        With `whole_sections`, as before Linux 5.3, a section is populated in full or not at all, and a section that
        is populated already is reused.
        """
        self._pool = pool
        self.left: list[MemmapRun] = []
        self.faults = Faults()
        self._whole_sections = whole_sections
        self._early = IntervalSet()
        self._populated = IntervalSet()
        self._hot = IntervalSet()
        runs: list[MemmapRun] = []
        for nid, parts in ram.items():
            sections = IntervalSet()
            for first, end in parts:
                section = align_down(first, PAGES_PER_SECTION), align_up(end, PAGES_PER_SECTION)
                subsection = align_down(first, PAGES_PER_SUBSECTION), align_up(end, PAGES_PER_SUBSECTION)
                sections.add(*section)
                self._populated.add(*(section if whole_sections else subsection))
            # A section that has RAM of two nodes has one memmap.
            own = [gap for section in sections for gap in self._early.gaps(*section)]
            for first, end in own:
                self._early.add(first, end)
                pieces = pool.take((end - first) * STRUCT_PAGE_SIZE, nid)
                runs.append(MemmapRun(first, end, Place.BOOT, pieces))
        self._online = self._populated.copy()
        self.boot = Memmap(tuple(sorted(runs, key=_first_pfn)))
        self._runs = list(self.boot.runs)

    @property
    def hot(self) -> IntervalSet:
        """Pfns of the memory that was populated after boot: device memory and added RAM."""
        return self._hot

    def is_valid(self, pfn: int) -> bool:
        """Whether a struct page is mapped for a pfn (pfn_valid); true even for holes in a section with RAM."""
        return pfn in self._early or pfn in self._hot

    def is_online(self, pfn: int) -> bool:
        """Whether a pfn is within a subsection of online RAM; never true for device memory."""
        return pfn in self._online

    def switch(self, first: int, end: int, *, online: bool) -> None:
        """Mark the subsections from pfn `first` to before `end` online or offline."""
        if online:
            self._online.add(first, end)
        else:
            self._online.remove(first, end)

    def runs_within(self, first: int, end: int) -> Iterator[MemmapRun]:
        """Yield the runs of struct pages for the pfns from `first` to before `end`, in order."""
        index = max(0, bisect.bisect_right(self._runs, first, key=_first_pfn) - 1)
        for run in itertools.islice(self._runs, index, None):
            if run.first_pfn >= end:
                return
            if run.end_pfn > first:
                yield run

    def add(
        self,
        first: int,
        end: int,
        altmap: VmemAltmap | None = None,
        compound: int = 0,
        owner: str = "",
        nid: int = FIRST_NODE,
    ) -> Memmap:
        """Populate the pfns from `first` to before `end`, multiples of a subsection (sparse_add_section).

        `compound` is the number of pages in each compound page whose struct pages may share memory; 0 for plain pages.
        `owner` is the name of the device that has an altmap, for fault rules; `nid` is the node of the memory.
        EEXIST when a subsection is populated already, ENOMEM when the memmap does not fit; the lowest failing section
        decides which.  The kernel does not undo a failure (__add_pages, mm/memory_hotplug.c, Linux 6.1): the sections
        below the one that failed stay populated until the next boot, and keep their memmap, see `left`.
        """
        taken = None if self._whole_sections else self._populated.first_within(first, end)
        stop = end if taken is None else max(first, align_down(taken, PAGES_PER_SECTION))
        runs: list[MemmapRun] = []
        try:
            for run in self._populate(first, stop, altmap, compound, owner, nid):
                self._insert(run)
                runs.append(run)
            if taken is not None:
                raise KernelError(errno.EEXIST, f"pfn {taken:#x} is populated already")
        except KernelError:
            self.left += runs
            raise
        return Memmap(tuple(runs))

    def remove(self, memmap: Memmap, altmap: VmemAltmap | None = None) -> None:
        """Undo `add`."""
        for run in memmap.runs:
            self._populated.remove(run.first_pfn, run.end_pfn)
            self._hot.remove(run.first_pfn, run.end_pfn)
            if run.pieces:
                self._runs.remove(run)
        self._free(memmap, altmap)

    def _vacant(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of a range that are not populated yet, split where a whole section begins or ends."""
        for low, high in list(self._populated.gaps(first, end)):
            head = min(high, align_up(low, PAGES_PER_SECTION))
            tail = max(head, align_down(high, PAGES_PER_SECTION))
            yield from ((a, b) for a, b in ((low, head), (head, tail), (tail, high)) if a < b)

    def _populate(
        self, first: int, end: int, altmap: VmemAltmap | None, compound: int, owner: str, nid: int
    ) -> Iterator[MemmapRun]:
        """Allocate the memmaps of the parts of a range that are not populated yet, each as it is yielded.  ENOMEM."""
        shared = compound if altmap is None else 0
        for low, high in self._vacant(first, end):
            if low in self._early and not _is_whole(low, high):  # a part of a section with a memmap since boot
                yield MemmapRun(low, high, Place.BOOT)
                continue
            own = altmap if altmap and _is_whole(low, high) else None
            if own and self.faults.altmaps:
                self.faults.refuse(self.faults.altmaps, owner)
            fitting = self._end_of_fitting(low, high, own, shared)
            if low < fitting:
                yield self._run(low, fitting, own, shared, nid)
            if fitting < high:
                raise KernelError(
                    errno.ENOMEM, f"{'the altmap' if own else 'RAM'} has no room for the memmap of pfn {fitting:#x}"
                )

    def _end_of_fitting(self, first: int, end: int, altmap: VmemAltmap | None, compound: int) -> int:
        """The pfn up to which there is room for the memmap of whole sections, or of a part of one section."""
        if altmap:
            return min(end, first + altmap.fitting(PAGES_PER_PMD) * PAGES_PER_SECTION)
        free = self._pool.free_bytes
        if _memmap_size(end - first, compound) <= free:
            return end
        chunk = compound or PAGE_SIZE // STRUCT_PAGE_SIZE  # the page frames whose struct pages are allocated together
        fitting = free // _memmap_size(chunk, compound) * chunk
        return first + align_down(fitting, PAGES_PER_SECTION)

    def _run(self, first: int, end: int, altmap: VmemAltmap | None, compound: int, nid: int) -> MemmapRun:
        """Allocate the memmap of whole sections, or of a part of one, which fits."""
        if altmap:
            sections = (end - first) // PAGES_PER_SECTION
            # One block for each section, adjacent to each other.
            piece = Piece(altmap.allocate(PAGES_PER_PMD, sections) << PAGE_SHIFT, sections * PMD_SIZE)
            return MemmapRun(first, end, Place.PMEM, (piece,))
        return MemmapRun(first, end, Place.RAM, self._pool.take(_memmap_size(end - first, compound), nid), compound)

    def _insert(self, run: MemmapRun) -> None:
        self._populated.add(run.first_pfn, run.end_pfn)
        self._hot.add(run.first_pfn, run.end_pfn)
        if run.pieces:
            bisect.insort(self._runs, run, key=_first_pfn)

    def _free(self, memmap: Memmap, altmap: VmemAltmap | None) -> None:
        for run in memmap.runs:
            if run.place is Place.RAM:
                self._pool.give_back(run.pieces)
        if altmap:
            altmap.give_back(memmap.altmap_pfns)


def _is_whole(first: int, end: int) -> bool:
    """Whether a range that ends where sections do consists of whole sections."""
    return (end - first) % PAGES_PER_SECTION == 0


def _memmap_size(pfns: int, compound: int) -> int:
    """Bytes of RAM for the struct pages of a range."""
    if not compound:
        return pfns * STRUCT_PAGE_SIZE
    return div_round_up(pfns, compound) * VMEMMAP_PAGES_PER_COMPOUND * PAGE_SIZE


def _first_pfn(run: MemmapRun) -> int:
    return run.first_pfn
