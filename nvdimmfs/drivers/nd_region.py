"""The region driver, which registers and unregisters a region's namespaces and seeds."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from nvdimmfs.core.device import Device
from nvdimmfs.core.module import Module
from nvdimmfs.errors import KernelError
from nvdimmfs.nd.bus_type import NdBus
from nvdimmfs.nd.device import DeviceType
from nvdimmfs.nd.driver import NdDriver
from nvdimmfs.nd.label_scan import scan
from nvdimmfs.nd.namespace import NamespaceDevice, NamespaceIo
from nvdimmfs.nd.region import RegionData, RegionDevice, SeedKind
from nvdimmfs.nd.seeds import register_children


class NdRegionDriver(NdDriver):
    """nd_region: matches every region."""

    name = "nd_region"
    device_types = frozenset({DeviceType.REGION_PMEM})
    bus: NdBus

    def __init__(self, bus: NdBus, module: Module) -> None:
        super().__init__(bus, module)

    def probe(self, device: Device) -> None:
        """Register the namespaces and the first seeds.

        ENXIO while a DIMM that is locked or has labels is disabled; ENODEV when the labels contradict each other.
        """
        assert isinstance(device, RegionDevice)
        _claim_dimms(device)
        device.reset_badblocks()
        namespaces = _namespaces(device)
        device.data = RegionData(active=len(namespaces), count=len(namespaces))
        register_children(device, namespaces, self.bus.region_binds.race)

    def remove(self, device: Device) -> None:
        """Unregister every child, seeds included."""
        assert isinstance(device, RegionDevice)
        for child in list(device.children):
            child.unregister()
        device.seeds = dict.fromkeys(SeedKind)
        device.data = None


def _claim_dimms(region: RegionDevice) -> None:
    """Mark the region's DIMMs as used while it is bound (init_active_labels, Linux 6.1).

    EBUSY while a DIMM is being overwritten (nd_region_activate); ENXIO when the caches of the processor may have other
    data than a DIMM (nd_region_invalidate_memregion), and when a DIMM is disabled and is locked or has labels.
    """
    secured = [mapping.dimm.security for mapping in region.mappings if mapping.dimm.security]
    if any(security.overwriting for security in secured):
        raise KernelError(errno.EBUSY, f"a DIMM of {region.name} is being overwritten")
    if any(security.incoherent for security in secured):
        raise KernelError(errno.ENXIO, f"a DIMM of {region.name} has new data, and a guest cannot flush its caches")
    for mapping in region.mappings:
        if mapping.dimm.data:
            mapping.claim()
            region.manage(mapping.release)
        elif mapping.dimm.locked or mapping.dimm.labeling:
            raise KernelError(errno.ENXIO, f"{mapping.dimm.name} is disabled")


def _namespaces(region: RegionDevice) -> Sequence[NamespaceDevice]:
    if region.nstype is DeviceType.NAMESPACE_PMEM:
        return scan(region)
    return [NamespaceIo(region)]
