"""Zones of page frames: each node has DMA, DMA32, Normal, Movable and Device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

#: The ends of the zones DMA and DMA32 as pfns: 16 MiB and 4 GiB (arch/x86/mm/init.c).
MAX_DMA_PFN = (16 << 20) >> 12
MAX_DMA32_PFN = (4 << 30) >> 12


@attrs.define(eq=False)
class Zone:
    """Page frames that the kernel manages in the same way.

    Attributes:
        name: as shown in /proc/zoneinfo.
        nid: the node.
        start_pfn: the first frame spanned; 0 for an empty zone.
        spanned: frames from the first to the last, including holes.
        present: frames that exist; always 0 for device memory, which the page allocator does not manage.
        managed: frames that the page allocator manages.
    """

    name: str
    nid: int = 0
    start_pfn: int = 0
    spanned: int = 0
    present: int = 0
    managed: int = 0

    @property
    def end_pfn(self) -> int:
        """The frame after the last one spanned."""
        return self.start_pfn + self.spanned

    @property
    def populated(self) -> bool:
        """Whether the zone has present frames, which the page allocator manages (populated_zone)."""
        return self.present > 0

    def __contains__(self, pfn: int) -> bool:
        return self.start_pfn <= pfn < self.end_pfn

    def grow(self, first: int, end: int) -> None:
        """Extend the span to the frames from `first` to before `end` (resize_zone_range)."""
        if not self.spanned:
            self.start_pfn, self.spanned = first, end - first
            return
        start = min(self.start_pfn, first)
        self.spanned = max(self.end_pfn, end) - start
        self.start_pfn = start

    def shrink(self, first: int, end: int, remaining: Iterable[tuple[int, int]]) -> None:
        """Remove the frames from `first` to before `end` from the span, if they are at its edge (shrink_zone_span).

        `remaining`: all other frames that are in the zone and online.
        """
        rest = sorted(remaining)
        if not rest and (self.start_pfn == first or self.end_pfn == end):
            self.start_pfn = self.spanned = 0
        elif self.start_pfn == first:
            self.spanned = self.end_pfn - rest[0][0]
            self.start_pfn = rest[0][0]
        elif self.end_pfn == end:
            self.spanned = max(high for _, high in rest) - self.start_pfn

    def shrink_to(self, remaining: Iterable[tuple[int, int]]) -> None:
        """Reduce the span to the given ranges, as in kernels whose ZONE_DEVICE shrinks."""
        self.start_pfn = self.spanned = 0
        for first, end in remaining:
            self.grow(first, end)


def ram_zones(nid: int, ram: Sequence[tuple[int, int]]) -> list[Zone]:
    """Create the zones of a node's RAM, given as first and end pfns, and an empty Movable zone.

    Each zone spans the part of the node that is within its limits, including holes (calculate_node_totalpages,
    mm/page_alloc.c).  The caller sets `managed`, which depends on reservations.
    """
    node_first = min((first for first, _ in ram), default=0)
    node_end = max((end for _, end in ram), default=0)
    zones = []
    for name, low, high in (
        ("DMA", 0, MAX_DMA_PFN),
        ("DMA32", MAX_DMA_PFN, MAX_DMA32_PFN),
        ("Normal", MAX_DMA32_PFN, node_end),
    ):
        start, end = max(low, node_first), min(high, node_end)
        present = sum(max(0, min(end, b) - max(start, a)) for a, b in ram)
        zones.append(Zone(name, nid, start, end - start, present) if present else Zone(name, nid))
    return [*zones, Zone("Movable", nid)]


def device_zone(nid: int) -> Zone:
    """Create a node's empty ZONE_DEVICE."""
    return Zone("Device", nid)
