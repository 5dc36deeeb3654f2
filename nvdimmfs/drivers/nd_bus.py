"""The driver of the root devices ndbusN; user space cannot unbind it."""

from __future__ import annotations

from nvdimmfs.core.device import Device
from nvdimmfs.nd.bus import NdctlDevice, NvdimmBus
from nvdimmfs.nd.device import DeviceType, NdDevice
from nvdimmfs.nd.driver import NdDriver


class NdBusDriver(NdDriver):
    """nd_bus: takes every root device."""

    name = "nd_bus"
    device_types = frozenset({DeviceType.BUS})
    bind_attributes = False

    def probe(self, device: Device) -> None:
        """Make the control device; the provider adds the bus's other children."""
        assert isinstance(device, NvdimmBus)
        control = NdctlDevice(device)
        control.add()
        device.manage(control.unregister)

    def remove(self, device: Device) -> None:
        """Unregister everything that the provider added; the control device goes last."""
        for child in list(device.children):
            if isinstance(child, NdDevice):
                child.unregister()
