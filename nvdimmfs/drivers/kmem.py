"""The driver that turns a dax device into System RAM."""

from __future__ import annotations

import errno

from nvdimmfs.core.device import Device
from nvdimmfs.dax.bus import DaxDriver
from nvdimmfs.dax.device import DevDax
from nvdimmfs.errors import KernelError


class KmemDriver(DaxDriver):
    """kmem: takes the devices whose names were written to new_id."""

    name = "kmem"

    def probe(self, device: Device) -> None:
        """Refuse it (dev_dax_kmem_probe, drivers/dax/kmem.c, Linux 6.1).

        EINVAL when it would not belong to a node; else ENOMEM: this machine cannot take in memory while it runs.
        """
        assert isinstance(device, DevDax)
        if device.region.target_node < 0:
            raise KernelError(errno.EINVAL, f"{device.name} would not belong to a node")
        raise KernelError(errno.ENOMEM, f"{device.name} cannot become System RAM: memory hotplug is not emulated")
