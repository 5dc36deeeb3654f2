"""The region driver: makes a region's namespaces and seeds appear, and vanish."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from nvdimmfs.core.device import Device
from nvdimmfs.core.module import Module
from nvdimmfs.errors import KernelError
from nvdimmfs.nd.btt import BttDevice
from nvdimmfs.nd.bus_type import NdBus
from nvdimmfs.nd.device import DeviceType
from nvdimmfs.nd.driver import NdDriver
from nvdimmfs.nd.label_scan import scan
from nvdimmfs.nd.namespace import NamespaceDevice, NamespaceIo
from nvdimmfs.nd.region import Kind, RegionData, RegionDevice
from nvdimmfs.nd.seeds import create_seed, personalities


class NdRegionDriver(NdDriver):
    """nd_region: bound to a region, it holds everything that is made of the region."""

    name = "nd_region"
    device_types = frozenset({DeviceType.REGION_PMEM})
    bus: NdBus

    def __init__(self, bus: NdBus, module: Module) -> None:
        super().__init__(bus, module)

    def probe(self, device: Device) -> None:
        """Register the namespaces and the first seeds.

        The kernel probes the namespaces in a worker while it makes the seeds, and a personality that the probe finds
        on media takes the lowest free number like a seed.  Who comes first is left to the scheduler, which prefers
        whoever has worked less.  On Linux 6.1 with one processor that is the worker, in 247 of 256 trials with one
        namespace.  But it is the seeds where the region is new (128 of 142), because a worker is at them as well, and
        where the worker has just mapped the pages of another region (`NdBus.workers_late`).  A probe that finds
        nothing holds a number of each kind for a moment, too: now and then a seed is 1 and nothing is 0.  Here it
        never is.

        ENXIO while a DIMM that is locked or has labels is disabled; ENODEV when the labels contradict each other.
        """
        assert isinstance(device, RegionDevice)
        _claim_dimms(device)
        device.reset_badblocks()
        namespaces = _namespaces(device)
        device.data = RegionData(active=len(namespaces), count=len(namespaces))
        seed, *more = namespaces
        late = self.bus.workers_late
        if late or not more:
            device.seeds[Kind.NAMESPACE] = seed
        for namespace in namespaces:
            if late:
                namespace.schedule_add()
            else:
                namespace.add()
        if more and not late:
            _note_late(device, seed)
        for personality in personalities(self.system.kernel):
            create_seed(device, personality)

    def remove(self, device: Device) -> None:
        """Unregister every child; the seeds are gone with them."""
        assert isinstance(device, RegionDevice)
        for child in list(device.children):
            child.unregister()
        device.seeds = dict.fromkeys(Kind)
        device.data = None


def _note_late(region: RegionDevice, seed: NamespaceDevice) -> None:
    """Call a region's first namespace its seed when that may have come up already, so that no other takes its place.

    The worker gets its turn when the second namespace is allocated, and keeps it until it has to wait.  Mapping pages
    makes it wait (in 248 of 248 trials on Linux 6.1 with one processor), and mostly so does making a disk for metadata
    (in 62 of 80).  A first namespace that is a plain disk is up by then (in 263 of 280), and so is one behind a BTT
    without metadata (in 310 of 360).
    """

    def note() -> None:
        if region.data:
            region.seeds[Kind.NAMESPACE] = seed

    if isinstance(seed.claim, BttDevice) and not seed.claim.has_metadata:
        region.system.schedule_last(note)
    else:
        note()


def _claim_dimms(region: RegionDevice) -> None:
    """Keep the region's DIMMs busy while it is bound (init_active_labels, Linux 6.1).

    EBUSY when one is being overwritten (nd_region_activate); ENXIO when one is disabled that is locked, or whose
    labels are needed.
    """
    if any(mapping.dimm.security and mapping.dimm.security.overwriting for mapping in region.mappings):
        raise KernelError(errno.EBUSY, f"a DIMM of {region.name} is being overwritten")
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
