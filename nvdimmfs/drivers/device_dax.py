"""The driver behind /dev/daxX.Y."""

from __future__ import annotations

from nvdimmfs.core.device import Device
from nvdimmfs.dax.bus import DaxBusDevice, DaxDriver
from nvdimmfs.dax.device import DevDax
from nvdimmfs.dax.region import DaxRange
from nvdimmfs.drivers.pagemap import for_device_dax, map_pages
from nvdimmfs.mm.buffers import DriverMemory


class DeviceDaxDriver(DaxDriver):
    """device_dax: matches every device on the dax bus, but since 6.6 those of soft reserved memory."""

    name = "device_dax"

    def matches_kind(self, device: DaxBusDevice) -> bool:
        return not device.is_for_kmem

    def probe(self, device: Device) -> None:
        """Reserve its ranges and map them (dev_dax_probe, drivers/dax/device.c, Linux 6.1).

        EBUSY when a range is reserved; else as `map_pages`.
        """
        assert isinstance(device, DevDax)
        memory = device.region.memory or device.layer.memory
        for each in device.ranges:
            _reserve(device, memory, each)
        pagemap = device.page_map()
        for_device_dax(pagemap, device.align)
        device.manage(device.memory.revoke)  # once the pages are unmapped
        map_pages(device, memory, pagemap, device.region.numa_node)
        device.alive = True
        device.manage(device.kill)


def _reserve(device: DevDax, memory: DriverMemory, owned: DaxRange) -> None:
    start, size = owned.start, owned.size
    memory.request_region(start, size, device.name)
    device.manage(lambda: memory.release_region(start, size))
