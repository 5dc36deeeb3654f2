"""A tree of nodes, as the kernel's kernfs keeps one: directories, attributes, symbolic links, binary files.

It knows no device and no FUSE: a unit test reads and writes its nodes directly.
"""

from nvdimmfs.kernfs.channel import Channel, Session
from nvdimmfs.kernfs.files import FileKind, Files, FileTable, LinkKind, joined
from nvdimmfs.kernfs.node import (
    ATTRIBUTE_SIZE,
    Attribute,
    AttributeOps,
    BinaryFile,
    Bytes,
    Contents,
    Directory,
    Listener,
    Node,
    Symlink,
    Tree,
)

__all__ = [
    "ATTRIBUTE_SIZE",
    "Attribute",
    "AttributeOps",
    "BinaryFile",
    "Bytes",
    "Channel",
    "Contents",
    "Directory",
    "FileKind",
    "FileTable",
    "Files",
    "LinkKind",
    "Listener",
    "Node",
    "Session",
    "Symlink",
    "Tree",
    "joined",
]
