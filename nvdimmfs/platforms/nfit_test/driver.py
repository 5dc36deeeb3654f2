"""The driver of the kernel's test platform (tools/testing/nvdimm/test/nfit.c, Linux 6.1)."""

from __future__ import annotations

from nvdimmfs.core.device import Class, Device
from nvdimmfs.core.driver import Driver
from nvdimmfs.core.module import Module
from nvdimmfs.nd.bus import NdLayer
from nvdimmfs.platforms.dimm_firmware.update import Activations
from nvdimmfs.platforms.nfit_test.bus import TestedDimms
from nvdimmfs.platforms.nfit_test.dimm import TestDimm
from nvdimmfs.platforms.nfit_test.platform import NfitTestPlatform
from nvdimmfs.platforms.platform_bus import PlatformBus, PlatformDevice
from nvdimmfs.platforms.tables import PlatformTables


class NfitTestDriver(Driver):
    """nfit_test: the test platform, whose DIMMs and memory exist from its probe to its removal."""

    name = "nfit_test"

    def __init__(
        self, bus: PlatformBus, module: Module, layer: NdLayer, tables: PlatformTables, device_class: Class
    ) -> None:
        self._tables = tables
        self._class = device_class
        self._activations = Activations(bus.system.clock)
        self._layer = layer
        super().__init__(bus, module)

    def matches(self, device: Device) -> bool:
        return (
            isinstance(device, PlatformDevice)
            and device.driver_override in (None, self.name)
            and device.name in self._tables.by_device
            and self._tables.by_device[device.name].is_test_platform
        )

    def probe(self, device: Device) -> None:
        """Register a device for each DIMM's failures, then continue as the real driver."""
        table = self._tables.by_device[device.name]
        device.manage(lambda: self._tables.forget(table))
        first = self._first_number(device.name)
        tested = TestedDimms(self.system.clock, table, self._activations, self.system.faults, first)
        for number, dimm in enumerate(tested.by_handle.values(), first):
            device.manage(dimm.failures.end)
            test_dimm = TestDimm(self._class, device, number, dimm)
            test_dimm.add()
            device.manage(test_dimm.unregister)
        NfitTestPlatform(self._layer, self.module, self._tables, tested).add(device, table)

    def _first_number(self, device: str) -> int:
        """The number of the device's first test DIMM: they are numbered over all platforms, registered or not."""
        first = 0
        for name, table in self._tables.by_device.items():
            if name == device:
                break
            first += len(table.test_dimms)
        return first
