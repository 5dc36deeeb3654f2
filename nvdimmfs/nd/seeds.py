"""Seeds: in every region, one unconfigured device of each kind for user space to configure next."""

from __future__ import annotations

from nvdimmfs.nd.btt import BttDevice
from nvdimmfs.nd.claim import Personality
from nvdimmfs.nd.dax import DaxDevice
from nvdimmfs.nd.device import NdDevice
from nvdimmfs.nd.pfn import PfnDevice
from nvdimmfs.nd.region import RegionDevice

#: In the order in which a region gets its first seeds (nd_region_probe, drivers/nvdimm/region.c, Linux 6.1).
PERSONALITIES: tuple[type[Personality], ...] = (BttDevice, PfnDevice, DaxDevice)


def create_seed(region: RegionDevice, personality: type[Personality]) -> None:
    """Give the region a fresh seed; the old one, if any, is an ordinary device from now on."""
    seed = personality(region)
    region.seeds[personality.kind] = seed
    seed.schedule_add()


def advance_seeds(region: RegionDevice, device: NdDevice) -> None:
    """A child of the region came up: replace it if it was the seed.

    A region without labels never gets a second namespace, so its namespace seed stays for ever.
    """
    if isinstance(device, Personality) and device.is_seed:
        create_seed(region, type(device))
