"""Drivers of devices on an nvdimm bus."""

from __future__ import annotations

from typing import ClassVar

from nvdimmfs.core.device import Device
from nvdimmfs.core.driver import Driver
from nvdimmfs.nd.device import DeviceType, NdDevice


class NdDriver(Driver):
    """A driver that matches by device type.

    Attributes:
        device_types: the device types that it matches.
    """

    device_types: ClassVar[frozenset[DeviceType]]

    def matches(self, device: Device) -> bool:
        return isinstance(device, NdDevice) and device.modalias_type in self.device_types

    def revalidate_poison(self, device: NdDevice) -> None:
        """The bus of a bound device has learned of new bad addresses."""

    def revalidate_region(self, device: NdDevice) -> None:
        """The region of a bound device became read-only or writable."""
