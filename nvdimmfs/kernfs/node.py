"""Nodes, the directories that hold them, and the tree of them all.

They are one module because each knows the others: a node its directory, a directory its nodes and the tree, the tree
its root.  docs/explanation/kernfs-laziness.md explains why nodes are instantiated late.
"""

from __future__ import annotations

import errno
import stat
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import ClassVar, Protocol, TypeAlias, TypeVar, cast

import attrs

from nvdimmfs.errors import KernelError
from nvdimmfs.faults.faults import Faults
from nvdimmfs.kernfs.listing import FamilyNames, Listing, listing_of, listing_with_family
from nvdimmfs.kernfs.name_order import Order
from nvdimmfs.kernfs.refusal import Refusals
from nvdimmfs.kernfs.tracer import TracedProcess, Tracer

#: The key of a family in the nodes of a directory, which keeps its place in the order; no name has a slash.
_FAMILY = "/"

#: One object for all directories: each call of frozenset() makes another one, of 216 bytes.
_NO_NAMES: frozenset[str] = frozenset()

NodeT = TypeVar("NodeT", bound="Node")


class Contents(Protocol):
    """Nodes that exist in a directory but are not instantiated yet, see `Directory.populate_lazily`."""

    @property
    def names(self) -> Collection[str]:
        """The nodes' names, in order."""

    @property
    def directories(self) -> int:
        """Number of nodes that are directories."""

    def instantiate(self) -> Iterable[Node]:
        """Create the nodes.  Called once, at the first lookup or listing that needs one of them."""


class Family(Protocol):
    """Nodes of one kind, so many that each is instantiated alone, see `Directory.add_family`.

    When they are instantiated, all have the same mode and the same number of subdirectories.
    """

    @property
    def names(self) -> FamilyNames:
        """The nodes' names, in order."""

    @property
    def directories(self) -> int:
        """Number of nodes that are directories."""

    def instantiate(self, name: str) -> Node:
        """Create one node.

        Called at the first lookup or listing that needs it; for a link, also each time that only its text is needed.
        """


@attrs.frozen
class Member:
    """A node of a family that is not instantiated: what stat(2) shows of it.

    Attributes:
        directory: the directory that it is in.
        name: the last component of the path.
        ino: the inode number, which the node keeps when it is instantiated.
        mode: st_mode.
        subdirectories: number of its nodes that are directories.
    """

    directory: Directory
    name: str
    ino: int
    mode: int
    subdirectories: int


@attrs.define
class FamilyNumbers:
    """The inode numbers that are reserved for a family.

    Attributes:
        first: that of the first name; the others follow in the order of the names.
        names: the names.
    """

    first: int
    names: FamilyNames
    # Names whose number a node has.  A reset can undo that the node was instantiated; the next one needs a new number.
    _given: set[str] = attrs.field(factory=set)
    # Mode and subdirectories of a node that was just instantiated.
    _sample: tuple[int, int] | None = None

    def give(self, node: Node) -> None:
        """Number a node that was just instantiated."""
        self._sample = (node.mode, node.subdirectories if isinstance(node, Directory) else 0)
        if node.name not in self._given:
            self._given.add(node.name)
            node._ino = self.first + self.names.position(node.name)

    def member(self, directory: Directory, name: str) -> Member | None:
        """Describe a node that is not instantiated; None if it has to be, for that."""
        if self._sample is None or name in self._given:
            return None
        return Member(directory, name, self.first + self.names.position(name), *self._sample)


class TreeListener(Protocol):
    """A receiver of changes to the tree, for example a FUSE mount that caches names."""

    def added(self, directory: Directory, node: Node) -> None:
        """`node` was added to `directory`."""

    def instantiated(self, directory: Directory, node: Node) -> None:
        """`node` of `directory` was instantiated and is about to be seen; user space sees no change."""

    def removed(self, directory: Directory, node: Node) -> None:
        """`node` and everything below it was removed from `directory`; nodes not instantiated were never seen."""

    def notified(self, node: Node) -> None:
        """The content of `node` changed in a way that wakes poll(2)."""

    def poll_again(self) -> None:
        """poll(2) may report notifications that there were none of: processes that wait are to ask again."""

    def revoked(self, node: Node) -> None:
        """What processes have mapped of `node`, or a page cache has of it, can no longer be used."""

    def resetting(self) -> None:
        """The tree is about to be reset to a checkpoint."""

    def restored(self) -> None:
        """The tree was reset to a checkpoint.

        The other methods were called for the nodes that this removed, added or notified.  Modes, and the content of
        files, may have changed in addition.
        """


class Node:
    """A named place in the tree.

    Attributes:
        name: the last component of the path.
        mode: st_mode, type and permission bits; chmod may change the latter.
        parent: the directory that holds it; None for the root and for a node that was removed.
    """

    __slots__ = ("_ino", "mode", "name", "parent")

    #: Not part of a snapshot: no number is used twice, not even after a reset.
    UNSAVED: ClassVar[frozenset[str]] = frozenset({"_ino"})

    #: The path before the node was removed; empty until then, and always for nodes other than directories.
    _former_path = ""

    def __init__(self, name: str, mode: int) -> None:
        self.name = name
        self.mode = mode
        self._ino = 0
        self.parent: Directory | None = None

    @property
    def ino(self) -> int:
        """Inode number, allocated on first use and never reused in this tree; 0 if first used after the removal."""
        if not self._ino and self.parent is not None:
            self._ino = self.parent.tree.next_ino()
        return self._ino

    @property
    def path(self) -> str:
        """The path from the root, with a leading slash; for a removed directory, its path before the removal."""
        names: list[str] = []
        node: Node = self
        while node.parent is not None:
            names.append(node.name)
            node = node.parent
        return "/".join([node._former_path, *reversed(names)]) or "/"

    def detach(self, path: str) -> None:  # noqa: ARG002  # only a directory remembers its path
        """Mark it as removed, with everything below it; it was at `path`."""
        self.parent = None

    def take_over(self, new: Node) -> None:
        """Take over what makes the present state of `new`, another node for the same file."""
        self.mode = new.mode

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"


@attrs.frozen
class LazyTarget:
    """The target of a link to a node that may not be instantiated.

    Attributes:
        directory: the directory that it is in.
        name: the node's name.
    """

    directory: Directory
    name: str

    @property
    def path(self) -> str:
        """The node's path."""
        return f"{self.directory.path.rstrip('/')}/{self.name}"


class Symlink(Node):
    """A relative link to another node of the tree.  If the target is removed first, the text still names its path."""

    __slots__ = ("_target", "_text")

    def __init__(self, name: str, target: Node | LazyTarget) -> None:
        super().__init__(name, stat.S_IFLNK | 0o777)
        self._target = target
        self._text = ""

    @property
    def target(self) -> Node:
        """The node that the link leads to, which this instantiates."""
        if not isinstance(self._target, Node):
            self._target = self._target.directory.find(self._target.name)
        return self._target

    @property
    def text(self) -> str:
        """The link's relative path, computed at the first read.  ENOENT if the link was removed before that."""
        if not self._text:
            if self.parent is None:
                raise KernelError(errno.ENOENT, f"{self.name} was removed")
            self._text = _relative_path(self.parent, self._target)
        return self._text


class _LazyDirectory:
    """A directory that is not instantiated yet."""

    __slots__ = ("create",)

    def __init__(self, create: Callable[[], Directory]) -> None:
        self.create = create


#: A symbolic link that is not instantiated yet: its target.  A class would be a call more for each of 100,000.
_LazyLink: TypeAlias = tuple[Node | LazyTarget]


class Directory(Node):
    """A node that holds other nodes.

    A machine with ten thousand namespaces has more than a million attributes and a hundred thousand links, and user
    space reads hardly any of them.  Therefore a directory can hold the description of nodes (`populate_lazily`) and the
    targets of links (`link`).  The first lookup of a described node, and any listing, instantiates all described nodes
    at once; the lookup of a link, or of a node of a family (`add_family`), instantiates that node alone.  Where names
    and what stat(2) shows are enough, `peek` and `listing` leave the nodes of a family as they are.  User space cannot
    see the difference: names, order and the number of directories are the same as if all nodes had been instantiated at
    once.

    Nodes are held in the order in which they were added; `listing` has the names in the order of the file system.
    """

    __slots__ = (
        "_family",
        "_former_path",
        "_gone",
        "_has_lazy_nodes",
        "_listing",
        "_nodes",
        "_pending",
        "numbers",
        "order",
        "subdirectories",
        "tree",
    )

    UNSAVED: ClassVar[frozenset[str]] = frozenset({"numbers"})

    tree: Tree

    #: Number of its nodes that are directories, instantiated or not.
    subdirectories: int

    #: The order of its names, where a file system begins; None where that of the directory above it goes on.
    order: Order | None

    #: The inode numbers of its family; None until `peek` finds a node of it that is not instantiated.
    numbers: FamilyNumbers | None

    def __init__(self, name: str, permissions: int = 0o755) -> None:
        super().__init__(name, stat.S_IFDIR | permissions)
        # By name.  Contents keep the place of their nodes in the order, under a key that cannot be a name.
        self._nodes: dict[str, Node | Contents | Family | _LazyDirectory | _LazyLink] = {}
        # The names of nodes that are described and not instantiated yet.
        self._pending: Collection[str] = ()
        self._has_lazy_nodes = False
        # A family some of whose nodes are not instantiated yet, and the names of those that were removed.
        self._family: Family | None = None
        self._gone = _NO_NAMES
        self.numbers = None
        self.order = None
        # The listing until a name is added or removed.
        self._listing: Listing | None = None
        self._former_path = ""
        self.subdirectories = 0

    @property
    def children(self) -> Mapping[str, Node]:
        """The nodes by name."""
        self._instantiate()
        return self._nodes  # type: ignore[return-value]  # all are instantiated

    @property
    def instantiated(self) -> Iterator[Node]:
        """The nodes that are instantiated, so that user space may have seen them."""
        return (node for node in self._nodes.values() if isinstance(node, Node))

    @property
    def names(self) -> list[str]:
        """The names of its nodes, instantiated or not, without those of a family."""
        return [*(name for name in self._nodes if not name.startswith(_FAMILY)), *self._pending]

    @property
    def is_detached(self) -> bool:
        """Whether it was removed, alone or together with a directory above it."""
        return self.parent is None and self is not self.tree.root

    @property
    def is_empty(self) -> bool:
        """Whether it has no nodes, instantiated or not."""
        return not self._nodes

    def __iter__(self) -> Iterator[Node]:
        return iter(self.children.values())

    def __contains__(self, name: str) -> bool:
        return name in self._nodes or name in self._pending or (self._family is not None and self._is_in_family(name))

    def get(self, name: str) -> Node | None:
        """Return the node with that name, or None."""
        node = self._nodes.get(name)
        if node is None and name in self._pending:
            self._instantiate()
            node = self._nodes.get(name)
        if isinstance(node, Node):
            return node
        if isinstance(node, tuple):
            new: Node = Symlink(name, *node)
        elif isinstance(node, _LazyDirectory):
            new = node.create()
        elif self._family is not None and self._is_in_family(name):
            new = self._new_of(self._family, name)
        else:
            return None
        self._insert(new)
        self.tree.instantiated(self, new)
        return new

    def peek(self, name: str) -> Node | Member | None:
        """Return the node with that name, or None; of a family's, a description where that is enough for stat(2)."""
        node = self._nodes.get(name)
        if isinstance(node, Node):
            return node
        family = self._family
        if family is None or node is not None or not self._is_in_family(name):
            return self.get(name)
        if self.numbers is None:
            self.numbers = FamilyNumbers(self.tree.next_inos(len(family.names)), family.names)
        return self.numbers.member(self, name) or self.get(name)

    def text_of(self, member: Member) -> str:
        """The text of a symbolic link that stays as it is.  EINVAL if it is no link."""
        if not stat.S_ISLNK(member.mode) or not self._family:
            raise KernelError(errno.EINVAL, f"{self.path}/{member.name} is not a symbolic link")
        link = self._family.instantiate(member.name)
        assert isinstance(link, Symlink), "its mode is that of a link"
        link.parent = self
        return link.text

    @property
    def listing(self) -> Listing:
        """The names in the order of the file system.  Nodes of a family stay as they are."""
        if self._listing is None:
            self._listing = self._list()
        return self._listing

    def _list(self) -> Listing:
        self._instantiate(whole=False)
        if self._family is None:
            return listing_of(self._effective_order, self._nodes)
        names = (name for name in self._nodes if name != _FAMILY and not self._is_in_family(name))
        return listing_with_family(self._family.names, self._gone, names)

    @property
    def _effective_order(self) -> Order:
        directory: Directory | None = self
        while directory is not None:
            if directory.order is not None:
                return directory.order
            directory = directory.parent
        return Order.HASH

    def add(self, node: NodeT) -> NodeT:
        """Add a node and return it.  EEXIST when the name is taken."""
        name, tree = node.name, self.tree
        if name in self._nodes or name in self._pending or self._family is not None:
            self._require_free(name)
        self._nodes[name] = node
        node.parent = self
        self._listing = None
        if isinstance(node, Directory):
            node.tree = tree
            self.subdirectories += 1
        if tree.listeners:
            tree.added(self, node)
        return node

    def link(self, name: str, target: Node | LazyTarget) -> None:
        """Add a symbolic link, instantiated on demand unless the tree has listeners.  EEXIST when the name is taken."""
        if self.tree.listeners:
            self.add(Symlink(name, target))
            return
        if name in self._nodes or name in self._pending or self._family is not None:
            self._require_free(name)
        self._nodes[name] = (target,)
        self._has_lazy_nodes = True
        self._listing = None

    def add_lazily(self, name: str, create: Callable[[], Directory]) -> LazyTarget:
        """Add a directory, created on demand unless the tree has listeners.  EEXIST when the name is taken.

        Returns the target for links to it.
        """
        if self.tree.listeners:
            self.add(create())
        else:
            self._require_free(name)
            self._nodes[name] = _LazyDirectory(create)
            self._has_lazy_nodes = True
            self._listing = None
            self.subdirectories += 1
        return LazyTarget(self, name)

    def populate_lazily(self, contents: Contents) -> None:
        """Add nodes that are instantiated on demand.  EEXIST when one of the names is taken."""
        names = contents.names
        if not names:
            return
        if self._family is not None or not self._nodes.keys().isdisjoint(names) or self._pending:
            for name in names:
                self._require_free(name)
        self._nodes[sys.intern(f"/{next(iter(names))}")] = contents  # the same for all directories of a kind
        self._pending = (*self._pending, *names) if self._pending else names
        self.subdirectories += contents.directories
        self._listing = None

    def add_family(self, family: Family) -> None:
        """Add nodes that are instantiated on demand, each alone; one family at most.  EEXIST when a name is taken."""
        assert self._family is None, f"{self.path} has a family"
        for name in self._nodes if len(family.names) else ():
            if name in family.names:
                raise KernelError(errno.EEXIST, f"{self.path}/{name} exists already")
        self._nodes[_FAMILY] = self._family = family
        self.subdirectories += family.directories
        self._listing = None

    def remove(self, name: str) -> None:
        """Remove a node and everything below it from the tree.

        ENOENT when there is no such node; a directory that is itself detached ignores the call instead.
        """
        node = self.get(name)
        if node is None:
            if self.is_detached:
                return
            raise KernelError(errno.ENOENT, f"{self.path}/{name} does not exist")
        if self._is_in_family(name):
            self._gone |= {name}
        del self._nodes[name]
        self._listing = None
        if isinstance(node, Directory):
            self.subdirectories -= 1
        self.tree.removed(self, node)
        node.detach(node.path)

    def directory(self, name: str) -> Directory:
        """Return the directory with that name; add it if it does not exist."""
        node = self.get(name)
        if isinstance(node, Directory):
            return node
        return self.add(Directory(name))

    def find(self, path: str) -> Node:
        """Return the node at a relative path without following links.  ENOENT, ENOTDIR."""
        node: Node = self
        for name in filter(None, path.split("/")):
            if not isinstance(node, Directory):
                raise KernelError(errno.ENOTDIR, f"{node.path} is not a directory")
            child = node.get(name)
            if child is None:
                raise KernelError(errno.ENOENT, f"{node.path}/{name} does not exist")
            node = child
        return node

    def adopt(self, node: Node) -> None:
        """Replace the node of that name, which has just been instantiated, by one that stood for the same file before.

        So an open file, or a working directory, stays valid if the directory is reset to a state in which the node was
        not instantiated yet.
        """
        new = self.get(node.name)
        assert new is not None, f"{self.path} has no {node.name}"
        node.take_over(new)
        node.parent, new.parent = self, None
        self._nodes[node.name] = node

    def take_over(self, new: Node) -> None:
        super().take_over(new)
        if isinstance(new, Directory):
            self._nodes, self._pending, self._has_lazy_nodes = new._nodes, new._pending, new._has_lazy_nodes
            self._family, self._gone, self.subdirectories = new._family, new._gone, new.subdirectories
            self._listing, self.order = None, new.order

    @property
    def pending(self) -> Collection[str]:
        """The names of nodes that are not instantiated yet, other than links and those of a family."""
        if not self._has_lazy_nodes:
            return self._pending
        return (*self._pending, *(name for name, node in self._nodes.items() if isinstance(node, _LazyDirectory)))

    @property
    def family_names(self) -> Collection[str]:
        """The names of a family of which some nodes are not instantiated yet; none without such a family."""
        if self._family is None:
            return ()
        return frozenset(self._family.names) - self._gone if self._gone else self._family.names

    def detach(self, path: str) -> None:
        for child in self.instantiated:
            child.detach(f"{path}/{child.name}")
        self._nodes, self._pending, self._has_lazy_nodes, self.subdirectories = {}, (), False, 0
        self._family = self._listing = None
        self._former_path = path
        self.parent = None

    def _is_in_family(self, name: str) -> bool:
        return self._family is not None and name in self._family.names and name not in self._gone

    def _require_free(self, name: str) -> None:
        """EEXIST when the name is taken.  Methods that are called for each of 100,000 nodes ask only if it may be."""
        if name in self:
            raise KernelError(errno.EEXIST, f"{self.path}/{name} exists already")

    def _instantiate(self, *, whole: bool = True) -> None:
        """Instantiate all pending nodes and lazy links, each at its place in the order; if `whole`, the family, too."""
        if not self._pending and not self._has_lazy_nodes and not (whole and self._family):
            return
        places, self._nodes, self._pending, self._has_lazy_nodes = self._nodes, {}, (), False
        if whole:
            self._family = None
        instantiated: list[Node] = []
        for name, node in places.items():
            new_nodes: Iterable[Node]
            if isinstance(node, Node) or (name == _FAMILY and not whole):
                self._nodes[name] = node
                continue
            if isinstance(node, tuple):
                new_nodes = (Symlink(name, *node),)
            elif isinstance(node, _LazyDirectory):
                new_nodes = (node.create(),)
            elif name == _FAMILY:
                new_nodes = self._nodes_of(cast("Family", node), places)
            else:
                new_nodes = cast("Contents", node).instantiate()
            for new in new_nodes:
                self._insert(new)
                if places.get(new.name) is not new:
                    instantiated.append(new)
        for new in instantiated:
            self.tree.instantiated(self, new)

    def _nodes_of(self, family: Family, places: Mapping[str, object]) -> Iterator[Node]:
        """The nodes of a family, of which some are instantiated already and follow it in `places`."""
        for name in family.names:
            if name not in self._gone:
                known = places.get(name)
                yield known if isinstance(known, Node) else self._new_of(family, name)

    def _new_of(self, family: Family, name: str) -> Node:
        new = family.instantiate(name)
        if self.numbers:
            self.numbers.give(new)
        return new

    def _insert(self, node: Node) -> None:
        self._nodes[node.name] = node
        node.parent = self
        if isinstance(node, Directory):
            node.tree = self.tree


class Tree:
    """The root directory, the inode numbers and the listeners.

    Attributes:
        listeners: receive every change.
        refusals: passes on which requests are refused.
        tracer: records calls on the files; None while none are recorded, so that they cost no more than this test.
        caller_of: looks up the process that a thread belongs to, by the thread's id; a front end sets it.
    """

    #: Not part of a snapshot.
    UNSAVED: ClassVar[frozenset[str]] = frozenset({"_last_ino", "caller_of", "listeners", "refusals", "tracer"})

    def __init__(self) -> None:
        self.faults = Faults()
        self._last_ino = 0
        self.listeners: list[TreeListener] = []
        self.refusals = Refusals()
        self.tracer: Tracer | None = None
        self.caller_of: Callable[[int], TracedProcess] = TracedProcess
        self.root = Directory("")
        self.root.tree = self
        self.root._ino = self.next_ino()

    def next_ino(self) -> int:
        """Allocate an inode number that no node has had before."""
        self._last_ino += 1
        return self._last_ino

    def next_inos(self, count: int) -> int:
        """Allocate so many numbers, one after the other.  Returns the first."""
        first = self._last_ino + 1
        self._last_ino += count
        return first

    def subscribe(self, listener: TreeListener) -> None:
        """Report every change to `listener` from now on."""
        self.listeners.append(listener)

    def unsubscribe(self, listener: TreeListener) -> None:
        """Stop reporting changes to `listener`."""
        self.listeners.remove(listener)

    def added(self, directory: Directory, node: Node) -> None:
        for listener in self.listeners:
            listener.added(directory, node)

    def instantiated(self, directory: Directory, node: Node) -> None:
        for listener in self.listeners:
            listener.instantiated(directory, node)

    def removed(self, directory: Directory, node: Node) -> None:
        for listener in self.listeners:
            listener.removed(directory, node)

    def resetting(self) -> None:
        for listener in self.listeners:
            listener.resetting()

    def restored(self) -> None:
        for listener in self.listeners:
            listener.restored()

    def notified(self, node: Node) -> None:
        for listener in self.listeners:
            listener.notified(node)

    def poll_again(self) -> None:
        for listener in self.listeners:
            listener.poll_again()

    def revoked(self, node: Node) -> None:
        for listener in self.listeners:
            listener.revoked(node)


def subtree(node: Node) -> Iterator[Node]:
    """The node and every node below it that is instantiated, and so may have been seen, parents first."""
    pending = [node]
    while pending:
        each = pending.pop()
        yield each
        if isinstance(each, Directory):
            pending.extend(each.instantiated)


def _relative_path(directory: Directory, target: Node | LazyTarget) -> str:
    """Return the path up from `directory` to the nearest directory that also holds the target, then down to it.

    A link to an ancestor names it (`../../ndbus0`, not `..`), as fs/kernfs/symlink.c does.
    """
    here, there = (node.path.rstrip("/").split("/") for node in (directory, target))
    shared = 0
    while shared < min(len(here), len(there) - 1) and here[shared] == there[shared]:
        shared += 1
    return "/".join([*[".."] * (len(here) - shared), *there[shared:]])
