"""The properties that every kind of device node in a sandbox's /dev has."""

from __future__ import annotations

import os
from typing import Protocol, Self

from attrs import frozen

#: The majors of pseudoterminals (UNIX98_PTY_SLAVE_MAJOR and the seven after it, include/uapi/linux/major.h).  Each
#: devpts has terminals of its own with the same numbers.
_TERMINAL_MAJORS = range(136, 144)

#: Mode of the nodes, as the kernel creates them.
NODE_MODE = 0o600


@frozen
class NodeNumber:
    """The number of a node on the host (st_rdev), which is not the number that the machine gave the device."""

    major: int
    minor: int

    @classmethod
    def of(cls, rdev: int) -> Self:
        """That of a node, as stat(2) reports it."""
        return cls(os.major(rdev), os.minor(rdev))


def parse_number(text: str) -> NodeNumber:
    """The number that sysfs and mount tables write as `major:minor`."""
    major, _, minor = text.partition(":")
    return NodeNumber(int(major), int(minor))


def is_terminal_of_another(number: NodeNumber, filesystem: int, own: int) -> bool:
    """Whether a character device is a terminal of another devpts, where the number is another device's.

    Args:
        number: that of the node.
        filesystem: the file system (st_dev) that the node is in.
        own: that of the sandbox's devpts.
    """
    return number.major in _TERMINAL_MAJORS and filesystem != own


class DeviceNode(Protocol):
    """An entry of /dev that stands for a device of the machine."""

    @property
    def number(self) -> NodeNumber | None:
        """Its number; None for a regular file."""

    def remove(self) -> None:
        """Remove it from /dev."""
