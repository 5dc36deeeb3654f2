"""/dev inside a sandbox: one node for each device of the machine.

A character device is a node of the host's libnvdimm that belongs to nothing, where the host has one loaded and this
process may make nodes (`host_characters`).  Otherwise it is the terminal end of an unused pseudoterminal.  Any user can
create one, and it has a device number of its own; but it answers read(2), lseek(2) and the like as a terminal does.  In
both cases the seccomp filter takes each ioctl(2) before the node sees it.

A disk is a loop device over the file in the machine's mount, where the host has loop devices and this process may use
them; otherwise it is that file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from pathlib import Path

from attrs import define

from nvdimmfs.formats.partition_name import disk_of_partition
from nvdimmfs.sandbox import libc
from nvdimmfs.sandbox.closed_disks import ClosedDisks
from nvdimmfs.sandbox.device_node import NODE_MODE, DeviceNode, NodeNumber
from nvdimmfs.sandbox.disk_directory import DiskDescription, describe_disk
from nvdimmfs.sandbox.host_characters import HostCharacters
from nvdimmfs.sandbox.loop_devices import LoopDevices, LoopNode, raise_if_limited, why_files
from nvdimmfs.sandbox.merged_view import hide

#: Requests on the master end of a pseudoterminal (include/uapi/asm-generic/ioctls.h).
_TIOCGPTN = 0x80045430
_TIOCSPTLCK = 0x40045431

#: Indexes of the local modes and of the control characters in the result of tcgetattr(3) (`termios`).
_LFLAG, _CC = 3, 6


#: What a disk's files report that has been removed while its node is created.
_GONE = (errno.ENOENT, errno.ENODEV, errno.ESTALE)


@define(eq=False)
class TerminalNode:
    """A character device."""

    path: Path
    number: NodeNumber | None
    master: int

    def remove(self) -> None:
        hide(self.path)
        os.close(self.master)


@define(eq=False)
class HostNode:
    """A character device whose node is the host's libnvdimm's."""

    path: Path
    number: NodeNumber
    release: Callable[[NodeNumber], None]

    def remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        self.release(self.number)


@define(eq=False)
class FileNode:
    """A disk that is a regular file."""

    path: Path
    number: NodeNumber | None = None

    def remove(self) -> None:
        hide(self.path)


class DevDirectory:
    """All device nodes of a machine.

    Attributes:
        machine: the machine's mount.

    Args:
        dev: the sandbox's /dev.
        machine: the machine's mount.
        terminals: the mount point of a devpts that only this sandbox uses.
        loop_devices: creates block devices; None to use regular files.
        closed_disks: writes back block devices that are closed.
        warn: prints one line, the reason why a disk is a regular file all the same; called once.
        characters: makes character devices; None to use terminals.
    """

    def __init__(
        self,
        dev: Path,
        machine: Path,
        terminals: Path,
        loop_devices: LoopDevices | None,
        closed_disks: ClosedDisks,
        warn: Callable[[str], None],
        characters: HostCharacters | None = None,
    ) -> None:
        self._dev = dev
        self.machine = machine
        self._terminals = terminals
        self._loop_devices = loop_devices
        self._closed_disks = closed_disks
        self._warn = warn
        self._has_warned = False
        self._characters = characters
        self._nodes: dict[str, DeviceNode] = {}

    @property
    def terminal_filesystem(self) -> int:
        """The file system (st_dev) of the character devices that are terminals."""
        return self._terminals.stat().st_dev

    def path(self, name: str) -> Path:
        """Where the node of a device is."""
        return self._dev / name

    def open_files(self) -> int:
        """Open the directory of the machine's files, and return the descriptor."""
        return os.open(self.machine / "dev", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def add(
        self, name: str, current: NodeNumber, *, block: bool, disk: DiskDescription | None = None
    ) -> NodeNumber | None:
        """Create a node and return its number; None for a regular file.

        Args:
            name: its name.
            current: the number that the machine has for the device.
            block: whether it is a disk.
            disk: describes it; None to read that from its sysfs.
        """
        self.remove(name)
        node = self._create_disk(name, disk) if block else self._create_character(name, current)
        self._nodes[name] = node
        return node.number

    def number(self, name: str) -> NodeNumber | None:
        """The number of a node; None when there is no such node, or it is a regular file."""
        node = self._nodes.get(name)
        return node.number if node else None

    def set_read_only(self, name: str, *, read_only: bool) -> None:
        """Follow a change of the disk's read-only flag.  For a regular file the machine itself refuses writes."""
        node = self._nodes.get(name)
        if isinstance(node, LoopNode):
            node.set_read_only(read_only=read_only)

    @property
    def disks(self) -> dict[str, NodeNumber]:
        """The paths and numbers of the block devices."""
        return {str(node.path): node.number for node in self._nodes.values() if isinstance(node, LoopNode)}

    def claims_of_relatives(self, number: NodeNumber) -> dict[str, bool]:
        """Of the block device with that number, the names of its disk or partitions, and whether each is claimed.

        A mounted file system claims its device.
        """
        target = next((name for name, node in self._nodes.items() if node.number == number), "")
        disk = disk_of_partition(target)
        return {
            name: node.is_claimed()
            for name, node in self._nodes.items()
            if isinstance(node, LoopNode) and (name == disk or disk_of_partition(name) == target)
        }

    def remove(self, name: str) -> None:
        """Remove a node, if it exists."""
        node = self._nodes.pop(name, None)
        if node is not None:
            node.remove()

    def remove_all(self) -> None:
        """Remove all disks, and close the terminals.  What is mounted on their nodes ends with the namespace.

        An unmount waits for all processors (synchronize_rcu, kernel/rcu, Linux 6.1).
        """
        for node in self._nodes.values():
            if isinstance(node, LoopNode):
                node.remove()
            elif isinstance(node, TerminalNode):
                os.close(node.master)
        self._nodes.clear()
        if self._loop_devices is not None:
            self._loop_devices.delete()

    def _create_character(self, name: str, current: NodeNumber) -> DeviceNode:
        path = self._dev / name
        if self._characters is not None:
            number = self._characters.create(path, current)
            if number is not None:
                return HostNode(path, number, self._characters.release)
        return self._create_terminal(name)

    def _create_terminal(self, name: str) -> TerminalNode:
        master = os.open(self._terminals / "ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        (minor,) = struct.unpack("=I", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))
        fcntl.ioctl(master, _TIOCSPTLCK, bytes(4))
        _make_reads_return(master)
        slave = self._terminals / str(minor)
        slave.chmod(NODE_MODE)
        path = self._dev / name
        path.touch()
        libc.bind_mount(slave, path)
        return TerminalNode(path, NodeNumber.of(slave.stat().st_rdev), master)

    def drop_pages(self, name: str) -> None:
        """Have a disk's page cache read again what it has; that of a file in the mount is the machine's to drop."""
        if self._loop_devices is not None:
            self._closed_disks.read_page_by_page(self._dev / name)

    def _create_disk(self, name: str, disk: DiskDescription | None) -> DeviceNode:
        path, file = self._dev / name, self.machine / "dev" / name
        if self._loop_devices is not None:
            try:
                disk = disk or describe_disk(self.machine, name)
                node = self._loop_devices.attach(file, path, disk.block_size, read_only=disk.read_only)
                self._closed_disks.watch(path)
                return node
            except OSError as failure:
                if failure.errno in _GONE:
                    return FileNode(path)  # which never appears: the removal of the disk is among the next events
                raise_if_limited(failure)
                self._warn_once(failure)
        path.touch()
        try:
            libc.bind_mount(file, path)
        except OSError:
            path.unlink()
            raise
        return FileNode(path)

    def _warn_once(self, failure: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._warn(why_files(failure))


def _make_reads_return(terminal: int) -> None:
    """Make each read return end of file at once, instead of waiting for input that never comes."""
    settings = termios.tcgetattr(terminal)
    settings[_LFLAG] &= ~(termios.ICANON | termios.ECHO | termios.ISIG)
    settings[_CC][termios.VMIN] = settings[_CC][termios.VTIME] = 0
    termios.tcsetattr(terminal, termios.TCSANOW, settings)
