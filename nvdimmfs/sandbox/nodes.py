"""The nodes of /dev inside a sandbox.

A character device of the machine is the terminal end of a pseudoterminal that nobody uses: a node with a number of its
own that anybody may make, and that answers ioctl(2) once the filter has taken those that matter.  A disk is a loop
device over the file in the machine's mount, where the host has loop devices and lets this process use them; else it is
that file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
from pathlib import Path

from attrs import define

from nvdimmfs.sandbox import syscalls
from nvdimmfs.sandbox.loops import LoopDevices, LoopNode
from nvdimmfs.sandbox.node import NODE_MODE, Node, NodeNumber
from nvdimmfs.sandbox.views import hide

#: Requests on the master end of a pseudoterminal (include/uapi/asm-generic/ioctls.h).
_TIOCGPTN = 0x80045430
_TIOCSPTLCK = 0x40045431

#: Where the local modes and the control characters are in what tcgetattr(3) gives (`termios`).
_LFLAG, _CC = 3, 6


@define(eq=False)
class TerminalNode:
    """A character device."""

    place: Path
    number: NodeNumber | None
    master: int

    def remove(self) -> None:
        hide(self.place)
        os.close(self.master)


@define(eq=False)
class FileNode:
    """A disk that is a file."""

    place: Path
    number: NodeNumber | None = None

    def remove(self) -> None:
        hide(self.place)


class Nodes:
    """All nodes of a machine.

    Args:
        dev: the sandbox's /dev.
        machine: its mount.
        terminals: a devpts of one's own.
        loops: what makes block devices; None to make none.
    """

    def __init__(self, dev: Path, machine: Path, terminals: Path, loops: LoopDevices | None) -> None:
        self._dev = dev
        self._machine = machine
        self._terminals = terminals
        self._loops = loops
        self._nodes: dict[str, Node] = {}

    @property
    def terminals(self) -> int:
        """The file system (st_dev) of the character devices."""
        return self._terminals.stat().st_dev

    def add(self, name: str, *, block: bool) -> NodeNumber | None:
        """Make a node and return its number; None when it has none of its own."""
        self.remove(name)
        node = self._disk(name) if block else self._terminal(name)
        self._nodes[name] = node
        return node.number

    def number(self, name: str) -> NodeNumber | None:
        """The number of a node; None when there is none, or it has none."""
        node = self._nodes.get(name)
        return node.number if node else None

    def set_read_only(self, name: str, *, read_only: bool) -> None:
        """The machine has changed whether a disk may be written to.  What is a file is refused by the machine."""
        node = self._nodes.get(name)
        if isinstance(node, LoopNode):
            node.set_read_only(read_only=read_only)

    def has_claimed_partitions(self, disk: NodeNumber) -> bool:
        """Whether somebody has a partition of the disk of that number for themselves, such as a mounted file system."""
        claimed = (name for name, node in self._nodes.items() if isinstance(node, LoopNode) and node.is_claimed())
        return any(self.number(self._whole(name)) == disk for name in claimed)

    def _whole(self, name: str) -> str:
        """The disk that a partition is on; nothing for what is no partition."""
        folder = (self._machine / "sys/class/block" / name).resolve()
        return folder.parent.name if (folder / "partition").exists() else ""

    def remove(self, name: str) -> None:
        """Take a node away, if it is there."""
        node = self._nodes.pop(name, None)
        if node is not None:
            node.remove()

    def remove_all(self) -> None:
        """Take all away."""
        for name in list(self._nodes):
            self.remove(name)

    def _terminal(self, name: str) -> TerminalNode:
        master = os.open(self._terminals / "ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        (minor,) = struct.unpack("=I", fcntl.ioctl(master, _TIOCGPTN, bytes(4)))
        fcntl.ioctl(master, _TIOCSPTLCK, bytes(4))
        _never_wait(master)
        slave = self._terminals / str(minor)
        slave.chmod(NODE_MODE)
        place = self._dev / name
        place.touch()
        syscalls.bind(slave, place)
        number = slave.stat().st_rdev
        return TerminalNode(place, NodeNumber(os.major(number), os.minor(number)), master)

    def _disk(self, name: str) -> Node:
        place = self._dev / name
        if self._loops is not None:
            with contextlib.suppress(OSError):
                disk = (self._machine / "sys/class/block" / name).resolve()
                queue = disk if (disk / "queue").exists() else disk.parent  # a partition has its disk's
                block_size = int((queue / "queue/logical_block_size").read_text())
                read_only = (disk / "ro").read_text() == "1\n"
                return self._loops.over(self._machine / "dev" / name, place, block_size, read_only=read_only)
        place.touch()
        syscalls.bind(self._machine / "dev" / name, place)
        return FileNode(place)


def _never_wait(terminal: int) -> None:
    """Let who reads a node find its end: the devices that these stand for cannot be read."""
    settings = termios.tcgetattr(terminal)
    settings[_LFLAG] &= ~(termios.ICANON | termios.ECHO | termios.ISIG)
    settings[_CC][termios.VMIN] = settings[_CC][termios.VTIME] = 0
    termios.tcsetattr(terminal, termios.TCSANOW, settings)
