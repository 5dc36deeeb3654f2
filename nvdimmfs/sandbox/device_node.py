"""The properties that every kind of device node in a sandbox's /dev has."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

#: The majors of pseudoterminals (UNIX98_PTY_SLAVE_MAJOR and the seven after it, include/uapi/linux/major.h).  Each
#: devpts has terminals of its own with the same numbers.
TERMINAL_MAJORS = range(136, 144)

#: Mode of the nodes, as the kernel creates them.
NODE_MODE = 0o600


@frozen
class NodeNumber:
    """The number of a node on the host (st_rdev), which is not the number that the machine gave the device."""

    major: int
    minor: int


def parse_number(text: str) -> NodeNumber:
    """The number that sysfs and mount tables write as `major:minor`."""
    major, _, minor = text.partition(":")
    return NodeNumber(int(major), int(minor))


class DeviceNode(Protocol):
    """An entry of /dev that stands for a device of the machine."""

    @property
    def number(self) -> NodeNumber | None:
        """Its number; None for a regular file."""

    def remove(self) -> None:
        """Remove it from /dev."""
