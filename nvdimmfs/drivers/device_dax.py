"""The driver behind /dev/daxX.Y."""

from __future__ import annotations

import errno

from nvdimmfs.core.device import Device
from nvdimmfs.dax.bus import DaxDriver
from nvdimmfs.dax.device import DevDax
from nvdimmfs.drivers.pagemap import for_device_dax, map_pages
from nvdimmfs.errors import KernelError


class DeviceDaxDriver(DaxDriver):
    """device_dax: takes every device on the dax bus."""

    name = "device_dax"
    match_always = True

    def probe(self, device: Device) -> None:
        """Own the range and map it (dev_dax_probe, drivers/dax/device.c, Linux 6.1).

        ENXIO for an empty device, EBUSY when somebody owns the range; else as `map_pages`.
        """
        assert isinstance(device, DevDax)
        memory = device.layer.memory
        start, size = device.region.start, device.region.size
        if not size:
            raise KernelError(errno.ENXIO, f"{device.name} is empty")
        memory.request_region(start, size, device.name)
        device.manage(lambda: memory.release_region(start, size))
        for_device_dax(device.pagemap, device.region.align)
        map_pages(device, memory, device.pagemap, device.region.target_node)
