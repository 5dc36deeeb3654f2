"""The kinds of node and the tree that holds them."""

from __future__ import annotations

import errno
import itertools
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
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


class Contents(Protocol):
    """Nodes that a directory has although nobody made them yet, see `Directory.fill_later`."""

    @property
    def names(self) -> Collection[str]:
        """What the nodes are called, in their order."""

    @property
    def directories(self) -> int:
        """How many of them are directories."""

    def make(self) -> Iterable[Node]:
        """The nodes, now that somebody looks."""


class Listener(Protocol):
    """Who wants to hear of changes to the tree (a FUSE mount that caches names, for example)."""

    def added(self, directory: Directory, node: Node) -> None:
        """`node` has appeared in `directory`."""

    def made(self, directory: Directory, node: Node) -> None:
        """Somebody is about to see `node`, which `directory` has had for a while: nothing has changed."""

    def removed(self, directory: Directory, node: Node) -> None:
        """`node` has left `directory`, with everything below it; of that, nobody has seen what is not made."""

    def notified(self, node: Node) -> None:
        """What can be read changed in a way that wakes poll(2)."""


class Node:
    """A named place in the tree.

    Attributes:
        name: the last component of the path.
        mode: st_mode, type and permission bits; chmod may change the latter.
        parent: the directory it stands in; None for the root and for a node that was removed.
    """

    __slots__ = ("_ino", "mode", "name", "parent")

    #: Where it was before it was removed; empty while it stands, and for what nothing can lead to afterwards.
    _former_path = ""

    def __init__(self, name: str, mode: int) -> None:
        self.name = name
        self.mode = mode
        self._ino = 0
        self.parent: Directory | None = None

    @property
    def ino(self) -> int:
        """Inode number, unique for the life of the tree and never given out twice; 0 if nobody asked while it stood."""
        if not self._ino and self.parent is not None:
            self._ino = self.parent.tree.next_ino()
        return self._ino

    @property
    def path(self) -> str:
        """The path from the root, with a leading slash; of a directory that was removed, the one that it had."""
        names: list[str] = []
        node: Node = self
        while node.parent is not None:
            names.append(node.name)
            node = node.parent
        return "/".join([node._former_path, *reversed(names)]) or "/"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"


class Attribute(Node, Generic[SubjectT]):
    """A text file whose reads and writes call the kernel.

    Attributes:
        ops: what reading and writing mean.
        subject: the object (mostly a device) that `ops` is asked about.
        events: how often `notify` was called; poll(2) compares it with what a reader has seen.
        size: st_size, the same for all of a kind.
    """

    __slots__ = ("events", "ops", "subject")

    size = ATTRIBUTE_SIZE

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
            self.parent.tree.notified(self)


class Symlink(Node):
    """A relative link to another node of the tree; when that leaves before it, it goes on saying where it was."""

    __slots__ = ("_text", "target")

    def __init__(self, name: str, target: Node) -> None:
        super().__init__(name, stat.S_IFLNK | 0o777)
        self.target = target
        self._text = ""

    @property
    def text(self) -> str:
        """Where it leads, put together when it is first read.  ENOENT if it was removed before that."""
        if not self._text:
            if self.parent is None:
                raise KernelError(errno.ENOENT, f"{self.name} was removed")
            self._text = _relative_path(self.parent, self.target)
        return self._text


class BinaryFile(Node):
    """A file over bytes of a fixed size, such as a block device in dev/.

    Attributes:
        data: the bytes.
        block_size: what offset and length of a request that bypasses the page cache are multiples of.
    """

    __slots__ = ("block_size", "data")

    def __init__(self, name: str, permissions: int, data: Bytes, block_size: int = 1) -> None:
        super().__init__(name, stat.S_IFREG | permissions)
        self.data = data
        self.block_size = block_size

    @property
    def size(self) -> int:
        return self.data.size


class _UnmadeLink:
    """A symbolic link that nobody has looked at yet."""

    __slots__ = ("target",)

    def __init__(self, target: Node) -> None:
        self.target = target


class Directory(Node):
    """A node that holds others, in the order in which they came.

    A machine of ten thousand namespaces has more than a million attributes and a hundred thousand links, and hardly any
    of them is ever looked at.  So a directory may know nodes by description only (`fill_later`), and links by their
    targets (`link`).  It makes what was described, all at once, when one of that is looked up or all are listed.
    Nobody can tell: names, their order and the number of directories are those that it would have if the nodes had been
    made in the first place.
    """

    __slots__ = ("_awaited", "_former_path", "_has_unmade_links", "_nodes", "subdirectories", "tree")

    tree: Tree

    #: How many of its nodes are directories, made or not.
    subdirectories: int

    def __init__(self, name: str, permissions: int = 0o755) -> None:
        super().__init__(name, stat.S_IFDIR | permissions)
        # By name.  What is not made yet has its place in the order, too, under a key that cannot be a name.
        self._nodes: dict[str, Node | Contents | _UnmadeLink] = {}
        # The names of what is described and not made yet.
        self._awaited: Collection[str] = ()
        self._has_unmade_links = False
        self._former_path = ""
        self.subdirectories = 0

    @property
    def children(self) -> Mapping[str, Node]:
        """The nodes by name."""
        self._make()
        return self._nodes  # type: ignore[return-value]  # all are made

    @property
    def made(self) -> Iterator[Node]:
        """The nodes that somebody may have seen."""
        return (node for node in self._nodes.values() if isinstance(node, Node))

    @property
    def has_left(self) -> bool:
        """Whether it was removed, itself or with a directory above it."""
        return self.parent is None and self is not self.tree.root

    @property
    def is_empty(self) -> bool:
        """Whether it has no nodes, made or not."""
        return not self._nodes

    def __iter__(self) -> Iterator[Node]:
        return iter(self.children.values())

    def __contains__(self, name: str) -> bool:
        return name in self._nodes or name in self._awaited

    def get(self, name: str) -> Node | None:
        """The node of that name, if there is one."""
        if name not in self._nodes and name in self._awaited:
            self._make()
        node = self._nodes.get(name)
        if isinstance(node, _UnmadeLink):
            node = Symlink(name, node.target)
            self._enter(node)
            self.tree.made(self, node)
        return node  # type: ignore[return-value]  # under a name there is a node

    def add(self, node: NodeT) -> NodeT:
        """Put a node here and return it.  EEXIST when the name is taken."""
        self._require_free(node.name)
        self._enter(node)
        if isinstance(node, Directory):
            self.subdirectories += 1
        self.tree.added(self, node)
        return node

    def link(self, name: str, target: Node) -> None:
        """Put a symbolic link here, which is made when somebody looks, or listens.  EEXIST when the name is taken."""
        if self.tree.listeners:
            self.add(Symlink(name, target))
            return
        self._require_free(name)
        self._nodes[name] = _UnmadeLink(target)
        self._has_unmade_links = True

    def fill_later(self, contents: Contents) -> None:
        """Have more nodes, which are made when somebody looks.  EEXIST when one of the names is taken."""
        names = contents.names
        if not names:
            return
        for name in names if self._nodes else ():
            self._require_free(name)
        self._nodes[f"/{next(iter(names))}"] = contents
        self._awaited = (*self._awaited, *names) if self._awaited else names
        self.subdirectories += contents.directories

    def remove(self, name: str) -> None:
        """Take a node and everything below it out of the tree.

        ENOENT when there is none, unless this directory has left the tree, and everything below it with it.
        """
        node = self.get(name)
        if node is None:
            if self.has_left:
                return
            raise KernelError(errno.ENOENT, f"{self.path}/{name} does not exist")
        del self._nodes[name]
        if isinstance(node, Directory):
            self.subdirectories -= 1
        self.tree.removed(self, node)
        _detach(node, node.path)

    def directory(self, name: str) -> Directory:
        """The directory of that name, made when it is not there yet."""
        node = self.get(name)
        if isinstance(node, Directory):
            return node
        return self.add(Directory(name))

    def find(self, path: str) -> Node:
        """The node at a relative path, links not followed.  ENOENT, ENOTDIR."""
        node: Node = self
        for name in filter(None, path.split("/")):
            if not isinstance(node, Directory):
                raise KernelError(errno.ENOTDIR, f"{node.path} is not a directory")
            child = node.get(name)
            if child is None:
                raise KernelError(errno.ENOENT, f"{node.path}/{name} does not exist")
            node = child
        return node

    def clear(self) -> None:
        """Hold nothing any more: it has left the tree."""
        self._nodes, self._awaited, self._has_unmade_links, self.subdirectories = {}, (), False, 0

    def _require_free(self, name: str) -> None:
        if name in self._nodes or name in self._awaited:
            raise KernelError(errno.EEXIST, f"{self.path}/{name} exists already")

    def _make(self) -> None:
        """Make what is not made yet, each node in its place."""
        if not self._awaited and not self._has_unmade_links:
            return
        places, self._nodes, self._awaited, self._has_unmade_links = self._nodes, {}, (), False
        made: list[Node] = []
        for name, node in places.items():
            if isinstance(node, Node):
                self._nodes[name] = node
                continue
            for new in (Symlink(name, node.target),) if isinstance(node, _UnmadeLink) else node.make():
                self._enter(new)
                made.append(new)
        for new in made:
            self.tree.made(self, new)

    def _enter(self, node: Node) -> None:
        self._nodes[node.name] = node
        node.parent = self
        if isinstance(node, Directory):
            node.tree = self.tree


class Tree:
    """The root directory, the inode numbers, and those who listen.

    Attributes:
        listeners: who hears of every change.
    """

    def __init__(self) -> None:
        self._inos = itertools.count(1)
        self.listeners: list[Listener] = []
        self.root = Directory("")
        self.root.tree = self
        self.root._ino = self.next_ino()

    def next_ino(self) -> int:
        """An inode number that no node had before."""
        return next(self._inos)

    def subscribe(self, listener: Listener) -> None:
        """Tell `listener` of every change from now on."""
        self.listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Tell `listener` nothing any more."""
        self.listeners.remove(listener)

    def added(self, directory: Directory, node: Node) -> None:
        for listener in self.listeners:
            listener.added(directory, node)

    def made(self, directory: Directory, node: Node) -> None:
        for listener in self.listeners:
            listener.made(directory, node)

    def removed(self, directory: Directory, node: Node) -> None:
        for listener in self.listeners:
            listener.removed(directory, node)

    def notified(self, node: Node) -> None:
        for listener in self.listeners:
            listener.notified(node)


def _detach(node: Node, path: str) -> None:
    """Take what was at a path out of the tree, with everything below it."""
    if isinstance(node, Directory):
        for child in node.made:
            _detach(child, f"{path}/{child.name}")
        node.clear()
        node._former_path = path
    node.parent = None


def _relative_path(directory: Directory, target: Node) -> str:
    """Up from `directory` to the first directory that also holds the target or one of its ancestors, then down.

    A link to an ancestor names it (`../../ndbus0`, not `..`), as fs/kernfs/symlink.c does.
    """
    here, there = (node.path.rstrip("/").split("/") for node in (directory, target))
    shared = 0
    while shared < min(len(here), len(there) - 1) and here[shared] == there[shared]:
        shared += 1
    return "/".join([*[".."] * (len(here) - shared), *there[shared:]])
