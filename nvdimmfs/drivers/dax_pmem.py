"""The driver that registers a namespace's data on the dax bus."""

from __future__ import annotations

import errno

from nvdimmfs.core.device import Device
from nvdimmfs.core.driver import Bus
from nvdimmfs.core.module import Module
from nvdimmfs.dax.device import DaxLayer, DevDax
from nvdimmfs.dax.region import DaxRegion
from nvdimmfs.drivers.pagemap import pfn_pagemap
from nvdimmfs.errors import KernelError
from nvdimmfs.nd.dax import DaxDevice
from nvdimmfs.nd.device import DeviceType
from nvdimmfs.nd.driver import NdDriver
from nvdimmfs.nd.probe import common_probe, require_info_blocks, reserve


class DaxPmemDriver(NdDriver):
    """dax_pmem: the dax devices of an nvdimm bus."""

    name = "dax_pmem"
    device_types = frozenset({DeviceType.DAX_PMEM})

    def __init__(self, bus: Bus, module: Module, layer: DaxLayer) -> None:
        self._layer = layer
        super().__init__(bus, module)

    def probe(self, device: Device) -> None:
        """Reserve the part before the data, and register a device on the dax bus for the data.

        Errors as `nd.probe.common_probe` and `PageMapPersonality.set_up`; EBUSY; ENOMEM when the data is not aligned,
        or the padding in the info block exceeds the space.  A driver of the dax bus then probes the device; whether it
        binds makes no difference.
        """
        assert isinstance(device, DaxDevice)
        namespace = common_probe(device)
        require_info_blocks(namespace)
        layout = device.set_up()
        pagemap = pfn_pagemap(device, layout)
        reserve(device, namespace, layout.dataoff)
        start, size = layout.data.start, layout.data_size
        if size < 0:
            raise KernelError(errno.ENOMEM, f"{device.name} has no room for data")
        data = namespace.window(start, size)
        region = DaxRegion(
            device, device.region.id, start, size, layout.align, device.target_node, data, device.numa_node
        )
        region.memory = device.region.driver_memory
        dev_dax = DevDax(self._layer, region, namespace.id, pagemap)
        dev_dax.add()
        device.manage(dev_dax.unregister)
