"""Extended attributes, of which kernfs keeps those of two namespaces and refuses the others."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence

import attrs
import pyfuse3
from pyfuse3 import FUSEError, InodeT, XAttrNameT

from nvdimmfs.fuse.daemon_identity import DAEMON_XATTR
from nvdimmfs.fuse.inode import Inodes

#: Namespaces of extended attributes that kernfs stores (kernfs_xattr_handlers, fs/kernfs/inode.c, Linux 6.1).
_STORED = (b"trusted.", b"security.")
#: Those, and the one whose attributes kernfs lets user space neither set nor read.
_NAMESPACES = (*_STORED, b"user.")


@attrs.frozen(eq=False)
class ExtendedAttributes:
    """The extended attributes of all inodes.

    EINVAL for a namespace without a name in it, ENOTSUP for one that is unknown or cannot be changed.

    Attributes:
        inodes: the inodes, each of which keeps its own.
        identity: the value of `DAEMON_XATTR` of the root.
    """

    inodes: Inodes
    identity: bytes

    def set(self, inode: InodeT, name: XAttrNameT, value: bytes) -> None:
        """Set an attribute, new or not."""
        _require(name, _STORED)
        self.inodes.reached(inode).xattrs[name] = value

    def get(self, inode: InodeT, name: XAttrNameT) -> bytes:
        """Return the value.  ENODATA for one that is not there, such as all of user.*, which cannot be set."""
        if inode == pyfuse3.ROOT_INODE and name == DAEMON_XATTR.encode():
            return self.identity
        _require(name, _NAMESPACES)
        value = self._of(inode).get(name)
        if value is None:
            raise FUSEError(errno.ENODATA)
        return value

    def names(self, inode: InodeT, uid: int) -> Sequence[XAttrNameT]:
        """List the names: trusted.* only for root."""
        return [name for name in self._of(inode) if uid == 0 or not name.startswith(b"trusted.")]

    def remove(self, inode: InodeT, name: XAttrNameT) -> None:
        """Remove an attribute.  ENODATA when there is none."""
        _require(name, _STORED)
        if self.inodes.reached(inode).xattrs.pop(name, None) is None:
            raise FUSEError(errno.ENODATA)

    def _of(self, inode: InodeT) -> Mapping[bytes, bytes]:
        """The extended attributes of an inode.  A node that is not instantiated has none."""
        return {} if self.inodes.member(inode) else self.inodes.reached(inode).xattrs


def _require(name: XAttrNameT, namespaces: tuple[bytes, ...]) -> None:
    """EINVAL for a namespace without a name in it; ENOTSUP for a name in none of `namespaces`."""
    if name in _NAMESPACES:
        raise FUSEError(errno.EINVAL)
    if not name.startswith(namespaces):
        raise FUSEError(errno.ENOTSUP)
