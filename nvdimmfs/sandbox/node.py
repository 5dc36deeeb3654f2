"""What every kind of node in a sandbox's /dev has."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

#: Mode of the nodes, as the kernel makes them.
NODE_MODE = 0o600


@frozen
class NodeNumber:
    """What st_rdev says of a node."""

    major: int
    minor: int


class Node(Protocol):
    """A node in /dev."""

    @property
    def number(self) -> NodeNumber | None:
        """What stat(2) tells; None for a plain file."""

    def remove(self) -> None:
        """Take it away."""
