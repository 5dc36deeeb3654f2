"""The bus type nd: how devices of nvdimm buses are matched with drivers, probed and removed."""

from __future__ import annotations

import errno

from nvdimmfs.core.device import Class, Device
from nvdimmfs.core.driver import Bus, Driver
from nvdimmfs.core.numbering import Numbering
from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.kernels.durations import REGION_BIND
from nvdimmfs.mm.memory import Memory
from nvdimmfs.nd.bus import NdLayer
from nvdimmfs.nd.device import NdDevice
from nvdimmfs.nd.region import RegionDevice
from nvdimmfs.nd.seeds import RegionBinds, advance_seeds


class NdBus(Bus):
    """The bus type nd.

    Attributes:
        layer: what all nvdimm buses share.
        region_binds: the binds of regions.
    """

    def __init__(self, system: System, memory: Memory, region_numbers: Numbering) -> None:
        super().__init__(system, "nd")
        self.layer = NdLayer(self, Class(system, "nd"), memory, region_numbers)
        self.region_binds = RegionBinds(system, memory)

    def unregister(self) -> None:
        """Remove the bus.

        A root device that is unregistered while no driver is bound to it leaves its DIMMs and regions registered: they
        are forgotten, without uevents.  (In Linux 6.1 they stay forever, out of sight.)
        """
        for device in list(self.members.values()):
            device.forget()
        self.members.clear()
        self.layer.nd_class.unregister()
        super().unregister()

    def initial_probe(self, device: Device) -> None:
        """As any bus.  A new region is itself probed by a worker, during which other workers sleep."""
        if not isinstance(device, RegionDevice):
            super().initial_probe(device)
            return
        self.region_binds.probing_new = True
        self.attach_device(device)
        self.region_binds.probing_new = False

    def call_probe(self, driver: Driver, device: Device) -> None:
        """Probe, and replace a seed that was bound, or whose probe returned EOPNOTSUPP.

        EOPNOTSUPP stands for an info block that must not be overwritten; Linux replaces such a seed since 5.7
        (nvdimm_bus_probe, drivers/nvdimm/bus.c).
        """
        try:
            if isinstance(device, RegionDevice):
                driver.probe(device)  # which writes nothing itself; its children have probes of their own
            else:
                self._probe_in_transaction(driver, device)
        except KernelError as refusal:
            if refusal.errno == errno.EOPNOTSUPP:
                _advance(device)
            raise
        _advance(device)
        if isinstance(device, RegionDevice):
            device.parent.provider_module.pins += 1
            self.region_binds.bound(device)
            self.system.clock.price_act(REGION_BIND)

    def _probe_in_transaction(self, driver: Driver, device: Device) -> None:
        """What the probe writes to media survives the end of this process whole or not at all.

        A host that refuses that when the probe has succeeded (OSError) has the device taken out of service again.
        """
        is_probed = False
        try:
            with self.system.transaction():
                driver.probe(device)
                is_probed = True
        except OSError:
            if is_probed:
                driver.remove(device)
            raise

    def call_remove(self, driver: Driver, device: Device) -> None:
        driver.remove(device)
        if isinstance(device, RegionDevice):
            device.parent.provider_module.pins -= 1
            self.region_binds.unbound()


def _advance(device: Device) -> None:
    if isinstance(device.parent, RegionDevice) and isinstance(device, NdDevice):
        advance_seeds(device.parent, device)
