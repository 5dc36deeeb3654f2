"""Attributes that a machine file makes unreadable."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from attrs import frozen

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import Attribute, Directory, Node
from nvdimmfs.kernfs.node import AttributeOps


@frozen
class UnreadableOps:
    """The functions of an attribute whose reads fail; writes are passed on.

    Attributes:
        ops: the attribute's own functions.
        refusal: the errno of a read.
    """

    ops: AttributeOps[object]
    refusal: int

    def show(self, subject: object) -> bytes:
        """Fail with the errno."""
        raise KernelError(self.refusal, f"the machine file makes this attribute of {subject} unreadable")

    def store(self, subject: object, data: bytes) -> None:
        """Pass the write on."""
        self.ops.store(subject, data)


@frozen
class UnreadableAttributes:
    """Makes attributes unreadable again when their devices were removed and are added again.

    Attributes:
        refusals: name of the errno by the attribute's path from the root of the tree.
    """

    refusals: Mapping[str, str]

    def added(self, directory: Directory, node: Node) -> None:  # noqa: ARG002  # the node knows its path
        """Make an attribute unreadable that was added again."""
        name = self.refusals.get(node.path)
        if name is not None and isinstance(node, Attribute):
            make_unreadable(node, name)

    def instantiated(self, directory: Directory, node: Node) -> None:
        """Make an attribute unreadable that was added again and is instantiated now."""
        self.added(directory, node)

    def removed(self, directory: Directory, node: Node) -> None:
        """Ignored: a removed attribute cannot be read."""

    def notified(self, node: Node) -> None:
        """Ignored: the next read fails as before."""

    def resetting(self) -> None:
        """Ignored."""

    def restored(self) -> None:
        """Ignored: a node that was made unreadable is so at each checkpoint."""


def make_unreadable(attribute: Attribute[object], name: str) -> None:
    """Make reads of an attribute fail with the errno of that name."""
    attribute.ops = UnreadableOps(attribute.ops, getattr(errno, name))
