"""Memory that nodes `pmem-region` of a device tree describe, and their driver (drivers/nvdimm/of_pmem.c, 6.1)."""

from __future__ import annotations

import struct

from nvdimmfs.core.device import Device
from nvdimmfs.core.device_tree import DeviceTreeNode
from nvdimmfs.core.driver import Driver
from nvdimmfs.core.module import Module
from nvdimmfs.machine_file import model
from nvdimmfs.nd.bus import NdLayer
from nvdimmfs.platforms.memory_bus import add_memory_bus
from nvdimmfs.platforms.platform_bus import PlatformBus, PlatformDevice
from nvdimmfs.platforms.tables import PlatformTables

#: What the node of such memory is compatible with.
COMPATIBLE = "pmem-region"

#: A range in the property `reg`: address and size, two cells each.
_REG = struct.Struct(">QQ")


class PmemRegionDevice(PlatformDevice):
    """The platform device of a node, which has the node's address and name (of_device_make_bus_id, drivers/of).

    Attributes:
        table: the memory that the node describes.
        of_node: the node.
    """

    of_node: DeviceTreeNode

    def __init__(self, bus: PlatformBus, table: model.BusDescription) -> None:
        name = table.parent.rpartition("/")[2]
        super().__init__(bus, name)
        self.table = table
        properties = {"reg": b"".join(_REG.pack(range_.start, range_.size) for range_ in table.ranges)}
        if table.ranges[0].kind.is_volatile:
            properties["volatile"] = b""
        address, _, kind = name.partition(".")
        self.of_node = DeviceTreeNode.create(bus.system, kind, int(address, 16), COMPATIBLE, properties)

    @property
    def alias(self) -> str:
        return self.of_node.alias


class OfPmemDriver(Driver):
    """of_pmem: registers an nvdimm bus with a region for each range of a node."""

    name = "of_pmem"

    def __init__(self, bus: PlatformBus, module: Module, layer: NdLayer, tables: PlatformTables) -> None:
        self._layer = layer
        self._storage = tables.storage
        super().__init__(bus, module)

    def matches(self, device: Device) -> bool:
        return isinstance(device, PmemRegionDevice) and device.driver_override in (None, self.name)

    def probe(self, device: Device) -> None:
        assert isinstance(device, PmemRegionDevice)
        add_memory_bus(self._layer, device, self.module, self._storage, device.table, device.of_node)
