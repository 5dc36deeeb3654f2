"""Attributes that cannot be read, as a machine file asks for."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from attrs import frozen

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Attribute, Directory, Node
from nvdimmfs.kernfs.node import AttributeOps


@frozen
class UnreadableOps:
    """Refuses to be read; written to as before.

    Attributes:
        ops: what the attribute does otherwise.
        refusal: the errno that a read gets.
    """

    ops: AttributeOps[object]
    refusal: int

    def show(self, subject: object) -> bytes:
        """Refuse."""
        raise KernelError(self.refusal, f"the machine file makes this attribute of {subject} unreadable")

    def store(self, subject: object, data: bytes) -> None:
        """As before."""
        self.ops.store(subject, data)


@frozen
class UnreadableAttributes:
    """Makes attributes unreadable, now and each time that they come back.

    Attributes:
        refusals: the name of the errno for each path from the tree's root.
    """

    refusals: Mapping[str, str]

    def added(self, directory: Directory, node: Node) -> None:  # noqa: ARG002  # the node knows its path
        """Catch an attribute that has come back."""
        name = self.refusals.get(node.path)
        if name is not None and isinstance(node, Attribute):
            make_unreadable(node, name)

    def instantiated(self, directory: Directory, node: Node) -> None:
        """Catch an attribute that has come back, and is only now looked at."""
        self.added(directory, node)

    def removed(self, directory: Directory, node: Node) -> None:
        """What is gone is not read."""

    def notified(self, node: Node) -> None:
        """Who polls and reads again is refused again."""


def make_unreadable(attribute: Attribute[object], name: str) -> None:
    """Let reads fail with the errno of that name."""
    attribute.ops = UnreadableOps(attribute.ops, getattr(errno, name))
