"""The inodes of a mount: nodes that the kernel knows by number, with their owners, times and extended attributes."""

from __future__ import annotations

import errno
import os
import stat
import time

import attrs
from pyfuse3 import ROOT_INODE, EntryAttributes, FUSEError, InodeT

from nvdimmfs.fuse.members import Members
from nvdimmfs.kernfs import BinaryFile, Directory, Member, Node, RecordFile, Tree
from nvdimmfs.kernfs.file_stat import file_size, link_count

#: How long the kernel may cache names and attributes, in seconds.  It can be long because `KernelCache` invalidates
#: every change.  stat(2) of a cached file costs 7 microseconds instead of 140.
CACHE_TIMEOUT = 86_400.0

#: st_blksize: sysfs reports the page size (PAGE_SIZE, fs/kernfs/mount.c, Linux 6.1).
BLOCK_SIZE = 4096

#: Bytes of the generation in a file handle of FUSE (fuse_encode_fh, fs/fuse/inode.c, Linux 6.1).
_GENERATION_BYTES = 4

#: The unit of st_blocks, which does not depend on st_blksize (stat(2)).
STAT_BLOCK = 512


@attrs.frozen
class CachedName:
    """A name that the kernel may have cached.

    Attributes:
        directory: the directory that it is in, or was in.
        name: the last component of the path.
    """

    directory: Directory
    name: str

    @property
    def is_taken(self) -> bool:
        """Whether it leads to a node."""
        return self.name in self.directory


@attrs.define(eq=False)
class Inode:
    """A node as the kernel sees it.

    Attributes:
        node: the node; the inode outlives the node's removal for as long as the kernel refers to it.
        uid, gid: the owner; chown(2) may change it.
        atime_ns, mtime_ns, ctime_ns: the time of the first lookup, as in kernfs, or the time that utimensat(2) set.
            O_TRUNC and writes to a device's bytes update mtime and ctime, too.
        lookups: FUSE's lookup count: how many references the kernel has received and not yet forgotten.
        xattrs: extended attributes that user space set.
        entry: the attributes in FUSE's form; None when they have to be built anew.
    """

    node: Node
    uid: int
    gid: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    lookups: int = 0
    xattrs: dict[bytes, bytes] = attrs.field(factory=dict)
    entry: EntryAttributes | None = None

    @property
    def removed(self) -> bool:
        """Whether the node has left the tree."""
        return self.node.parent is None and self.node.ino != ROOT_INODE

    def changed(self) -> None:
        """An attribute was changed: update ctime."""
        self.ctime_ns = time.time_ns()
        self.entry = None

    def modified(self) -> None:
        """The content was changed, or truncated: update mtime and ctime."""
        self.changed()
        self.mtime_ns = self.ctime_ns

    def take_away_set_id(self) -> None:
        """Take away the bits of the mode that make a program run with its owner's or its group's rights.

        S_ISGID of a file that its group cannot execute is no such bit (setattr_should_drop_suidgid, fs/attr.c, 6.1).
        """
        mode = self.node.mode
        if not stat.S_ISDIR(mode):
            self.node.mode = mode & ~(stat.S_ISUID | (stat.S_ISGID if mode & stat.S_IXGRP else 0))


class Inodes:
    """The inodes that the kernel may refer to, by number.

    Args:
        tree: the tree that is mounted.
        cache_timeout: how long the kernel may cache names and attributes, in seconds.

    Attributes:
        uid: the owner of new inodes: the user of this process.
        unreachable: the names of nodes that have left the tree, by inode number; the kernel may still follow them
            (`reached`).
        stale_names: those of them that it has cached.
    """

    def __init__(self, tree: Tree, cache_timeout: float) -> None:
        self.uid = os.getuid()
        self.unreachable: dict[InodeT, CachedName] = {}
        self.stale_names: dict[InodeT, CachedName] = {}
        self._cache_timeout = cache_timeout
        # A file handle (name_to_handle_at) of an earlier mount must not lead to the node that has its number here.
        self._generation = int.from_bytes(os.urandom(_GENERATION_BYTES))
        self._gid = os.getgid()
        self._inodes: dict[InodeT, Inode] = {}
        self._members = Members()
        self.of(tree.root).lookups = 1  # the mount itself holds the root and never forgets it

    def __getitem__(self, number: InodeT) -> Inode:
        """The inode with that number.  ESTALE for one that the kernel never received, or has forgotten.

        Instantiates the node if it is one of a family that is not.
        """
        inode = self._inodes.get(number)
        if inode is None and (member := self._members.get(number)):
            member.directory.find(member.name)  # which calls `instantiated`
            inode = self._inodes.get(number)
        if inode is None:
            raise FUSEError(errno.ESTALE)
        return inode

    def reached(self, number: InodeT) -> Inode:
        """The inode with that number, for a request that may have come by a path.

        For one that is unreachable, ENOENT; or ESTALE when its name leads to another node by now.  The kernel then
        walks the path again and looks every name up anew (retry_estale, include/linux/namei.h; LOOKUP_REVAL in
        fuse_dentry_revalidate, fs/fuse/dir.c; Linux 6.1), which takes no lock that a listing of the directory holds.
        """
        if self.unreachable and (name := self.unreachable.get(number)) is not None:
            raise FUSEError(errno.ESTALE if name.is_taken else errno.ENOENT)
        return self._inodes.get(number) or self[number]

    def member(self, number: InodeT) -> Member | None:
        """The node with that number, if it is one of a family that is not instantiated."""
        return None if number in self._inodes else self._members.get(number)

    def instantiated(self, directory: Directory, node: Node) -> None:
        """A node was instantiated: if it is one of a family, the kernel may refer to it already."""
        seen = self._members.taken(directory, node)
        if seen is not None:
            lookups, time_ns = seen
            self._inodes[InodeT(node.ino)] = Inode(node, self.uid, self._gid, time_ns, time_ns, time_ns, lookups)

    def __len__(self) -> int:
        return len(self._inodes)

    def directory(self, number: InodeT) -> Directory:
        """The directory with that inode number.  ENOTDIR, ESTALE."""
        node = self[number].node
        if not isinstance(node, Directory):
            raise FUSEError(errno.ENOTDIR)
        return node

    def of(self, node: Node) -> Inode:
        """The inode of a node, created on first use."""
        inode = self._inodes.get(node.ino)
        if inode is None:
            now = time.time_ns()
            inode = Inode(node, self.uid, self._gid, now, now, now)
            self._inodes[node.ino] = inode
        return inode

    def seen(self, node: Node | Member) -> Inode | Member:
        """The inode of a node, created on first use; for one that is not instantiated, its description."""
        return node if isinstance(node, Member) else self._inodes.get(node.ino) or self.of(node)

    def refer(self, seen: Inode | Member) -> None:
        """The kernel received one more reference."""
        if isinstance(seen, Member):
            self._members.refer(seen)
        else:
            seen.lookups += 1

    def entry(self, inode: Inode | Member) -> EntryAttributes:
        """What stat(2) shows of an inode."""
        if isinstance(inode, Member):
            return self._make_member_entry(inode, self._cache_timeout)
        if self.unreachable and inode.node.ino in self.unreachable:
            return self.uncached_entry(inode)
        if inode.entry is None:
            inode.entry = self._make_entry(inode, self._cache_timeout)
        return inode.entry

    def uncached_entry(self, inode: Inode | Member) -> EntryAttributes:
        """What stat(2) shows of an inode, in a form that the kernel must not cache."""
        if isinstance(inode, Member):
            return self._make_member_entry(inode, 0.0)
        return self._make_entry(inode, 0.0)

    def refers_to_removed(self, number: InodeT) -> bool:
        """Whether the kernel refers to the inode with that number, whose node has left the tree."""
        inode = self._inodes.get(number)
        return inode is not None and inode.lookups > 0 and inode.removed

    def outdate(self, node: Node) -> Inode | None:
        """Build a node's attributes anew on the next request.  Returns the inode if the kernel refers to it."""
        inode = self._inodes.get(node.ino)
        if inode is None:
            return None
        inode.entry = None
        return inode if inode.lookups else None

    def restored(self) -> list[Node]:
        """The nodes of the tree that the kernel refers to, after a reset, which may have put some back.

        Those can be reached again.
        """
        for number in [number for number in self.unreachable if not self._inodes[number].removed]:
            self.unreachable.pop(number, None)
            self.stale_names.pop(number, None)
        return [inode.node for inode in self._inodes.values() if inode.lookups and not inode.removed]

    def discard(self, node: Node) -> None:
        """Drop the inode of a node that leaves the tree, unless the kernel still refers to it."""
        inode = self._inodes.get(node.ino)
        if inode is not None and not inode.lookups:
            del self._inodes[node.ino]

    def forget(self, number: InodeT, lookups: int) -> None:
        """Subtract from the lookup count.  An inode whose count is 0 and whose node has left the tree is dropped."""
        inode = self._inodes.get(number)
        if inode is None:
            self._members.forget(number, lookups)
            return
        inode.lookups -= lookups
        if inode.lookups <= 0 and inode.removed:
            del self._inodes[number]
            self.stale_names.pop(number, None)
            self.unreachable.pop(number, None)

    def _make_entry(self, inode: Inode, cache_timeout: float) -> EntryAttributes:
        node = inode.node
        entry = self._blank_entry(node, cache_timeout)
        entry.st_nlink = link_count(node)
        entry.st_uid = inode.uid
        entry.st_gid = inode.gid
        entry.st_size = file_size(node)
        if isinstance(node, RecordFile):
            entry.st_blksize = node.block_size
        entry.st_blocks = entry.st_size // STAT_BLOCK if isinstance(node, BinaryFile) else 0
        entry.st_atime_ns = inode.atime_ns
        entry.st_mtime_ns = inode.mtime_ns
        entry.st_ctime_ns = inode.ctime_ns
        return entry

    def _make_member_entry(self, member: Member, cache_timeout: float) -> EntryAttributes:
        entry = self._blank_entry(member, cache_timeout)
        entry.st_nlink = 2 + member.subdirectories if stat.S_ISDIR(member.mode) else 1
        entry.st_uid = self.uid
        entry.st_gid = self._gid
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = self._members.seen_ns(member)
        return entry

    def _blank_entry(self, node: Node | Member, cache_timeout: float) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = node.ino
        entry.generation = self._generation
        entry.st_mode = node.mode
        entry.st_blksize = BLOCK_SIZE
        entry.entry_timeout = cache_timeout
        entry.attr_timeout = cache_timeout
        return entry
