"""The kinds of node and the tree that holds them."""

from __future__ import annotations

import errno
import itertools
import stat
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from nvdimmfs.errors import KernelError

#: st_size of every attribute, whatever it holds: one page (fs/sysfs/file.c, Linux 6.1).
ATTRIBUTE_SIZE = 4096

SubjectT = TypeVar("SubjectT")
SubjectT_contra = TypeVar("SubjectT_contra", contravariant=True)
NodeT = TypeVar("NodeT", bound="Node")


class AttributeOps(Protocol[SubjectT_contra]):
    """What an attribute file does, separate from the file, so that ten thousand files share one."""

    def show(self, subject: SubjectT_contra) -> bytes:
        """The file's content; `KernelError` when it has none to give."""

    def store(self, subject: SubjectT_contra, data: bytes) -> None:
        """Take one write(2), already cut to a page; `KernelError` refuses it."""


class Bytes(Protocol):
    """Random access bytes of a fixed size, such as a block device's."""

    @property
    def size(self) -> int:
        """Capacity in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes; the caller stays within `size`."""

    def write(self, offset: int, data: bytes) -> None:
        """Replace the bytes at `offset`; the caller stays within `size`."""

    def flush(self) -> None:
        """Return once everything written would survive a power cut."""


class Listener(Protocol):
    """Who wants to hear of changes to the tree (a FUSE mount that caches names, for example)."""

    def added(self, directory: Directory, node: Node) -> None:
        """`node` has appeared in `directory`."""

    def removed(self, directory: Directory, node: Node) -> None:
        """`node`, with everything below it, has left `directory`."""

    def notified(self, attribute: Attribute[object]) -> None:
        """The attribute's value changed in a way that wakes poll(2)."""


class Node:
    """A named place in the tree.

    Attributes:
        name: the last component of the path.
        mode: st_mode, type and permission bits; chmod may change the latter.
        ino: inode number, unique for the life of the tree and never given out twice.
        parent: the directory it stands in; None for the root and for a node that was removed.
    """

    __slots__ = ("ino", "mode", "name", "parent")

    def __init__(self, name: str, mode: int) -> None:
        self.name = name
        self.mode = mode
        self.ino = 0
        self.parent: Directory | None = None

    @property
    def path(self) -> str:
        """The path from the root, with a leading slash; for messages."""
        names: list[str] = []
        node: Node = self
        while node.parent is not None:
            names.append(node.name)
            node = node.parent
        return "/" + "/".join(reversed(names))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"


class Attribute(Node, Generic[SubjectT]):
    """A text file whose reads and writes call the kernel.

    Attributes:
        ops: what reading and writing mean.
        subject: the object (mostly a device) that `ops` is asked about.
        events: how often `notify` was called; poll(2) compares it with what a reader has seen.
    """

    __slots__ = ("events", "ops", "subject")

    def __init__(self, name: str, permissions: int, ops: AttributeOps[SubjectT], subject: SubjectT) -> None:
        super().__init__(name, stat.S_IFREG | permissions)
        self.ops = ops
        self.subject = subject
        self.events = 0

    def show(self) -> bytes:
        """The content now.  ENODEV once the file is gone, as for a file descriptor that outlives its device."""
        if self.parent is None:
            raise KernelError(errno.ENODEV, f"{self.name} was removed")
        return self.ops.show(self.subject)

    def store(self, data: bytes) -> int:
        """Take one write(2) and return how much of it counts: what lies past the first page does not."""
        if self.parent is None:
            raise KernelError(errno.ENODEV, f"{self.name} was removed")
        page = data[:ATTRIBUTE_SIZE]
        if page:
            self.ops.store(self.subject, page)
        return len(page)

    def notify(self) -> None:
        """Wake whoever polls the file (the kernel's sysfs_notify)."""
        self.events += 1
        if self.parent is not None:
            self.parent.tree.notified(self)  # type: ignore[arg-type]  # a listener asks nothing of the subject


class Symlink(Node):
    """A relative link to another node of the tree; its text is fixed when it is made, as in sysfs."""

    __slots__ = ("target", "text")

    def __init__(self, name: str, target: Node) -> None:
        super().__init__(name, stat.S_IFLNK | 0o777)
        self.target = target
        self.text = ""


class BinaryFile(Node):
    """A file over bytes of a fixed size, such as a block device in dev/."""

    __slots__ = ("data",)

    def __init__(self, name: str, permissions: int, data: Bytes) -> None:
        super().__init__(name, stat.S_IFREG | permissions)
        self.data = data

    @property
    def size(self) -> int:
        return self.data.size


class Directory(Node):
    """A node that holds others, in the order in which they came."""

    __slots__ = ("children", "tree")

    tree: Tree

    def __init__(self, name: str, permissions: int = 0o755) -> None:
        super().__init__(name, stat.S_IFDIR | permissions)
        self.children: dict[str, Node] = {}

    def add(self, node: NodeT) -> NodeT:
        """Put a node here and return it.  EEXIST when the name is taken."""
        if node.name in self.children:
            raise KernelError(errno.EEXIST, f"{self.path}/{node.name} exists already")
        node.ino = self.tree.next_ino()
        node.parent = self
        if isinstance(node, Directory):
            node.tree = self.tree
        if isinstance(node, Symlink):
            node.text = _relative_path(self, node.target)
        self.children[node.name] = node
        self.tree.added(self, node)
        return node

    def remove(self, name: str) -> None:
        """Take a node and everything below it out of the tree.  ENOENT when there is none."""
        node = self.children.pop(name, None)
        if node is None:
            raise KernelError(errno.ENOENT, f"{self.path}/{name} does not exist")
        self.tree.removed(self, node)
        _detach(node)

    def directory(self, name: str) -> Directory:
        """The directory of that name, made when it is not there yet."""
        node = self.children.get(name)
        if isinstance(node, Directory):
            return node
        return self.add(Directory(name))

    def find(self, path: str) -> Node:
        """The node at a relative path, links not followed.  ENOENT, ENOTDIR."""
        node: Node = self
        for name in filter(None, path.split("/")):
            if not isinstance(node, Directory):
                raise KernelError(errno.ENOTDIR, f"{node.path} is not a directory")
            child = node.children.get(name)
            if child is None:
                raise KernelError(errno.ENOENT, f"{node.path}/{name} does not exist")
            node = child
        return node

    def __iter__(self) -> Iterator[Node]:
        return iter(self.children.values())


class Tree:
    """The root directory, the inode numbers, and those who listen."""

    def __init__(self) -> None:
        self._inos = itertools.count(1)
        self._listeners: list[Listener] = []
        self.root = Directory("")
        self.root.tree = self
        self.root.ino = self.next_ino()

    def next_ino(self) -> int:
        """An inode number that no node had before."""
        return next(self._inos)

    def subscribe(self, listener: Listener) -> None:
        """Tell `listener` of every change from now on."""
        self._listeners.append(listener)

    def added(self, directory: Directory, node: Node) -> None:
        for listener in self._listeners:
            listener.added(directory, node)

    def removed(self, directory: Directory, node: Node) -> None:
        for listener in self._listeners:
            listener.removed(directory, node)

    def notified(self, attribute: Attribute[object]) -> None:
        for listener in self._listeners:
            listener.notified(attribute)


def _detach(node: Node) -> None:
    if isinstance(node, Directory):
        for child in node:
            _detach(child)
        node.children.clear()
    node.parent = None


def _ancestors(node: Node | None) -> list[Node]:
    """The node and what it stands in, innermost first."""
    chain: list[Node] = []
    while node is not None:
        chain.append(node)
        node = node.parent
    return chain


def _relative_path(directory: Directory, target: Node) -> str:
    """Up from `directory` to the first directory that also holds the target or one of its ancestors, then down.

    A link to an ancestor names it (`../../ndbus0`, not `..`), as fs/kernfs/symlink.c does.
    """
    above_target = _ancestors(target.parent)
    for ups, base in enumerate(_ancestors(directory)):
        if base in above_target:
            names = [node.name for node in _ancestors(target)[: above_target.index(base) + 1]]
            return "../" * ups + "/".join(reversed(names))
    raise AssertionError("two nodes of one tree share its root")
