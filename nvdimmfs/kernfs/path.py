"""Paths through the tree, followed as the kernel follows them."""

from __future__ import annotations

import errno

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs.node import Directory, Node, Symlink

#: How many links the kernel follows in one path (MAXSYMLINKS, include/linux/namei.h, Linux 6.1).
MAX_LINKS = 40


def resolve(base: Directory, path: str, *, follow_last: bool = True) -> Node:
    """Return the node at a path.

    The text of a link is followed from the directory that holds the link.  A slash at the end requires a directory.
    `..` in the root is the root.  ENOENT, ENOTDIR, ELOOP.

    Args:
        base: the directory in which the path begins.
        path: names separated by slashes; a slash at the beginning has no meaning.
        follow_last: whether to follow a link at the end of the path, as stat(2) does and lstat(2) does not.
    """
    return _Walk(path).to(base, path, follow_last=follow_last)


class _Walk:
    """One walk along a path, with the number of links that it has followed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._links = 0

    def to(self, base: Directory, path: str, *, follow_last: bool) -> Node:
        wants_directory = path.endswith("/")
        names = [name for name in path.split("/") if name not in ("", ".")]
        node: Node = base
        for position, name in enumerate(names):
            if not isinstance(node, Directory):
                raise KernelError(errno.ENOTDIR, f"{node.path} is not a directory")
            node = self._child(node, name, follow=follow_last or wants_directory or position < len(names) - 1)
        if wants_directory and not isinstance(node, Directory):
            raise KernelError(errno.ENOTDIR, f"{node.path} is not a directory")
        return node

    def _child(self, directory: Directory, name: str, *, follow: bool) -> Node:
        if name == "..":
            return directory.parent or directory
        child = directory.get(name)
        if child is None:
            raise KernelError(errno.ENOENT, f"{directory.path.rstrip('/')}/{name} does not exist")
        if not isinstance(child, Symlink) or not follow:
            return child
        self._links += 1
        if self._links > MAX_LINKS:
            raise KernelError(errno.ELOOP, f"{self._path}: more than {MAX_LINKS} symbolic links")
        return self.to(directory, child.text, follow_last=True)
