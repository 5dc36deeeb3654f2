"""The driver that registers an nvdimm bus for an ACPI NFIT (drivers/acpi/nfit/core.c, Linux 6.1)."""

from __future__ import annotations

from nvdimmfs.core.device import Device
from nvdimmfs.core.module import Module
from nvdimmfs.nd.bus import NdLayer
from nvdimmfs.platforms.acpi_bus import AcpiBus, AcpiDevice, AcpiDriver
from nvdimmfs.platforms.nfit.platform import NfitPlatform
from nvdimmfs.platforms.tables import PlatformTables


class NfitDriver(AcpiDriver):
    """nfit: registers an nvdimm bus with all devices of a table."""

    name = "nfit"

    def __init__(self, bus: AcpiBus, module: Module, layer: NdLayer, tables: PlatformTables) -> None:
        self.shows_module = bus.system.kernel.devices.acpi_drivers_name_their_module
        self._tables = tables
        self._platform = NfitPlatform(layer, module, tables)
        super().__init__(bus, module)

    def matches(self, device: Device) -> bool:
        return isinstance(device, AcpiDevice) and device.name in self._tables.by_device

    def probe(self, device: Device) -> None:
        """Register a root device with all devices of the table; the unbind unregisters it.

        Without an NFIT at boot there is no root device until the first update, not even if memory was plugged in before
        (acpi_nfit_add).
        """
        if device.name not in self._tables.without_table:
            self._platform.add(device, self._tables.by_device[device.name])

    def update(self, device: Device) -> None:
        """Register the DIMMs and ranges that are new in the table (acpi_nfit_update_notify)."""
        self._platform.update(device, self._tables.by_device[device.name])
