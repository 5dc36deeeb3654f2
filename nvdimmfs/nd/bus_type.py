"""The bus type nd: how devices of nvdimm buses are matched with drivers, probed and removed."""

from __future__ import annotations

import errno

from attrs import frozen

from nvdimmfs.core.device import Class, Device
from nvdimmfs.core.driver import Bus, Driver
from nvdimmfs.core.numbering import Numbering
from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.races import BOUND_AFTER_MAPPING, BOUND_REGION, NEW_REGION, First, Race
from nvdimmfs.mm.memory import Memory
from nvdimmfs.nd.bus import NdLayer
from nvdimmfs.nd.device import NdDevice
from nvdimmfs.nd.region import RegionDevice
from nvdimmfs.nd.seeds import advance_seeds


@frozen
class RegionBind:
    """When a region was bound.

    Attributes:
        writes: how many attributes had been written by then.
    """

    region: RegionDevice
    writes: int


class NdBus(Bus):
    """The bus type nd.

    Attributes:
        layer: what all nvdimm buses share.
    """

    def __init__(self, system: System, memory: Memory, region_numbers: Numbering) -> None:
        super().__init__(system, "nd")
        self.layer = NdLayer(self, Class(system, "nd"), memory, region_numbers)
        self._offering_region = False
        self._last_bind: RegionBind | None = None

    @property
    def region_race(self) -> Race[First]:
        """What decides whether the seeds or the workers of the region that is being probed come first."""
        if self._offering_region:
            return NEW_REGION
        return BOUND_AFTER_MAPPING if self._workers_lag else BOUND_REGION

    @property
    def _workers_lag(self) -> bool:
        """Whether they have mapped the pages of another region, whose bind was the write before this one."""
        last = self._last_bind
        if last is None or self.system.writes > last.writes + 1:
            return False
        return self.layer.memory.maps_pages_in(last.region.start, last.region.end)

    def unregister(self) -> None:
        self.layer.nd_class.unregister()
        super().unregister()

    def initial_probe(self, device: Device) -> None:
        """As any bus; but a new region is probed by a worker itself, which leaves the others asleep meanwhile."""
        if not isinstance(device, RegionDevice):
            super().initial_probe(device)
            return
        self._offering_region = True
        self.attach_device(device)
        self._offering_region = False

    def call_probe(self, driver: Driver, device: Device) -> None:
        """Probe; a device that came up, or whose info block is one we must not touch, was a seed no longer.

        EOPNOTSUPP counts since Linux 5.7 (nvdimm_bus_probe, drivers/nvdimm/bus.c).
        """
        try:
            driver.probe(device)
        except KernelError as refusal:
            if refusal.errno == errno.EOPNOTSUPP:
                _advance(device)
            raise
        _advance(device)
        if isinstance(device, RegionDevice):
            device.parent.provider_module.pins += 1
            self._last_bind = RegionBind(device, self.system.writes)

    def call_remove(self, driver: Driver, device: Device) -> None:
        driver.remove(device)
        if isinstance(device, RegionDevice):
            device.parent.provider_module.pins -= 1
            self._last_bind = None


def _advance(device: Device) -> None:
    if isinstance(device.parent, RegionDevice) and isinstance(device, NdDevice):
        advance_seeds(device.parent, device)
