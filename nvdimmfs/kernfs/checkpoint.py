"""Checkpoints of a tree: which nodes there were, and how a reset is reported to the tree's listeners."""

from __future__ import annotations

from collections.abc import Callable

from nvdimmfs.kernfs.attribute import Attribute
from nvdimmfs.kernfs.node import Directory, Node, Tree, subtree


class TreeCheckpoint:
    """The nodes of a tree at one time.

    It does not hold their state, which `nvdimmfs.snapshot` restores.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._nodes = set(subtree(tree.root))
        self._pending = {
            node: frozenset(node.pending) for node in self._nodes if isinstance(node, Directory) and node.pending
        }
        self._families = {
            node: node.family_names for node in self._nodes if isinstance(node, Directory) and node.family_names
        }

    def reset(self, restore: Callable[[], None]) -> None:
        """Restore the state of the tree's objects by calling `restore`, and report the changes to the listeners.

        Nodes that did not exist at the checkpoint are then removed nodes.  A node that existed, but was instantiated
        only later, stays valid.
        """
        self._tree.resetting()
        before = dict.fromkeys(subtree(self._tree.root))
        new = [node for node in before if node not in self._nodes]
        instantiated: dict[Attribute[object] | Directory, None] = {}
        gone: dict[Node, str] = {}
        for node in new:  # parents come first
            if isinstance(node, Attribute | Directory) and self._was_pending(node, instantiated):
                instantiated[node] = None
            else:
                gone[node] = node.path
        top = [node for node in gone if node.parent not in gone]
        events = {node: node.events for node in before if isinstance(node, Attribute)} if self._tree.listeners else {}
        for node in top:
            assert node.parent is not None, "the root is never new"
            self._tree.removed(node.parent, node)
        restore()
        for node in top:
            node.detach(gone[node])
        if self._tree.listeners:
            self._adopt(instantiated)
            self._report(before, events)

    def _was_pending(self, node: Node, instantiated: dict[Attribute[object] | Directory, None]) -> bool:
        """Whether a node existed at the checkpoint without being instantiated."""
        directory = node.parent
        assert directory is not None, "the root is never new"
        names = (self._pending.get(directory, ()), self._families.get(directory, ()))
        return directory in instantiated or any(node.name in each for each in names)

    @staticmethod
    def _adopt(instantiated: dict[Attribute[object] | Directory, None]) -> None:
        """Keep nodes that user space may have open.  Without listeners, no file is open."""
        for node in instantiated:
            assert node.parent is not None, "it was not removed"
            node.parent.adopt(node)

    def _report(self, before: dict[Node, None], events: dict[Attribute[object], int]) -> None:
        """Report nodes that are there again, and attributes that were notified since the checkpoint."""
        for node in list(subtree(self._tree.root)):
            if node not in before and node.parent in before:
                self._tree.added(node.parent, node)
        for attribute, count in events.items():
            if attribute.parent is not None and attribute.events != count:
                self._tree.notified(attribute)
        self._tree.restored()
