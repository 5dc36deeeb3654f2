"""Virtio devices with persistent memory, and their driver (drivers/nvdimm/virtio_pmem.c, Linux 6.1).

The device is one of PCI; of that bus, only the folders above the virtio devices are there.
"""

from __future__ import annotations

from typing import Self

import attrs

from nvdimmfs.core.attribute import AttributeGroup, attribute
from nvdimmfs.core.device import Device
from nvdimmfs.core.driver import BIND_GROUP, DRIVER_GROUP, Bus, Driver
from nvdimmfs.core.kobject import KernelObject
from nvdimmfs.core.module import Module
from nvdimmfs.core.system import System
from nvdimmfs.kernfs import Directory
from nvdimmfs.machine_file import model
from nvdimmfs.mm.nodes import NUMA_NO_NODE
from nvdimmfs.nd.bus import NdLayer
from nvdimmfs.platforms.memory_bus import add_memory_bus
from nvdimmfs.platforms.tables import PlatformTables

#: The ids of such a device, and of the vendor of virtio devices over PCI (PCI_VENDOR_ID_REDHAT_QUMRANET).
VIRTIO_ID_PMEM = 27
VENDOR = 0x1AF4

#: Bits of the status: the kernel has found the device, has a driver for it, agreed on features, and the driver is ready
#: (VIRTIO_CONFIG_S_..., include/uapi/linux/virtio_config.h).
ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK = 1, 2, 4, 8

#: The features on which QEMU 7.2 and Linux agree, by bit: indirect descriptors, event indexes, version 1
#: (VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_RING_F_EVENT_IDX, VIRTIO_F_VERSION_1), and with newer kernels reset of a ring
#: (VIRTIO_F_RING_RESET).
FEATURES = frozenset({28, 29, 32})
_RING_RESET = 40

#: Bits of features.
_FEATURE_BITS = 64


class VirtioBus(Bus):
    """The bus type virtio."""

    def __init__(self, system: System) -> None:
        super().__init__(system, "virtio")
        for name in system.kernel.devices.built_in_virtio_drivers:
            BuiltInDriver(self, name)


class BuiltInDriver(Driver):
    """A driver that is built into the kernel, and for none of the devices here."""

    def __init__(self, bus: VirtioBus, name: str) -> None:
        self.name = name
        self.system = bus.system
        self.bus = bus
        self.devices = {}
        self.directory = bus.drivers.add(Directory(name))
        self.kobject = KernelObject(bus.system, self.directory, "drivers")
        DRIVER_GROUP.create(self.directory, self)
        BIND_GROUP.create(self.directory, self)
        bus.add_driver(self)

    def matches(self, device: Device) -> bool:  # noqa: ARG002  # of any kind
        return False


class VirtioDevice(Device):
    """A device on the virtio bus.

    Attributes:
        table: the memory that it announces.
    """

    def __init__(self, bus: VirtioBus, name: str, parent: Device | None, table: model.BusDescription) -> None:
        super().__init__(bus.system, name, parent)
        self.bus = bus
        self.table = table

    @property
    def alias(self) -> str:
        """The alias by which modprobe finds a driver."""
        return f"virtio:d{VIRTIO_ID_PMEM:08X}v{VENDOR:08X}"

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (VIRTIO_GROUP,)

    def uevent_variables(self) -> list[tuple[str, str]]:
        return [*super().uevent_variables(), ("MODALIAS", self.alias)]


@attribute("device")
def device_id(_device: VirtioDevice) -> str:
    """The kind of device, hexadecimal."""
    return f"{VIRTIO_ID_PMEM:#06x}\n"


@attribute("vendor")
def vendor(_device: VirtioDevice) -> str:
    """The vendor, hexadecimal."""
    return f"{VENDOR:#06x}\n"


@attribute("status")
def status(device: VirtioDevice) -> str:
    """The status of the device, bits in hexadecimal: 1 while no driver is bound, else 0xf."""
    bits = ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK if device.driver else ACKNOWLEDGE
    return f"{bits:#010x}\n"


@attribute("modalias")
def modalias(device: VirtioDevice) -> str:
    """The alias by which modprobe finds a driver: `virtio:`, the device's and the vendor's ids."""
    return f"{device.alias}\n"


@attribute("features")
def features(device: VirtioDevice) -> str:
    """The features that are used, a digit each, from bit 0 on."""
    used = FEATURES | {_RING_RESET} if device.system.kernel.devices.resets_virtio_rings else FEATURES
    return "".join("01"[bit in used] for bit in range(_FEATURE_BITS)) + "\n"


VIRTIO_GROUP: AttributeGroup[VirtioDevice] = AttributeGroup((device_id, vendor, status, modalias, features))


class VirtioPmemDriver(Driver):
    """virtio_pmem: registers an nvdimm bus with one region for each device."""

    name = "virtio_pmem"

    def __init__(self, bus: VirtioBus, module: Module, layer: NdLayer, tables: PlatformTables) -> None:
        self._layer = layer
        self._storage = tables.storage
        super().__init__(bus, module)

    def matches(self, device: Device) -> bool:
        return isinstance(device, VirtioDevice)

    def probe(self, device: Device) -> None:
        assert isinstance(device, VirtioDevice)
        table = device.table
        if self.system.kernel.devices.virtio_regions_have_node:
            table = attrs.evolve(table, ranges=tuple(map(self._on_node, table.ranges)))
        add_memory_bus(self._layer, device, self.module, self._storage, table)

    def _on_node(self, range_: model.RangeDescription) -> model.RangeDescription:
        """A range with the node of its address, unless it has one."""
        if range_.numa_node != NUMA_NO_NODE:
            return range_
        return attrs.evolve(range_, numa_node=self._layer.memory.nodes.node_of(range_.start))
