"""The driver of DIMMs."""

from __future__ import annotations

from nvdimmfs.core.device import Device
from nvdimmfs.nd.device import DeviceType
from nvdimmfs.nd.dimm import DimmDevice
from nvdimmfs.nd.driver import NdDriver


class NvdimmDriver(NdDriver):
    """nvdimm: reads a DIMM's label area, which divides regions into namespaces."""

    name = "nvdimm"
    device_types = frozenset({DeviceType.DIMM})

    def probe(self, device: Device) -> None:
        """Errors as `DimmDevice.enable`."""
        assert isinstance(device, DimmDevice)
        device.enable()

    def remove(self, device: Device) -> None:
        """Discard the labels; the next probe reads the label area again."""
        assert isinstance(device, DimmDevice)
        device.disable()
