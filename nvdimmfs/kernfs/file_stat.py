"""The fields of stat(2) that are computed from a node: st_size and st_nlink."""

from __future__ import annotations

from nvdimmfs.kernfs.attribute import Attribute
from nvdimmfs.kernfs.binary_file import BinaryFile
from nvdimmfs.kernfs.node import Directory, Node


def file_size(node: Node) -> int:
    """st_size: a page for an attribute, 0 for directories and links, as in sysfs.

    A binary file that was removed is empty, as Linux shows a block device that has been removed.
    """
    if isinstance(node, Attribute):
        return node.size
    if isinstance(node, BinaryFile) and node.parent is not None:
        return node.size
    return 0


def link_count(node: Node) -> int:
    """st_nlink: 2 plus the number of subdirectories for a directory, otherwise 1 (fs/kernfs/inode.c, Linux 6.1)."""
    if not isinstance(node, Directory):
        return 1
    return 2 + node.subdirectories
