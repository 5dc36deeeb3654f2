"""DIMM physical addresses (DPA): the owners of the parts of a DIMM, and the place for the next namespace.

Each DIMM has one `DpaSpace`.  An allocation is named after a label, `pmem-<uuid>`, and a namespace's share of a DIMM is
one contiguous extent.  The rules are those of drivers/nvdimm/namespace_devs.c and dimm_devs.c of Linux 6.1.
"""

from __future__ import annotations

import bisect
import errno
import itertools
import operator
from collections.abc import Iterator

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.units import U64_MASK, align_down, align_up


@attrs.define(eq=False, weakref_slot=False)
class DpaResource:
    """An extent of a DIMM: first and last address, in bytes from the DIMM's start."""

    name: str
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start + 1


@attrs.frozen
class DpaWindow:
    """The part of a DIMM that belongs to one region, and the alignment of allocations in it.

    Attributes:
        start: first address.
        size: bytes.
        align: bytes; the region's align divided by the number of its DIMMs.
    """

    start: int
    size: int
    align: int

    @property
    def end(self) -> int:
        return self.start + self.size - 1


@attrs.frozen
class _Gap:
    """Free space that is large enough, and the neighbours that may grow into it."""

    start: int
    size: int
    before: DpaResource | None
    after: DpaResource | None


@attrs.define
class _Taken:
    """The space that extents occupy in a window.

    Attributes:
        busy: bytes, in whole multiples of the window's alignment.
        overhanging: the number of extents that begin in the window and, aligned, end after it.
    """

    busy: int = 0
    overhanging: int = 0


class DpaSpace:
    """The extents of one DIMM, in address order, without overlaps.

    A DIMM may hold ten thousand namespaces, and creating one more should cost as much as the first.  So extents are
    found by name and by bisection, an index leads to the extents with free space after them, and the occupied space of
    a window is updated, not recounted.
    """

    def __init__(self) -> None:
        self._resources: list[DpaResource] = []
        self._named: dict[str, list[DpaResource]] = {}
        # The extents with free space right after them; the last extent is one of them.
        self._before_gaps: list[DpaResource] = []
        self._taken: dict[DpaWindow, _Taken] = {}

    def __iter__(self) -> Iterator[DpaResource]:
        return iter(self._resources)

    def __len__(self) -> int:
        return len(self._resources)

    def named(self, name: str) -> list[DpaResource]:
        """The extents of one label."""
        return list(self._named.get(name, ()))

    def allocated(self, name: str) -> int:
        """The bytes of all extents of a label."""
        return sum(resource.size for resource in self._named.get(name, ()))

    def allocate(self, name: str, start: int, size: int) -> DpaResource:
        """Allocate an extent.  EBUSY when it overlaps another one, or ends before it starts.

        The end wraps around (struct resource, Linux 6.1): zero bytes at address 0 are the whole address space.
        """
        new = DpaResource(name, start, (start + size - 1) & U64_MASK)
        index = bisect.bisect_left(self._resources, start, key=_start)
        before = self._resources[index - 1] if index else None
        after = self._resources[index] if index < len(self._resources) else None
        if new.end < start or (before and before.end >= start) or (after and after.start <= new.end):
            raise KernelError(errno.EBUSY, f"{name} cannot get {size} bytes at {start:#x}")
        self._resources.insert(index, new)
        if name in self._named:
            bisect.insort(self._named[name], new, key=_start)
        else:
            self._named[name] = [new]
        self._count(new, 1)
        if before:
            self._update_gap_before(before, new)
        self._update_gap_before(new, after)
        return new

    def rename(self, old: str, new: str) -> None:
        """Rename a label's extents."""
        resources = self._named.pop(old, [])
        for resource in resources:
            resource.name = new
        if resources:
            self._named[new] = sorted([*self._named.get(new, ()), *resources], key=_start)

    def shrink(self, name: str, size: int) -> None:
        """Free `size` bytes of a label from the end (scan_free)."""
        while size:
            owned = self._named.get(name)
            if not owned:
                return
            last = owned[-1]
            if size < last.size:
                self._resize(last, last.start, last.end - size)
                return
            size -= last.size
            self._remove(last)

    def grow(self, window: DpaWindow, name: str, size: int) -> None:
        """Allocate `size` more bytes for a label, next to its last extent or else first fit (scan_allocate).

        If no gap is large enough once it is aligned, the window's unaligned start is tried.  ENXIO when that is
        occupied, too.
        """
        gap = next(self._gaps(window, name, size), None)
        try:
            if gap is None:
                self.allocate(name, window.start, size)
            elif gap.after and gap.after.name == name:
                self._adjust(gap.after, gap.after.start - size, gap.after.end)
            elif gap.before and gap.before.name == name:
                self._adjust(gap.before, gap.before.start, gap.before.end + size)
            else:
                self.allocate(name, gap.start, size)
        except KernelError as refusal:
            raise KernelError(errno.ENXIO, f"no room for {size} bytes of {name}") from refusal

    def available(self, window: DpaWindow) -> int:
        """Free bytes in a window, in whole multiples of its alignment (nd_pmem_available_dpa)."""
        taken = self._taken.get(window)
        if taken is None:
            taken = self._taken[window] = _Taken()
            for resource in self._resources:
                _count(taken, window, resource, 1)
        if taken.overhanging or taken.busy >= window.size:
            return 0
        return align_down(window.size - taken.busy, window.align)

    def largest_extent(self, window: DpaWindow) -> int:
        """The size of the largest possible allocation in a window, bytes (nd_pmem_max_contiguous_dpa).

        The kernel reserves all available space, gap by gap, and takes the largest piece.  0 when the gaps, cut to the
        window's alignment, are smaller than the available space.
        """
        left = available = self.available(window)
        largest = 0
        for first, size in self._free(window):
            taken = min(left, size)
            if not self._is_free(first, taken):
                return 0
            left -= taken
            largest = max(largest, taken)
            if not left:
                return largest
        if left < available or not self._is_free(window.start, available):
            return 0
        first = align_up(window.start, window.align)
        return max(0, align_down(window.start + available, window.align) - first)

    def _gaps(self, window: DpaWindow, name: str, size: int) -> Iterator[_Gap]:
        """The gaps in which the label may get `size` bytes, in the order in which the kernel tries them."""
        owned = self._named.get(name)
        existing = owned[-1] if owned else None
        for resource, start, end in self._between(window):
            first, room = _trimmed(start, end, window.align)
            if not room or room < size:
                continue
            if existing and first != existing.end + 1 and (first + room - existing.start) & U64_MASK:
                continue
            before = resource if resource.end == start - 1 else None
            after = resource if end == resource.start - 1 else self._next(resource)
            yield _Gap(first, room, before, after)

    def _between(self, window: DpaWindow) -> Iterator[tuple[DpaResource, int, int]]:
        """Free space at the window's start, between its extents and at its end, each with the extent next to it.

        A gap may be empty if its end wraps around when it is cut (see `_trimmed`).
        """
        first = self._first_inside(window)
        if first is None:
            return
        if first.start > window.start:
            yield first, window.start, first.start - 1
        while (following := self._next(first)) and following.start < window.align:
            yield first, first.end + 1, min(window.end, following.start - 1)
            first = following
        index = bisect.bisect_left(self._before_gaps, first.start, key=_start)
        for resource in itertools.islice(self._before_gaps, index, None):
            if resource.start > window.end:
                return
            following = self._next(resource)
            end = min(window.end, following.start - 1) if following else window.end
            yield resource, resource.end + 1, end

    def _free(self, window: DpaWindow) -> Iterator[tuple[int, int]]:
        """Start and size of each gap of a window, cut to the alignment."""
        for _, start, end in self._between(window):
            first, size = _trimmed(start, end, window.align)
            if size:
                yield first, size

    def _is_free(self, start: int, size: int) -> bool:
        """Whether no extent overlaps a range."""
        after = bisect.bisect_left(self._resources, start + size, key=_start)
        return after == 0 or self._resources[after - 1].end < start

    def _first_inside(self, window: DpaWindow) -> DpaResource | None:
        index = bisect.bisect_left(self._resources, window.start, key=_end)
        first = self._resources[index] if index < len(self._resources) else None
        return first if first and first.start <= window.end else None

    def _next(self, resource: DpaResource) -> DpaResource | None:
        index = bisect.bisect_right(self._resources, resource.start, key=_start)
        return self._resources[index] if index < len(self._resources) else None

    def _adjust(self, resource: DpaResource, start: int, end: int) -> None:
        """Move an extent's ends.  EBUSY when it would overlap a neighbour (adjust_resource)."""
        index = bisect.bisect_left(self._resources, resource.start, key=_start)
        before = self._resources[index - 1] if index else None
        after = self._next(resource)
        if (before and start <= before.end) or (after and after.start <= end):
            raise KernelError(errno.EBUSY, f"{resource.name} cannot extend from {start:#x} to {end:#x}")
        self._resize(resource, start, end)

    def _resize(self, resource: DpaResource, start: int, end: int) -> None:
        """Move an extent's ends, which overlap no neighbour."""
        self._count(resource, -1)
        resource.start, resource.end = start, end
        self._count(resource, 1)
        index = bisect.bisect_left(self._resources, start, key=_start)
        self._update_gap_index(self._resources[index - 1] if index else None)
        self._update_gap_index(resource)

    def _remove(self, resource: DpaResource) -> None:
        self._count(resource, -1)
        index = bisect.bisect_left(self._resources, resource.start, key=_start)
        del self._resources[index]
        owned = self._named[resource.name]
        owned.remove(resource)
        if not owned:
            del self._named[resource.name]
        place = bisect.bisect_left(self._before_gaps, resource.start, key=_start)
        if place < len(self._before_gaps) and self._before_gaps[place] is resource:
            del self._before_gaps[place]
        self._update_gap_index(self._resources[index - 1] if index else None)

    def _update_gap_index(self, resource: DpaResource | None) -> None:
        """Record whether there is free space right after an extent."""
        if resource is not None:
            self._update_gap_before(resource, self._next(resource))

    def _update_gap_before(self, resource: DpaResource, following: DpaResource | None) -> None:
        """The same, with the extent that follows; None for none."""
        free = following is None or following.start > resource.end + 1
        place = bisect.bisect_left(self._before_gaps, resource.start, key=_start)
        noted = place < len(self._before_gaps) and self._before_gaps[place] is resource
        if free and not noted:
            self._before_gaps.insert(place, resource)
        elif noted and not free:
            del self._before_gaps[place]

    def _count(self, resource: DpaResource, sign: int) -> None:
        for window, taken in self._taken.items():
            _count(taken, window, resource, sign)


def _trimmed(start: int, end: int, align: int) -> tuple[int, int]:
    """Start and size of a gap that is cut to an alignment; size 0 if nothing is left (space_valid).

    In Linux 6.1 the end of a gap below the first multiple of the alignment wraps around, so that the gap counts as free
    up to the end of the address space.  Such gaps exist next to namespaces that are smaller than the alignment, created
    while the alignment was smaller.
    """
    first, last = align_up(start, align), (align_down(end + 1, align) - 1) & U64_MASK
    return first, (last + 1 - first) & U64_MASK if first < last else 0


def _count(taken: _Taken, window: DpaWindow, resource: DpaResource, sign: int) -> None:
    """Add an extent to the occupied space of a window; with -1, subtract it (nd_pmem_available_dpa)."""
    start = align_down(resource.start, window.align)
    end = align_up(resource.end + 1, window.align) - 1
    if window.start <= start < window.end:
        taken.busy += sign * (end - start + 1)
        taken.overhanging += sign * (end > window.end)
    elif window.start <= end <= window.end:
        taken.busy += sign * (end - start + 1)
    elif start < window.start < end:
        taken.busy += sign * window.size


_start = operator.attrgetter("start")
_end = operator.attrgetter("end")
