"""The driver of DIMMs."""

from __future__ import annotations

from nvdimmfs.core.device import Device
from nvdimmfs.nd.device import DeviceType
from nvdimmfs.nd.dimm import DimmDevice
from nvdimmfs.nd.driver import NdDriver


class NvdimmDriver(NdDriver):
    """nvdimm: reads a DIMM's label area, so that regions can be divided up by it."""

    name = "nvdimm"
    device_types = frozenset({DeviceType.DIMM})

    def probe(self, device: Device) -> None:
        """Errors as `DimmDevice.enable`."""
        assert isinstance(device, DimmDevice)
        device.enable()

    def remove(self, device: Device) -> None:
        """The label area is read again at the next probe."""
        assert isinstance(device, DimmDevice)
        device.disable()
