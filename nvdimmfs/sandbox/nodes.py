"""The nodes of /dev inside a sandbox.

A character device of the machine is the terminal end of a pseudoterminal that nobody uses: a node with a number of its
own that anybody may make, and that answers ioctl(2) once the filter has taken those that matter.  A disk is a loop
device over the file in the machine's mount, where the host has loop devices and lets this process use them; else it is
that file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import termios
from pathlib import Path
from typing import Protocol

from attrs import define, frozen

from nvdimmfs.sandbox import syscalls
from nvdimmfs.sandbox.views import hide

#: Requests on the master end of a pseudoterminal (include/uapi/asm-generic/ioctls.h).
_TIOCGPTN = 0x80045430
_TIOCSPTLCK = 0x40045431

# Loop devices: requests, flags, their major number (include/uapi/linux/loop.h, include/uapi/linux/major.h).
_LOOP_CTL_GET_FREE = 0x4C82
_LOOP_CONFIGURE = 0x4C0A
_LO_FLAGS_AUTOCLEAR = 4
_LO_FLAGS_DIRECT_IO = 16
_LOOP_MAJOR = 7
#: Makes a block device read-only or not (include/uapi/linux/fs.h).
_BLKROSET = 0x125D
#: struct loop_config: the file, the block size, struct loop_info64 of which only the flags are set, what is reserved.
_LOOP_CONFIG = struct.Struct("=II52xI176x64x")

#: How often a loop device that was free may be taken by somebody else before this one takes it.
_LOOP_TRIES = 32

#: Bytes of a logical block.
_SECTOR_SIZE = 512

#: Mode of the nodes, as the kernel makes them.
_MODE = 0o600


@frozen
class NodeNumber:
    """What st_rdev says of a node."""

    major: int
    minor: int


class Node(Protocol):
    """A node in /dev.

    Attributes:
        number: what stat(2) tells; None for a plain file.
    """

    number: NodeNumber | None

    def remove(self) -> None:
        """Take it away."""


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
class LoopNode:
    """A disk that is a block device."""

    place: Path
    number: NodeNumber | None
    loop: int

    def remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.place.unlink()
        _make_writable(self.loop)
        os.close(self.loop)


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
        files: the machine's, in its mount.
        terminals: a devpts of one's own.
        loop_control: an open /dev/loop-control; None to make no block devices.
    """

    def __init__(self, dev: Path, files: Path, terminals: Path, loop_control: int | None) -> None:
        self._dev = dev
        self._files = files
        self._terminals = terminals
        self._loop_control = loop_control
        self._nodes: dict[str, Node] = {}

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
        slave.chmod(_MODE)
        place = self._dev / name
        place.touch()
        syscalls.bind(slave, place)
        number = slave.stat().st_rdev
        return TerminalNode(place, NodeNumber(os.major(number), os.minor(number)), master)

    def _disk(self, name: str) -> Node:
        place = self._dev / name
        if self._loop_control is not None:
            with contextlib.suppress(OSError):
                return _loop_over(self._files / name, place, self._loop_control)
        place.touch()
        syscalls.bind(self._files / name, place)
        return FileNode(place)


def _never_wait(terminal: int) -> None:
    """Let who reads a node find its end: the devices that these stand for cannot be read."""
    settings = termios.tcgetattr(terminal)
    settings[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG)
    settings[6][termios.VMIN] = settings[6][termios.VTIME] = 0
    termios.tcsetattr(terminal, termios.TCSANOW, settings)


def _loop_over(file: Path, place: Path, control: int) -> LoopNode:
    """A loop device over a file.  It bypasses the page cache of the file: the engine changes that behind its back."""
    backing = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_LOOP_TRIES):
            minor = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            os.mknod(place, stat.S_IFBLK | _MODE, os.makedev(_LOOP_MAJOR, minor))
            try:
                return LoopNode(place, NodeNumber(_LOOP_MAJOR, minor), _configured(place, backing))
            except OSError as failure:
                place.unlink()
                if failure.errno != errno.EBUSY:  # somebody else was quicker
                    raise
        raise OSError(errno.EBUSY, "somebody else takes every free loop device")
    finally:
        os.close(backing)


def _configured(place: Path, backing: int) -> int:
    """Open a loop device that is free and give it its file.  It is free again when the last who has it open closes it.

    While it is open for this process alone, nobody else can take it.
    """
    claim = os.open(place, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    try:
        flags = _LO_FLAGS_DIRECT_IO | _LO_FLAGS_AUTOCLEAR
        fcntl.ioctl(claim, _LOOP_CONFIGURE, _LOOP_CONFIG.pack(backing, _SECTOR_SIZE, flags))
        _make_writable(claim)
        return os.open(place, os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(claim)


def _make_writable(loop: int) -> None:
    """A loop device that somebody made read-only stays so for whoever has it next, if they do not change it."""
    with contextlib.suppress(PermissionError):  # where that is for others to decide
        fcntl.ioctl(loop, _BLKROSET, struct.pack("i", 0))
