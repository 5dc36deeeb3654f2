"""The properties that all devices on an nvdimm bus share."""

from __future__ import annotations

import enum
import logging
import uuid

from nvdimmfs.core.attribute import AttributeGroup, attribute
from nvdimmfs.core.device import Device
from nvdimmfs.core.driver import Bus
from nvdimmfs.core.parse import parse_separated_uuid, parse_uuid
from nvdimmfs.errors import KernelError
from nvdimmfs.mm.nodes import NUMA_NO_NODE

log = logging.getLogger(__name__)


class DeviceType(enum.IntEnum):
    """The N of a modalias nd:tN (include/uapi/linux/ndctl.h, Linux 6.1)."""

    BUS = 0
    DIMM = 1
    REGION_PMEM = 2
    NAMESPACE_IO = 4
    NAMESPACE_PMEM = 5
    DAX_PMEM = 7


class NdDevice(Device):
    """A device on an nvdimm bus.

    Attributes:
        numa_node: the nearest online node.
        target_node: the node that the memory would form if it were onlined; NUMA_NO_NODE hides the attribute.
    """

    bus: Bus
    numa_node: int = NUMA_NO_NODE
    target_node: int = NUMA_NO_NODE

    @property
    def has_power(self) -> bool:
        return self.system.kernel.devices.power_directories

    @property
    def modalias_type(self) -> DeviceType:
        """The device type by which drivers match."""
        raise NotImplementedError

    @property
    def shows_node(self) -> bool:
        """Whether it has the attributes of its NUMA nodes."""
        return True

    @property
    def numa_groups(self) -> tuple[AttributeGroup[NdDevice], ...]:
        """The attributes of its NUMA nodes, as far as it has them."""
        if not self.shows_node:
            return ()
        return (NUMA_GROUP,) if self.target_node == NUMA_NO_NODE else (NUMA_GROUP, TARGET_NODE_GROUP)

    def parse_uuid(self, data: bytes) -> uuid.UUID:
        """Parse a UUID in the form that the kernel accepts.  EINVAL for anything else."""
        return parse_separated_uuid(data) if self.system.kernel.devices.uuid_separators else parse_uuid(data)

    def uevent_variables(self) -> list[tuple[str, str]]:
        return [*super().uevent_variables(), ("MODALIAS", f"nd:t{self.modalias_type}")]

    def add_async(self) -> None:
        """Register after the current request, as nd_device_register does."""
        self.system.queue_work(self._add_unless_refused)

    def _add_unless_refused(self) -> None:
        """Register; when the name is taken, only the kernel's log has it (nd_async_device_register, Linux 6.1).

        A region that was bound without labels has a namespace 0 that is in no `Numbering`.  If a DIMM with labels is
        bound afterwards, the next seed has its name.
        """
        try:
            self.add()
        except KernelError as refusal:
            if self.registered:
                raise
            log.warning("%s is not registered: %s", self.name, refusal)
            self.release()

    def unregister_async(self) -> None:
        """Unregister after the current request; from now on no driver may bind."""
        if self.dead:
            return
        self.dead = True
        self.system.queue_work(self.unregister)


@attribute("modalias")
def modalias(device: NdDevice) -> str:
    """The alias by which modprobe finds a driver: `nd:tN`, where N is the device type."""
    return f"nd:t{device.modalias_type}\n"


@attribute("devtype")
def devtype(device: NdDevice) -> str:
    """The device type's name."""
    return f"{device.device_type}\n"


@attribute("numa_node")
def numa_node(device: NdDevice) -> str:
    """The NUMA node, -1 for none."""
    return f"{device.numa_node}\n"


@attribute("target_node", since="5.7")
def target_node(device: NdDevice) -> str:
    """The node that the memory would form."""
    return f"{device.target_node}\n"


ND_DEVICE_GROUP: AttributeGroup[NdDevice] = AttributeGroup((modalias, devtype))
NUMA_GROUP: AttributeGroup[NdDevice] = AttributeGroup((numa_node,))
TARGET_NODE_GROUP: AttributeGroup[NdDevice] = AttributeGroup((target_node,))
