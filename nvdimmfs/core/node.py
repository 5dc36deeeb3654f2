"""The NUMA nodes: /sys/devices/system/node (drivers/base/node.c, Linux 6.1).

The machine has one processor, which is on the first node.  In a sandbox the processors are the host's.
"""

from __future__ import annotations

import errno
from typing import Self

from nvdimmfs.core.attribute import AttributeGroup, KernelAttribute, attribute, constant, write_only_attribute
from nvdimmfs.core.device import Device
from nvdimmfs.core.driver import Bus
from nvdimmfs.core.node_access import NodeAccessDevice, access_classes
from nvdimmfs.core.parse import line, parse_unsigned
from nvdimmfs.core.system import System
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Directory
from nvdimmfs.mm.e820 import memparse
from nvdimmfs.mm.meminfo import node_list, node_meminfo_text, node_numastat_text, node_vmstat_text
from nvdimmfs.mm.memory import Memory
from nvdimmfs.mm.nodes import FIRST_NODE
from nvdimmfs.units import GIB, KIB, PMD_SIZE


class SubsystemRoot(Device):
    """The root of a subsystem's devices, in /sys/devices/system (subsys_system_register, drivers/base/bus.c)."""

    def _place(self) -> Directory:
        return self.system.directory("devices/system")


class NodeRoot(SubsystemRoot):
    """/sys/devices/system/node."""

    def __init__(self, system: System, memory: Memory) -> None:
        super().__init__(system, "node", None)
        self.memory = memory

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (NODE_ROOT_GROUP,)


class NodeDevice(Device):
    """A device nodeN.

    Attributes:
        memory: the machine's memory.
        nid: its number.
    """

    def __init__(self, bus: Bus, root: NodeRoot, nid: int) -> None:
        super().__init__(bus.system, f"node{nid}", root)
        self.bus = bus
        self.memory = root.memory
        self.nid = nid

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (NODE_GROUP, HUGE_PAGE_2M_GROUP, HUGE_PAGE_1G_GROUP, DEMOTE_GROUP, X86_GROUP, FAILURE_GROUP)


class NodeSubsystem:
    """The nodes that are online."""

    def __init__(self, system: System, memory: Memory) -> None:
        self._bus = Bus(system, "node")
        self._root = NodeRoot(system, memory)
        self._root.add()
        self._nodes: dict[int, NodeDevice] = {}
        # The nodes of which it was shown how fast they are.
        self._shown: set[int] = set()
        for nid in memory.zones:
            self.node(nid)
        for nid in memory.zones:
            self.show_access(nid)

    def node(self, nid: int) -> NodeDevice:
        """The device of a node, which goes online if it is not."""
        if nid not in self._nodes:
            self._root.memory.node_zones(nid)
            node = self._nodes[nid] = NodeDevice(self._bus, self._root, nid)
            node.add()
        return self._nodes[nid]

    def remove(self, nid: int) -> None:
        """Unregister the device of a node that went offline."""
        node = self._nodes.pop(nid)
        for child in list(node.children):
            child.unregister()
        node.unregister()

    def show_access(self, nid: int) -> None:
        """Show how fast a node's memory is, at boot or when its first memory goes online; once for all.

        A node that went offline and comes back shows it no more (hmat_register_target, drivers/acpi/numa/hmat.c, Linux
        6.1).
        """
        access = self._root.memory.nodes.access(nid)
        if access is None or nid in self._shown:
            return
        self._shown.add(nid)
        for number in access_classes(self._root.system.kernel):
            target, initiator = self._access_device(nid, number), self._access_device(FIRST_NODE, number)
            target.link("initiators", self.node(FIRST_NODE))
            initiator.link("targets", self.node(nid))
            target.show_values(access)

    def _access_device(self, nid: int, number: int) -> NodeAccessDevice:
        node = self.node(nid)
        for child in node.children:
            if isinstance(child, NodeAccessDevice) and child.name == f"access{number}":
                return child
        device = NodeAccessDevice(node, number)
        device.add()
        return device


@attribute("online")
def online(root: NodeRoot) -> str:
    """The nodes that are online, such as `0-1`: with processors, with memory blocks, or nearest to a range at boot."""
    return f"{node_list(root.memory.zones)}\n"


@attribute("possible")
def possible(root: NodeRoot) -> str:
    """The nodes that the machine can have: those that its tables name, such as `0-2`."""
    return f"{node_list(root.memory.nodes.possible | root.memory.zones.keys())}\n"


@attribute("has_memory")
def has_memory(root: NodeRoot) -> str:
    """The nodes with online memory."""
    zones = root.memory.zones
    return f"{node_list(nid for nid, each in zones.items() if any(zone.populated for zone in each))}\n"


@attribute("has_normal_memory")
def has_normal_memory(root: NodeRoot) -> str:
    """The nodes with online memory that the kernel can use itself: not in the zone Movable alone."""
    zones = root.memory.zones
    normal = (nid for nid, each in zones.items() if any(zone.populated and zone.name != "Movable" for zone in each))
    return f"{node_list(normal)}\n"


@attribute("has_cpu")
def has_cpu(_root: NodeRoot) -> str:
    """The nodes with processors: `0`.  In a sandbox, too."""
    return f"{FIRST_NODE}\n"


NODE_ROOT_GROUP: AttributeGroup[NodeRoot] = AttributeGroup(
    (
        possible,
        online,
        has_normal_memory,
        has_memory,
        has_cpu,
        constant("has_generic_initiator", "\n", since="5.10"),
    )
)


@attribute("cpumap")
def cpumap(node: NodeDevice) -> str:
    """Its processors, a bit each, hexadecimal."""
    return f"{int(node.nid == FIRST_NODE)}\n"


@attribute("cpulist")
def cpulist(node: NodeDevice) -> str:
    """The numbers of its processors."""
    return "0\n" if node.nid == FIRST_NODE else "\n"


@attribute("meminfo")
def meminfo(node: NodeDevice) -> str:
    """Its memory, in kB: what is online, what of it is free, and what it is used for."""
    return node_meminfo_text(node.memory, node.nid)


@attribute("numastat")
def numastat(_node: NodeDevice) -> str:
    """Counts of allocations, all 0."""
    return node_numastat_text()


@attribute("distance")
def distance(node: NodeDevice) -> str:
    """The distances to all nodes that are online; 10 is that to itself."""
    return " ".join(str(node.memory.nodes.distance(node.nid, other)) for other in node.memory.zones) + "\n"


@attribute("vmstat")
def vmstat(node: NodeDevice) -> str:
    """Counters of pages."""
    return node_vmstat_text(node.memory, node.nid)


@write_only_attribute("compact")
def compact(_node: NodeDevice, _data: bytes) -> None:
    """Compact the node's memory.  Anything is accepted, and nothing is there to be moved."""


NODE_GROUP: AttributeGroup[NodeDevice] = AttributeGroup((cpumap, cpulist, meminfo, numastat, distance, vmstat, compact))


def _parse_count(data: bytes) -> int:
    """EINVAL for anything but a number (nr_hugepages_store_common)."""
    return parse_unsigned(data, base=10)


def _folder(size: int) -> str:
    return f"hugepages/hugepages-{size // KIB}kB"


@write_only_attribute("demote")
def demote(node: NodeDevice, data: bytes) -> None:
    """Split so many huge pages of 1 GiB, or all if there are less.  EINVAL for anything but a number."""
    pages = node.memory.huge_pages
    have = pages.count(node.nid, GIB)
    count = min(_parse_count(data), have)
    pages.resize(node.nid, GIB, have - count)
    pages.resize(node.nid, PMD_SIZE, pages.count(node.nid, PMD_SIZE) + count * (GIB // PMD_SIZE))


@attribute("demote_size")
def demote_size(_node: NodeDevice) -> str:
    """The size that they are split into: `2048kB`."""
    return f"{PMD_SIZE // KIB}kB\n"


@demote_size.on_store
def _store_demote_size(_node: NodeDevice, data: bytes) -> None:
    """EINVAL for anything but the size of a smaller huge page, of which there is one."""
    size, _ = memparse(line(data))
    if size != PMD_SIZE:
        raise KernelError(errno.EINVAL, f"{size} bytes is not the size of a smaller huge page")


def _huge_page_group(size: int) -> AttributeGroup[NodeDevice]:
    """The files about the huge pages of one size."""

    @attribute("nr_hugepages")
    def nr_hugepages(node: NodeDevice) -> str:
        """The huge pages of this size."""
        return f"{node.memory.huge_pages.count(node.nid, size)}\n"

    @nr_hugepages.on_store
    def _store_nr_hugepages(node: NodeDevice, data: bytes) -> None:
        """Have so many, or as many as there is free memory for.  EINVAL for no number, ERANGE past 64 bits."""
        node.memory.huge_pages.resize(node.nid, size, _parse_count(data))

    @attribute("free_hugepages")
    def free_hugepages(node: NodeDevice) -> str:
        """Those that no process uses: all."""
        return nr_hugepages.show(node).decode()

    files: tuple[KernelAttribute[NodeDevice], ...] = (
        nr_hugepages,
        free_hugepages,
        constant("surplus_hugepages", "0\n"),
    )
    return AttributeGroup(files, name=_folder(size))


HUGE_PAGE_2M_GROUP = _huge_page_group(PMD_SIZE)
HUGE_PAGE_1G_GROUP = _huge_page_group(GIB)
DEMOTE_GROUP: AttributeGroup[NodeDevice] = AttributeGroup((demote, demote_size), name=_folder(GIB), since="5.16")


#: The folder of SGX memory, which the machine does not have.
X86_GROUP: AttributeGroup[NodeDevice] = AttributeGroup((), name="x86", since="5.17")


@attribute("total")
def failed_pages(node: NodeDevice) -> str:
    """Pages that failed."""
    return f"{node.memory.bad_pages.failures_of(node.nid).total}\n"


@attribute("ignored")
def ignored_pages(node: NodeDevice) -> str:
    """Those of them that the kernel goes on to use, because it cannot do without."""
    return f"{node.memory.bad_pages.failures_of(node.nid).ignored}\n"


@attribute("failed")
def unhandled_pages(node: NodeDevice) -> str:
    """Those of device memory that no process maps."""
    return f"{node.memory.bad_pages.failures_of(node.nid).failed}\n"


@attribute("recovered")
def recovered_pages(node: NodeDevice) -> str:
    """Those that were taken from the page allocator."""
    return f"{node.memory.bad_pages.failures_of(node.nid).recovered}\n"


FAILURE_GROUP: AttributeGroup[NodeDevice] = AttributeGroup(
    (failed_pages, ignored_pages, unhandled_pages, constant("delayed", "0\n"), recovered_pages),
    name="memory_failure",
    since="6.6",
)
