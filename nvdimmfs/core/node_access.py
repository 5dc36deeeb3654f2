"""How fast the memory of a NUMA node is: nodeN/access0 and access1 (drivers/base/node.c, Linux 6.1).

Class 0 is about the nearest node that accesses memory, class 1 about the nearest one with processors; here both are the
first node.  The firmware's HMAT has the values (drivers/acpi/numa/hmat.c).
"""

from __future__ import annotations

from typing import Self

from nvdimmfs.core.attribute import AttributeGroup, attribute
from nvdimmfs.core.device import Device
from nvdimmfs.core.power import NO_CALLBACKS_GROUP
from nvdimmfs.kernels.kernel import Kernel
from nvdimmfs.mm.nodes import NodeAccess

#: The classes, and the kernel that has each first.
_CLASSES = {0: "5.2", 1: "5.10"}


def access_classes(kernel: Kernel) -> list[int]:
    """The classes that a kernel knows."""
    return [number for number, since in _CLASSES.items() if kernel.has(since)]


class NodeAccessDevice(Device):
    """The device accessN of a node, which is on no bus.

    Attributes:
        access: how fast the node's memory is; None until that is known.
    """

    def __init__(self, node: Device, number: int) -> None:
        super().__init__(node.system, f"access{number}", node)
        self.access: NodeAccess | None = None

    @property
    def has_power(self) -> bool:
        """It has the files of a device without callbacks in place of the usual ones."""
        return False

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (INITIATORS_GROUP, TARGETS_GROUP, NO_CALLBACKS_GROUP)

    def show_values(self, access: NodeAccess) -> None:
        """Create the files with the values (node_set_perf_attrs)."""
        self.access = access
        VALUES_GROUP.create(self.directory.directory("initiators"), self)

    def link(self, folder: str, node: Device) -> None:
        """Add a link to a node, if there is none: a link outlives the node."""
        directory = self.directory.directory(folder)
        if node.name not in directory:
            directory.link(node.name, node.directory)

    @property
    def values(self) -> NodeAccess:
        """How fast the memory is; only while that is shown."""
        assert self.access is not None, f"{self.name} shows no values"
        return self.access


@attribute("read_latency")
def read_latency(device: NodeAccessDevice) -> str:
    """Nanoseconds that a read takes; 0 if that is not known."""
    return f"{device.values.read_latency}\n"


@attribute("write_latency")
def write_latency(device: NodeAccessDevice) -> str:
    """Nanoseconds that a write takes; 0 if that is not known."""
    return f"{device.values.write_latency}\n"


@attribute("read_bandwidth")
def read_bandwidth(device: NodeAccessDevice) -> str:
    """MB/s that are read at most; 0 if that is not known."""
    return f"{device.values.read_bandwidth}\n"


@attribute("write_bandwidth")
def write_bandwidth(device: NodeAccessDevice) -> str:
    """MB/s that are written at most; 0 if that is not known."""
    return f"{device.values.write_bandwidth}\n"


VALUES_GROUP: AttributeGroup[NodeAccessDevice] = AttributeGroup(
    (read_latency, write_latency, read_bandwidth, write_bandwidth)
)

#: Folders with a link to each node that accesses this one's memory, and to each node whose memory this one accesses.
INITIATORS_GROUP: AttributeGroup[NodeAccessDevice] = AttributeGroup((), name="initiators")
TARGETS_GROUP: AttributeGroup[NodeAccessDevice] = AttributeGroup((), name="targets")
