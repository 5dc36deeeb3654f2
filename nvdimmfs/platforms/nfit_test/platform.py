"""Registers the buses of the kernel's test platform with their DIMMs and regions."""

from __future__ import annotations

from nvdimmfs.core.device import Device
from nvdimmfs.core.module import Module
from nvdimmfs.machine_file import model
from nvdimmfs.media.base import Media
from nvdimmfs.nd.bus import NdLayer
from nvdimmfs.nd.dimm import NvdimmDescription
from nvdimmfs.platforms.nfit.bus import NfitBus, NfitDimm
from nvdimmfs.platforms.nfit.platform import NfitPlatform
from nvdimmfs.platforms.nfit_test.bus import NfitTestBus, NfitTestDimm, TestedDimms
from nvdimmfs.platforms.tables import PlatformTables


class NfitTestPlatform(NfitPlatform):
    """Registers a bus of the test platform, which executes commands itself."""

    has_buffers = True

    def __init__(self, layer: NdLayer, module: Module, tables: PlatformTables, tested: TestedDimms) -> None:
        """`tested`: the bus's DIMMs in the test platform."""
        super().__init__(layer, module, tables)
        self._tested = tested

    def _new_bus(self, parent: Device, table: model.BusDescription) -> NfitBus:
        bus = NfitTestBus(self._layer, parent, self._module, table, self._tested)
        if table.scrubbing and table.ranges:  # a scrub of the first range runs at the start (nfit_test0_setup)
            bus.ars.start(table.ranges[0].start, table.ranges[0].size)
        return bus

    def _new_dimm(
        self, bus: NfitBus, table: model.DimmDescription, description: NvdimmDescription, label_area: Media | None
    ) -> NfitDimm:
        return NfitTestDimm(bus, table, description, label_area, self._tested)
