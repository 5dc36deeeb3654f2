"""The properties that every kind of device node in a sandbox's /dev has."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

#: Mode of the nodes, as the kernel creates them.
NODE_MODE = 0o600


@frozen
class NodeNumber:
    """The number of a node on the host (st_rdev), which is not the number that the machine gave the device."""

    major: int
    minor: int


class DeviceNode(Protocol):
    """An entry of /dev that stands for a device of the machine."""

    @property
    def number(self) -> NodeNumber | None:
        """Its number; None for a regular file."""

    def remove(self) -> None:
        """Remove it from /dev."""
