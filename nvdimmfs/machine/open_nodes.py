"""Device nodes that processes have open.

The nodes of a mount are files, and a sandbox looks for processes when it matters (`sandbox.open_nodes`), so the machine
does not know of either.  Who opens nodes here gets the kernel's answers until they are closed.
"""

from __future__ import annotations

import errno
import os

import attrs

from nvdimmfs.block.disk import Disk
from nvdimmfs.block.openers import close_block_device, open_block_device
from nvdimmfs.block.partition import Partition
from nvdimmfs.core.device import Device
from nvdimmfs.core.device_number import Numbered
from nvdimmfs.core.module import Module
from nvdimmfs.core.system import System
from nvdimmfs.dax.device import DevDax
from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs.open_file import open_node
from nvdimmfs.kernfs.path import resolve
from nvdimmfs.machine.device_calls import device_named
from nvdimmfs.machine.machine import Machine
from nvdimmfs.machine.node_owners import owner_of_node


@attrs.frozen
class OpenNode:
    """A device node that a process has open.  Its module stays, and so does the number of its device.

    Attributes:
        name: the name of the node.
        device: the device, which may be gone meanwhile.
        module: the module that serves it; None for one that is part of the kernel.
        exclusive: whether it was opened with O_EXCL, which only block devices know.
    """

    name: str
    device: Device
    module: Module | None
    exclusive: bool

    def close(self) -> None:
        """The process closes it, or ends.  Call it once."""
        if isinstance(self.device, Disk | Partition):
            close_block_device(self.device, exclusive=self.exclusive)
        elif isinstance(self.device, DevDax):
            self.device.closed()
        if self.module is not None:
            self.module.pins -= _references(self.device)


def open_device_node(machine: Machine, name: str, flags: int) -> OpenNode:
    """Open a device node, as a process that may administer the system.

    EBUSY for a block device that another process has to itself; other errors as `device_of_node`.

    Args:
        machine: the machine.
        name: the name of the node in /dev.
        flags: those of open(2).
    """
    device = device_of_node(machine.system, name, flags)
    assert isinstance(device, Device)
    exclusive = bool(flags & os.O_EXCL) and isinstance(device, Disk | Partition)
    if isinstance(device, Disk | Partition):
        open_block_device(device, exclusive=exclusive)
    elif isinstance(device, DevDax):
        device.opened()
    module = machine.persistent_memory.modules.loaded.get(owner_of_node(name) or "")
    if module is not None:
        module.pins += _references(device)
    return OpenNode(name, device, module, exclusive)


def _references(device: Device) -> int:
    """The references to its module that an open device has: a character device's are those of its cdev and its file.

    cdev_get and fops_get in chrdev_open, fs/char_dev.c; try_module_get in blkdev_get_by_dev, block/bdev.c; Linux 6.1.
    """
    return 1 if isinstance(device, Disk | Partition) else 2


def device_of_node(system: System, name: str, flags: int) -> Numbered:
    """The device behind a node that can be opened with such flags.

    ENOENT when there is no such node, ENXIO for a dax device without device_dax that no process has open, ENOTTY for
    what is no device.  DIMMs and buses have nodes in sandboxes alone.
    """
    found = device_named(system, name)
    if found is None or (name in system.dev.children and not _is_still_known(found[1])):
        open_node(resolve(system.dev, name), flags & ~os.O_EXCL)
    if found is None:
        raise KernelError(errno.ENOTTY, f"{name} is not a device")
    return found[1]


def _is_still_known(device: Numbered) -> bool:
    """Whether the node of a dax device leads to a driver that is gone, as long as a process has it open (i_cdev)."""
    return isinstance(device, DevDax) and bool(device.opens)
