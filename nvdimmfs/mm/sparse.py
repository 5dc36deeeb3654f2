"""Sparse memory: which sections are populated, and where their struct pages lie.

mm/sparse.c, mm/sparse-vmemmap.c and arch/x86/mm/init_64.c of Linux 6.1 work section by section (128 MiB); here a run of
sections is one object, so that a petabyte costs as much as a section.  A section's memmap is 2 MiB:

* through a vmem_altmap it is one block of 512 frames of the range itself;
* in RAM it is one 2 MiB block, or single pages when there is none;
* a part of a section has its memmap in single pages of RAM, with an altmap too;
* a part of a section that held RAM at boot needs none: the memmap of the whole section is there since boot;
* compound pages (a device dax's) have one page for the head and one that all other pages of struct pages share.
"""

from __future__ import annotations

import bisect
import enum
import errno
import itertools
from collections.abc import Iterable, Iterator

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.mm.altmap import VmemAltmap
from nvdimmfs.mm.intervals import IntervalSet
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

#: Pages of RAM that the memmap of one compound page takes: its head's, and one for all of its tails.
VMEMMAP_PAGES_PER_COMPOUND = 2


class Place(enum.Enum):
    """Where struct pages lie."""

    BOOT = "boot"
    """In RAM, since boot."""
    RAM = "ram"
    PMEM = "pmem"


@attrs.frozen
class MemmapRun:
    """Struct pages of consecutive pfns that were allocated in one way.

    Attributes:
        first_pfn, end_pfn: the pages described, the latter not included.
        place: where their struct pages lie.
        pieces: the memory that they lie in, in order; empty where device memory uses a run made at boot.
        compound: pages of each compound page whose tails share their struct pages' memory; 0 for none.
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
        """Parts of the pfns from `low` to before `high` whose struct pages lie side by side, with their addresses.

        Compound pages are one part without addresses.
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
        """Bytes of RAM drawn for it."""
        return sum(piece.size for run in self.runs if run.place is Place.RAM for piece in run.pieces)

    @property
    def altmap_pfns(self) -> int:
        """Page frames drawn for it from the altmap."""
        return sum(piece.size >> PAGE_SHIFT for run in self.runs if run.place is Place.PMEM for piece in run.pieces)

    def in_pmem(self, low: int, high: int) -> Iterator[range]:
        """Physical addresses of those struct pages of the pfns from `low` to before `high` that an altmap placed."""
        for run in self.runs:
            if run.place is Place.PMEM:
                yield from (addresses for _, _, addresses in run.linear(low, high) if addresses)


class SparseMemory:
    """The sections of one machine.

    Attributes:
        boot: the memmap of the sections that hold RAM.
        fail_next_altmap_allocation: set it, and the next block is refused as if the altmap were full.
    """

    def __init__(self, ram: Iterable[tuple[int, int]], pool: RamPool, *, whole_sections: bool = False) -> None:
        """`ram` are first and end pfn of the RAM at boot, whose memmap is drawn from `pool` (ENOMEM).

        With `whole_sections`, as before Linux 5.3, a section is populated in full or not at all, and one
        that is populated already is taken as it is.
        """
        self._pool = pool
        self.fail_next_altmap_allocation = False
        self._whole_sections = whole_sections
        self._early = IntervalSet()
        self._populated = IntervalSet()
        self._hot = IntervalSet()
        for first, end in ram:
            section = align_down(first, PAGES_PER_SECTION), align_up(end, PAGES_PER_SECTION)
            subsection = align_down(first, PAGES_PER_SUBSECTION), align_up(end, PAGES_PER_SUBSECTION)
            self._early.add(*section)
            self._populated.add(*(section if whole_sections else subsection))
        self._online = self._populated.copy()
        self.boot = Memmap(
            tuple(
                MemmapRun(first, end, Place.BOOT, pool.take((end - first) * STRUCT_PAGE_SIZE))
                for first, end in self._early
            )
        )
        self._runs = list(self.boot.runs)

    @property
    def hot(self) -> IntervalSet:
        """Pfns of the memory that was populated after boot: device memory, and RAM that was added."""
        return self._hot

    def is_valid(self, pfn: int) -> bool:
        """Whether a struct page is mapped for it (pfn_valid); in a section with RAM that is so even in holes."""
        return pfn in self._early or pfn in self._hot

    def is_online(self, pfn: int) -> bool:
        """Whether it is within a subsection of RAM that is on line; device memory never is."""
        return pfn in self._online

    def switch(self, first: int, end: int, *, online: bool) -> None:
        """Let the subsections from pfn `first` to before `end` go on line or off line."""
        if online:
            self._online.add(first, end)
        else:
            self._online.remove(first, end)

    def runs_within(self, first: int, end: int) -> Iterator[MemmapRun]:
        """Where the struct pages of the pfns from `first` to before `end` lie, in order of pfns."""
        index = max(0, bisect.bisect_right(self._runs, first, key=_first_pfn) - 1)
        for run in itertools.islice(self._runs, index, None):
            if run.first_pfn >= end:
                return
            if run.end_pfn > first:
                yield run

    def add(self, first: int, end: int, altmap: VmemAltmap | None = None, compound: int = 0) -> Memmap:
        """Populate the pfns from `first` to before `end`, multiples of a subsection (sparse_add_section).

        `compound` is the number of pages of each compound page whose struct pages may share memory.
        EEXIST when a subsection is populated already, ENOMEM when the memmap does not fit; whichever the
        lower section meets.  Nothing is left behind then.
        """
        taken = None if self._whole_sections else self._populated.first_within(first, end)
        stop = end if taken is None else max(first, align_down(taken, PAGES_PER_SECTION))
        memmap = self._populate(self._vacant(first, stop), altmap, compound)
        if taken is not None:
            self._free(memmap, altmap)
            raise KernelError(errno.EEXIST, f"pfn {taken:#x} is populated already")
        for run in memmap.runs:
            self._populated.add(run.first_pfn, run.end_pfn)
            self._hot.add(run.first_pfn, run.end_pfn)
            if run.pieces:
                bisect.insort(self._runs, run, key=_first_pfn)
        return memmap

    def remove(self, memmap: Memmap, altmap: VmemAltmap | None = None) -> None:
        """Undo `add`."""
        for run in memmap.runs:
            self._populated.remove(run.first_pfn, run.end_pfn)
            self._hot.remove(run.first_pfn, run.end_pfn)
            if run.pieces:
                self._runs.remove(run)
        self._free(memmap, altmap)

    def _vacant(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """What of a range is to be populated, cut where a whole section begins or ends."""
        for low, high in list(_gaps(self._populated, first, end)):
            head = min(high, align_up(low, PAGES_PER_SECTION))
            tail = max(head, align_down(high, PAGES_PER_SECTION))
            yield from ((a, b) for a, b in ((low, head), (head, tail), (tail, high)) if a < b)

    def _populate(self, parts: Iterator[tuple[int, int]], altmap: VmemAltmap | None, compound: int) -> Memmap:
        runs: list[MemmapRun] = []
        try:
            for first, end in parts:
                runs.append(self._run(first, end, altmap, compound))  # what was made must be undone
        except KernelError:
            self._free(Memmap(tuple(runs)), altmap)
            raise
        return Memmap(tuple(runs))

    def _run(self, first: int, end: int, altmap: VmemAltmap | None, compound: int) -> MemmapRun:
        """Allocate the memmap of whole sections, or of a part of one."""
        partial = (end - first) % PAGES_PER_SECTION != 0
        if partial and first in self._early:
            return MemmapRun(first, end, Place.BOOT)
        if altmap and not partial:
            return MemmapRun(first, end, Place.PMEM, (self._altmap_piece(altmap, (end - first) // PAGES_PER_SECTION),))
        if compound and not altmap:
            chunks = div_round_up(end - first, compound)
            size = chunks * VMEMMAP_PAGES_PER_COMPOUND * PAGE_SIZE
            return MemmapRun(first, end, Place.RAM, self._pool.take(size), compound)
        return MemmapRun(first, end, Place.RAM, self._pool.take((end - first) * STRUCT_PAGE_SIZE))

    def _altmap_piece(self, altmap: VmemAltmap, sections: int) -> Piece:
        """The block of each of so many sections, one behind the other.  ENOMEM; x86 does not fall back to RAM."""
        injected, self.fail_next_altmap_allocation = self.fail_next_altmap_allocation, False
        if injected or sections > altmap.fitting(PAGES_PER_PMD):
            raise KernelError(errno.ENOMEM, f"the altmap has no room for the memmap of {sections} sections")
        return Piece(altmap.allocate(PAGES_PER_PMD, sections) << PAGE_SHIFT, sections * PMD_SIZE)

    def _free(self, memmap: Memmap, altmap: VmemAltmap | None) -> None:
        for run in memmap.runs:
            if run.place is Place.RAM:
                self._pool.give_back(run.pieces)
        if altmap:
            altmap.give_back(memmap.altmap_pfns)


def _gaps(taken: IntervalSet, first: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of a range that are not in a set."""
    for low, high in taken.within(first, end):
        if first < low:
            yield first, low
        first = high
    if first < end:
        yield first, end


def _first_pfn(run: MemmapRun) -> int:
    return run.first_pfn
