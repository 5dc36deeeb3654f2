"""The devices memoryN, blocks of System RAM: /sys/devices/system/memory (drivers/base/memory.c, Linux 6.1)."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Self

from nvdimmfs.core.attribute import AttributeGroup, attribute, constant, truth_value, write_only_attribute
from nvdimmfs.core.device import Device
from nvdimmfs.core.driver import Bus
from nvdimmfs.core.node import NodeDevice, NodeSubsystem, SubsystemRoot
from nvdimmfs.core.parse import line, parse_unsigned_or_einval
from nvdimmfs.core.system import System
from nvdimmfs.core.uevent import Action
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Directory, Files, FileTable, LazyTarget, LinkKind, NumberedNames, NumberedNodes, Symlink
from nvdimmfs.mm import memory_failure
from nvdimmfs.mm.hotplug import MemoryBlock, MemoryBlocks, OnlineType
from nvdimmfs.units import PAGE_SHIFT


class MemoryRoot(SubsystemRoot):
    """/sys/devices/system/memory."""

    def __init__(self, system: System, blocks: MemoryBlocks) -> None:
        super().__init__(system, "memory", None)
        self.blocks = blocks

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (MEMORY_ROOT_GROUP,)


class MemoryBlockDevice(Device):
    """A device memoryN.

    Attributes:
        block: the block that it represents.
        node: the node that the block belongs to; the last one if it has RAM of several.
        online_type: how it goes online when a write does not specify it.
    """

    def __init__(self, subsystem: MemorySubsystem, block: MemoryBlock, node: NodeDevice) -> None:
        super().__init__(subsystem.system, f"memory{block.number}", subsystem.root)
        self.bus = subsystem
        self.block = block
        self.node = node
        self.online_type = OnlineType.ONLINE
        self._blocks = subsystem.blocks
        self._root = subsystem.root

    def groups(self) -> tuple[AttributeGroup[Self], ...]:
        return (MEMORY_BLOCK_GROUP,)

    @property
    def directory(self) -> Directory:
        """Its directory, which another one replaces if a reset of the tree takes back that it was instantiated."""
        node = self._root.directory.get(self.name)
        return node if isinstance(node, Directory) else super().directory

    @property
    def zones(self) -> str:
        """The names of the zones that it is in, or can be onlined to; `none` for none, or if it is in several."""
        if self.block.online:
            return self.block.zone.name if self.block.zone else "none"
        return " ".join(zone.name for zone in self._blocks.allowed_zones(self.block))

    def switch_on(self) -> bool:
        """Go online as `online_type` specifies, which holds once.  False if already online (memory_subsys_online)."""
        if self.block.online:
            return False
        how, self.online_type = self.online_type, OnlineType.ONLINE
        self._blocks.switch_on(self.block, how)
        return True

    def switch_off(self) -> bool:
        """Go offline; False if already offline.  EINVAL, EBUSY as `MemoryBlocks.switch_off`."""
        if not self.block.online:
            return False
        self._blocks.switch_off(self.block)
        return True

    def add(self) -> None:
        super().add()
        self.directory.link(self.node.name, self.node.directory)
        self.node.directory.link(self.name, self.directory)

    def instantiate_on(self, nodes: Iterable[NodeDevice]) -> Directory:
        """Create its directory, with a link to each node that it has been on since boot."""
        directory = self.instantiate()
        for node in nodes:
            link = FileTable({node.name: LinkKind(_directory_of_node)})
            directory.populate_lazily(Files(link, node))
        return directory

    def unregister(self) -> None:
        self.node.directory.remove(self.name)
        super().unregister()


def _directory_of_node(node: NodeDevice) -> Directory:
    return node.directory


class MemorySubsystem(Bus):
    """The bus type memory, which has no drivers.

    Attributes:
        root: /sys/devices/system/memory.
        blocks: the blocks that it shows.
    """

    def __init__(self, system: System, blocks: MemoryBlocks) -> None:
        super().__init__(system, "memory")
        self.blocks = blocks
        self.root = MemoryRoot(system, blocks)
        self.root.add()
        self._nodes = NodeSubsystem(system, blocks.memory)
        self._boot_names = NumberedNames("memory", tuple(range(*each) for each in blocks.boot))
        self._register_boot_blocks()
        blocks.listener = self

    def _register_boot_blocks(self) -> None:
        """Register the devices of the blocks that are there at boot: a petabyte has half a million of them.

        They are instantiated when they are looked at, as are the links to them.
        """
        self.root.directory.add_family(NumberedNodes(self._boot_names, self._instantiate, are_directories=True))
        self.devices.add_family(NumberedNodes(self._boot_names, self._link_to, are_directories=False))
        for nid, numbers in self.blocks.boot_nodes.items():
            names = NumberedNames("memory", tuple(range(*each) for each in numbers))
            self._nodes.node(nid).directory.add_family(NumberedNodes(names, self._link_to, are_directories=False))
        if not self.system.count_unheard_uevent(len(self._boot_names)):
            for name in self._boot_names:
                self._boot_device(name).send_uevent(Action.ADD)

    def _instantiate(self, number: int) -> Directory:
        block = self.blocks.blocks[number]
        device = MemoryBlockDevice(self, block, self._nodes.node(block.nid))
        self.members[device.name] = device
        return device.instantiate_on(map(self._nodes.node, self.blocks.nodes_of(block)))

    def _link_to(self, number: int) -> Symlink:
        name = f"memory{number}"
        return Symlink(name, LazyTarget(self.root.directory, name))

    def _boot_device(self, name: str) -> Device:
        self.root.directory.find(name)  # which instantiates it
        return self.members[name]

    def member(self, name: str) -> Device | None:
        if name in self._boot_names:
            return self._boot_device(name)
        return super().member(name)

    def block_added(self, block: MemoryBlock) -> None:
        """Register its device, and its node's when this is the node's first memory."""
        MemoryBlockDevice(self, block, self._nodes.node(block.nid)).add()

    def block_removed(self, block: MemoryBlock) -> None:
        """Unregister its device."""
        self._device(block).unregister()

    def node_removed(self, nid: int) -> None:
        """Unregister its device."""
        self._nodes.remove(nid)

    def block_switched(self, block: MemoryBlock) -> None:
        """Send the uevent (device_online, device_offline, drivers/base/core.c), and show how fast new memory is."""
        if block.online:
            self._nodes.show_access(block.nid)
        self._device(block).send_uevent(Action.ONLINE if block.online else Action.OFFLINE)

    def _device(self, block: MemoryBlock) -> Device:
        device = self.member(f"memory{block.number}")
        assert device is not None, f"memory{block.number} is not registered"
        return device


@attribute("auto_online_blocks")
def auto_online_blocks(root: MemoryRoot) -> str:
    """How blocks are added: `offline`, `online`, `online_kernel` or `online_movable`."""
    return f"{root.blocks.auto_online}\n"


@auto_online_blocks.on_store
def _store_auto_online_blocks(root: MemoryRoot, data: bytes) -> None:
    """Set it to one of these words.  EINVAL for anything else."""
    root.blocks.auto_online = _online_type(data)


@write_only_attribute("soft_offline_page")
def soft_offline_page(root: MemoryRoot, data: bytes) -> None:
    """Stop using the page at a physical address; a page that is already bad stays as it is.

    EINVAL for anything but a number; ENXIO without a struct page; EIO for memory that is not online RAM, or in use.
    """
    memory_failure.soft_offline_page(root.blocks.memory, parse_unsigned_or_einval(data) >> PAGE_SHIFT)


@write_only_attribute("hard_offline_page")
def hard_offline_page(root: MemoryRoot, data: bytes) -> None:
    """Treat the page at a physical address as failed.

    EINVAL for anything but a number; EHWPOISON (133) if it is already bad; EBUSY if the kernel uses it, and for device
    memory; ENXIO for memory that is neither device memory nor online RAM.
    """
    memory_failure.memory_failure(root.blocks.memory, parse_unsigned_or_einval(data) >> PAGE_SHIFT)


@attribute("block_size_bytes")
def block_size_bytes(root: MemoryRoot) -> str:
    """Bytes of a block, hexadecimal."""
    return f"{root.blocks.size:x}\n"


@attribute("phys_index")
def phys_index(device: MemoryBlockDevice) -> str:
    """The N of memoryN, hexadecimal."""
    return f"{device.block.number:08x}\n"


@attribute("phys_device")
def phys_device(_device: MemoryBlockDevice) -> str:
    """Always `0`: only s390 reports the part of the machine."""
    return "0\n"


@attribute("removable")
def removable(_device: MemoryBlockDevice) -> str:
    """Always `1`: the kernel can offline memory."""
    return "1\n"


@attribute("state")
def state(device: MemoryBlockDevice) -> str:
    """`online` or `offline`."""
    return f"{OnlineType.ONLINE if device.block.online else OnlineType.OFFLINE}\n"


@state.on_store
def _store_state(device: MemoryBlockDevice, data: bytes) -> None:
    """`offline`, `online`, `online_kernel` or `online_movable`.

    EINVAL for anything else, if the block is already in that state, or if it cannot go offline; EBUSY when it is in
    use; since Linux 6.2, EHWPOISON (133) if it is to go online with a page that was declared bad.  A write that is
    refused because the block is online still decides how it goes online the next time.
    """
    how = _online_type(data)
    if how is not OnlineType.OFFLINE:
        device.online_type = how
    if not (device.switch_off() if how is OnlineType.OFFLINE else device.switch_on()):
        raise KernelError(errno.EINVAL, f"{device.name} is {state.show(device).decode().strip()} already")


@attribute("online")
def online(device: MemoryBlockDevice) -> str:
    """1 while it is online, else 0."""
    return f"{int(device.block.online)}\n"


@online.on_store
def _store_online(device: MemoryBlockDevice, data: bytes) -> None:
    """Go online or offline, if it is not already.

    EINVAL for anything but a truth value; EHWPOISON (133) as for `state`, and its other errors.
    """
    if truth_value(device, data):
        device.switch_on()
    else:
        device.switch_off()


@attribute("valid_zones")
def valid_zones(device: MemoryBlockDevice) -> str:
    """The zone it is in, `none` for several; while it is offline, the zones that it can be onlined to."""
    return f"{device.zones}\n"


def _online_type(data: bytes) -> OnlineType:
    try:
        return OnlineType(line(data))
    except ValueError:
        raise KernelError(errno.EINVAL, f"{line(data)!r} is none of {', '.join(OnlineType)}") from None


MEMORY_ROOT_GROUP: AttributeGroup[MemoryRoot] = AttributeGroup(
    (
        soft_offline_page,
        hard_offline_page,
        block_size_bytes,
        auto_online_blocks,
        # No memory of a crash kernel is described here, which changes of memory would be written into.
        constant("crash_hotplug", "0\n", since="6.6"),
    )
)
MEMORY_BLOCK_GROUP: AttributeGroup[MemoryBlockDevice] = AttributeGroup(
    (phys_index, state, phys_device, removable, valid_zones, online)
)
