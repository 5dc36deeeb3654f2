"""Memory that becomes bad by a fault rule."""

from __future__ import annotations

from collections.abc import Iterable

from nvdimmfs.block.badblocks import SECTOR_SIZE
from nvdimmfs.faults.rule import BadSectors
from nvdimmfs.media.base import range_medium
from nvdimmfs.nd.region import RegionDevice


def poison_registered(region: RegionDevice) -> None:
    """Make those sectors of a region bad that fault rules make bad when it is registered."""
    poison(region, region.system.faults.bad_sectors(range_medium(region.start, region.size)))


def poison(region: RegionDevice, bad: Iterable[BadSectors]) -> None:
    """Make sectors of a region bad, as far as it has them; its bus knows them."""
    for sectors in bad:
        start = region.start + sectors.first * SECTOR_SIZE
        length = min(sectors.count * SECTOR_SIZE, region.end + 1 - start)
        if length > 0:
            region.parent.poison(start, length)
