"""The driver of the root devices ndbusN; user space cannot unbind it."""

from __future__ import annotations

from nvdimmfs.core.device import Device
from nvdimmfs.nd.bus import NdctlDevice, NvdimmBus
from nvdimmfs.nd.device import DeviceType, NdDevice
from nvdimmfs.nd.driver import NdDriver


class NdBusDriver(NdDriver):
    """nd_bus: matches every root device."""

    name = "nd_bus"
    device_types = frozenset({DeviceType.BUS})
    bind_attributes = False

    def probe(self, device: Device) -> None:
        """Register the control device; the provider registers the bus's other children."""
        assert isinstance(device, NvdimmBus)
        control = NdctlDevice(device)
        control.add()
        device.manage(control.unregister)

    def remove(self, device: Device) -> None:
        """Unregister the children that the provider registered; the control device is the last."""
        for child in list(device.children):
            if isinstance(child, NdDevice):
                child.unregister()
