"""Seeds: in every region, one unconfigured device of each kind for user space to configure next."""

from __future__ import annotations

from nvdimmfs.kernels.kernel import Kernel
from nvdimmfs.kernels.races import BOTH_SEEDS_REPLACED, FirstLock
from nvdimmfs.nd.btt import BttDevice
from nvdimmfs.nd.claim import Personality
from nvdimmfs.nd.dax import DaxDevice
from nvdimmfs.nd.device import DeviceType, NdDevice
from nvdimmfs.nd.namespace_pmem import NamespacePmem
from nvdimmfs.nd.pfn import PfnDevice
from nvdimmfs.nd.region import RegionDevice, SeedKind

#: In the order in which a region gets its first seeds (nd_region_probe, drivers/nvdimm/region.c, Linux 6.1).
PERSONALITIES_BEFORE_DAX: tuple[type[Personality], ...] = (BttDevice, PfnDevice)
PERSONALITIES: tuple[type[Personality], ...] = (*PERSONALITIES_BEFORE_DAX, DaxDevice)


def personalities(kernel: Kernel) -> tuple[type[Personality], ...]:
    """Those that a kernel has."""
    return PERSONALITIES if kernel.devices.has_dax else PERSONALITIES_BEFORE_DAX


def create_seed(region: RegionDevice, personality: type[Personality]) -> Personality:
    """Give the region a fresh seed; the old one, if any, is an ordinary device from now on."""
    seed = personality(region)
    region.seeds[personality.kind] = seed
    seed.schedule_add()
    return seed


def advance_seeds(region: RegionDevice, device: NdDevice) -> None:
    """A child of the region came up: replace it, and the namespace that it claims, if it was the seed.

    When both are replaced, both wait for the region's lock to be probed, see `kernels.races`.
    """
    namespace: NdDevice | None = device
    seed: Personality | None = None
    if isinstance(device, Personality):
        namespace = device.namespace
        if device.is_seed and device.kind in region.system.kernel.devices.advancing_seeds:
            seed = create_seed(region, type(device))
    if namespace and region.seeds[SeedKind.NAMESPACE] is namespace:
        _create_namespace_seed(region)
        if seed and BOTH_SEEDS_REPLACED.taken is FirstLock.NAMESPACE:
            region.system.schedule(seed.move_to_tail)


def _create_namespace_seed(region: RegionDevice) -> None:
    """A region without labels never gets a second namespace, so its namespace seed stays for ever."""
    if region.nstype is not DeviceType.NAMESPACE_PMEM:
        return
    seed = NamespacePmem(region)
    region.seeds[SeedKind.NAMESPACE] = seed
    seed.schedule_add()
