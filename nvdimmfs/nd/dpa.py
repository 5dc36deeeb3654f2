"""DIMM physical addresses: who owns which part of a DIMM, and where the next namespace goes.

One `DpaSpace` a DIMM.  Allocations have the name of a label, `pmem-<uuid>`, and a namespace's share of a DIMM is one
contiguous extent.  The rules are those of drivers/nvdimm/namespace_devs.c and dimm_devs.c of Linux 6.1.
"""

from __future__ import annotations

import bisect
import errno
from collections.abc import Iterator

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.mm.units import align_down, align_up

_ADDRESSES = 1 << 64


@attrs.define(eq=False)
class DpaResource:
    """An extent of a DIMM; addresses in bytes from the DIMM's start, the end included."""

    name: str
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start + 1


@attrs.frozen
class DpaWindow:
    """The part of a DIMM that belongs to one region, and what the region allocates in multiples of on each DIMM.

    Attributes:
        start: first address.
        size: bytes.
        align: bytes; the region's align divided by its DIMMs.
    """

    start: int
    size: int
    align: int

    @property
    def end(self) -> int:
        return self.start + self.size - 1


@attrs.frozen
class _Gap:
    """Free space that suits, and the neighbours that may grow into it."""

    start: int
    size: int
    before: DpaResource | None
    after: DpaResource | None


class DpaSpace:
    """The extents of one DIMM, in address order, none overlapping another."""

    def __init__(self) -> None:
        self._resources: list[DpaResource] = []

    def __iter__(self) -> Iterator[DpaResource]:
        return iter(self._resources)

    def named(self, name: str) -> list[DpaResource]:
        """The extents of one label."""
        return [resource for resource in self._resources if resource.name == name]

    def allocated(self, name: str) -> int:
        """Bytes that a label owns."""
        return sum(resource.size for resource in self.named(name))

    def allocate(self, name: str, start: int, size: int) -> DpaResource:
        """Take an extent.  EBUSY when part of it is taken, or it ends before it starts.

        Ends wrap (struct resource, Linux 6.1): no bytes at address 0 are all addresses there are.
        """
        new = DpaResource(name, start, (start + size - 1) % _ADDRESSES)
        index = bisect.bisect_left(self._resources, start, key=lambda resource: resource.start)
        before = self._resources[index - 1] if index else None
        after = self._resources[index] if index < len(self._resources) else None
        if new.end < start or (before and before.end >= start) or (after and after.start <= new.end):
            raise KernelError(errno.EBUSY, f"{name} cannot have {size} bytes at {start:#x}")
        self._resources.insert(index, new)
        return new

    def rename(self, old: str, new: str) -> None:
        """Give a label's extents to another."""
        for resource in self.named(old):
            resource.name = new

    def shrink(self, name: str, size: int) -> None:
        """Free `size` bytes of a label from the end (scan_free)."""
        while size:
            owned = self.named(name)
            if not owned:
                return
            last = owned[-1]
            if size < last.size:
                last.end -= size
                return
            size -= last.size
            self._resources.remove(last)

    def grow(self, window: DpaWindow, name: str, size: int) -> None:
        """Give a label `size` bytes more, next to what it has, else where they first fit (scan_allocate).

        Where nothing suits, not even for its alignment, the window's start is tried as it is.  ENXIO when that is
        taken, too.
        """
        gap = next(self._gaps(window, name, size), None)
        if gap is None:
            self._allocate_at_start(window, name, size)
        elif gap.after and gap.after.name == name:
            gap.after.start -= size
        elif gap.before and gap.before.name == name:
            gap.before.end += size
        else:
            self.allocate(name, gap.start, size)

    def _allocate_at_start(self, window: DpaWindow, name: str, size: int) -> None:
        try:
            self.allocate(name, window.start, size)
        except KernelError as refusal:
            raise KernelError(errno.ENXIO, f"no room for {size} bytes of {name}") from refusal

    def available(self, window: DpaWindow) -> int:
        """Free bytes in a window, in whole multiples of its alignment (nd_pmem_available_dpa)."""
        busy = 0
        for resource in self._resources:
            start = align_down(resource.start, window.align)
            end = align_up(resource.end + 1, window.align) - 1
            if window.start <= start < window.end:
                if end > window.end:
                    return 0
                busy += end - start + 1
            elif window.start <= end <= window.end:
                busy += end - start + 1
            elif start < window.start < end:
                busy += window.size
        return align_down(window.size - busy, window.align) if busy < window.size else 0

    def largest_extent(self, window: DpaWindow) -> int:
        """The most that one allocation in a window can get, bytes (nd_pmem_max_contiguous_dpa)."""
        left = self.available(window)
        largest = 0
        for start, end in self._free(window):
            taken = min(left, end + 1 - start)
            left -= taken
            first = align_up(start, window.align)
            largest = max(largest, align_down(start + taken, window.align) - first)
            if not left:
                break
        return largest

    def _gaps(self, window: DpaWindow, name: str, size: int) -> Iterator[_Gap]:
        """The gaps in which the label may have `size` bytes, in the order in which the kernel looks."""
        owned = self.named(name)
        existing = owned[-1] if owned else None
        inside = [resource for resource in self._resources if _overlaps(resource, window)]
        for resource, start, end in self._between(window, inside):
            first = align_up(start, window.align)
            last = align_down(end + 1, window.align) - 1
            if first >= last or last - first + 1 < size:
                continue
            if existing and first != existing.end + 1 and last != existing.start - 1:
                continue
            before = next((other for other in inside if other.end == start - 1), None)
            after = resource if end == resource.start - 1 else self._next(resource)
            yield _Gap(first, last - first + 1, before, after)

    def _between(self, window: DpaWindow, inside: list[DpaResource]) -> Iterator[tuple[DpaResource, int, int]]:
        """Free space at the window's start, between its extents and at its end, with the extent it was found at."""
        for position, resource in enumerate(inside):
            if position == 0 and resource.start > window.start:
                yield resource, window.start, resource.start - 1
            following = self._next(resource)
            end = min(window.end, following.start - 1) if following else window.end
            yield resource, resource.end + 1, end

    def _free(self, window: DpaWindow) -> Iterator[tuple[int, int]]:
        """Free space in a window, cut to its alignment; a window with nothing in it is free as it is."""
        inside = [resource for resource in self._resources if _overlaps(resource, window)]
        if not inside:
            yield window.start, window.end
            return
        for _, start, end in self._between(window, inside):
            first = align_up(start, window.align)
            last = align_down(end + 1, window.align) - 1
            if first < last:
                yield first, last

    def _next(self, resource: DpaResource) -> DpaResource | None:
        index = self._resources.index(resource) + 1
        return self._resources[index] if index < len(self._resources) else None


def _overlaps(resource: DpaResource, window: DpaWindow) -> bool:
    return resource.start <= window.end and resource.end >= window.start
