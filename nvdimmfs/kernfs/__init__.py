"""A tree of nodes like the kernel's kernfs: directories, attributes, symbolic links and binary files.

It depends on neither devices nor FUSE: unit tests read and write its nodes directly.
"""

from nvdimmfs.kernfs.attribute import ATTRIBUTE_SIZE, Attribute, AttributeOps
from nvdimmfs.kernfs.binary_attribute import BinaryAttribute
from nvdimmfs.kernfs.binary_file import BinaryFile, Bytes
from nvdimmfs.kernfs.channel import Channel, Session
from nvdimmfs.kernfs.checkpoint import TreeCheckpoint
from nvdimmfs.kernfs.device_memory import DeviceMemory, MemoryBytes
from nvdimmfs.kernfs.files import FileKind, Files, FileTable, LinkKind, NumberedNames, NumberedNodes, joined
from nvdimmfs.kernfs.listing import FamilyNames, Listing
from nvdimmfs.kernfs.name_order import Order
from nvdimmfs.kernfs.node import (
    Contents,
    Directory,
    Family,
    FamilyNumbers,
    LazyTarget,
    Member,
    Node,
    Symlink,
    Tree,
    TreeListener,
    subtree,
)
from nvdimmfs.kernfs.records import RecordFile
from nvdimmfs.kernfs.refusal import Refusal
from nvdimmfs.kernfs.tracer import TracedCall, TracedProcess, Tracer

__all__ = [
    "ATTRIBUTE_SIZE",
    "Attribute",
    "AttributeOps",
    "BinaryAttribute",
    "BinaryFile",
    "Bytes",
    "Channel",
    "Contents",
    "DeviceMemory",
    "Directory",
    "Family",
    "FamilyNames",
    "FamilyNumbers",
    "FileKind",
    "FileTable",
    "Files",
    "LazyTarget",
    "LinkKind",
    "Listing",
    "Member",
    "MemoryBytes",
    "Node",
    "NumberedNames",
    "NumberedNodes",
    "Order",
    "RecordFile",
    "Refusal",
    "Session",
    "Symlink",
    "TracedCall",
    "TracedProcess",
    "Tracer",
    "Tree",
    "TreeCheckpoint",
    "TreeListener",
    "joined",
    "subtree",
]
