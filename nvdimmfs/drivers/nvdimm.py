"""The driver of DIMMs."""

from __future__ import annotations

from nvdimmfs.core.device import Device
from nvdimmfs.nd.device import DeviceType
from nvdimmfs.nd.driver import NdDriver


class NvdimmDriver(NdDriver):
    """nvdimm: reads a DIMM's label area; legacy platforms have no DIMM for it."""

    name = "nvdimm"
    device_types = frozenset({DeviceType.DIMM})

    def probe(self, device: Device) -> None:
        """There is nothing to read on a DIMM without a label area."""
