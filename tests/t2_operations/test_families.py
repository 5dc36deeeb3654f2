"""FUSE requests, sent directly: a family of nodes, of which a listing makes hardly any."""

from __future__ import annotations

import errno
import os
import stat
from types import SimpleNamespace

import pyfuse3
import pytest
import trio
from asking import CONTEXT, Asker, set_attributes
from toy import Value

from nvdimmfs.formats.name_hash import by_hash, name_hash
from nvdimmfs.kernfs import (
    Attribute,
    Directory,
    FileKind,
    Files,
    FileTable,
    LazyTarget,
    NumberedNames,
    NumberedNodes,
    Symlink,
    Tree,
    TreeCheckpoint,
)
from nvdimmfs.snapshot import Snapshot

#: What stat(2) shows, and how long the kernel may cache it.
SHOWN = (
    *(f"st_{name}" for name in ("ino", "mode", "nlink", "uid", "gid", "size", "blksize", "blocks")),
    *(f"st_{name}time_ns" for name in "amc"),
    *("generation", "entry_timeout", "attr_timeout"),
)

#: Names in each family: far more than the one node that a listing may make, and in several ranges.
NAMES = NumberedNames("block", (range(5), range(200, 220), range(300, 320), range(400, 420)))


@pytest.fixture
def ask():
    """Sends requests to a tree with a family of directories, one of links to them, and files before and behind both."""
    tree = Tree()
    blocks, links = tree.root.add(Directory("blocks")), tree.root.add(Directory("links"))

    def link(number):
        return Symlink(f"block{number}", LazyTarget(blocks, f"block{number}"))

    for place, create in ((blocks, block), (links, link)):
        place.add(Attribute("before", 0o444, Value("1"), None))
        place.add_family(NumberedNodes(NAMES, create, are_directories=place is blocks))
        place.add(Attribute("behind", 0o444, Value("1"), None))
    asker = Asker(tree)
    yield asker
    assert asker.operations.bugs == []


def block(number):
    """A directory with a file and a directory."""
    directory = Directory(f"block{number}")
    table = FileTable({"state": FileKind(0o644, Value("online")), "power": FileTable({})})
    directory.populate_lazily(Files(table, None))
    return directory


class Listing:
    """What the kernel receives of a listing."""

    def __init__(self, ask, monkeypatch, path, user=None):
        self.entries = {}
        monkeypatch.setattr(pyfuse3, "readdir_reply", self._reply)
        self._ask = ask
        context = CONTEXT if user is None else SimpleNamespace(uid=user, pid=1)
        self._handle = ask("opendir", ask.inode(path), context)
        self._room = self._next = 0

    def read(self, room=None):
        """Receive so many more entries; by default all, and close the directory."""
        self._room = room or 10 * len(NAMES)
        self._ask("readdir", self._handle, self._next, pyfuse3.ReaddirToken())
        if room is None:
            self._ask("releasedir", self._handle)
        return self

    @property
    def names(self):
        return list(self.entries)[2:]

    def _reply(self, token, name, entry, next_id):
        if not self._room:
            return False
        assert name.decode() not in self.entries
        self.entries[name.decode()] = shown(entry)
        self._room, self._next = self._room - 1, next_id
        return True


@pytest.fixture
def listing(ask, monkeypatch):
    return lambda path, user=None: Listing(ask, monkeypatch, path, user)


def shown(entry):
    return {name: getattr(entry, name) for name in SHOWN}


def made(ask, path):
    """The nodes of a directory that are instantiated, and the inodes that there are."""
    return len(list(ask.tree.root.find(path).instantiated)), len(ask.operations.inodes)


EVERY = by_hash(["before", *NAMES, "behind"])


@pytest.mark.parametrize("path", ["blocks", "links"])
@pytest.mark.parametrize("user", [os.getuid(), os.getuid() + 1])
def test_a_listing_makes_one_node_of_a_family_and_lookups_make_none(ask, listing, path, user):
    for _ in range(3):
        assert listing(path, user).read().names == EVERY
    nodes, inodes = made(ask, path)
    assert (nodes, inodes) == (3, 5), "both files and one of the family; and the directories above"
    for name in NAMES:
        inode = ask.inode(f"{path}/{name}")
        ask("getattr", inode, CONTEXT)
        assert list(ask("listxattr", inode, CONTEXT)) == []
        assert ask.errno("getxattr", inode, b"security.capability", CONTEXT) == errno.ENODATA
    assert made(ask, path) == (nodes, inodes)


@pytest.mark.parametrize("path", ["blocks", "links"])
def test_a_listing_shows_what_the_nodes_show_once_they_are_made(ask, listing, path):
    listed = listing(path).read().entries
    assert len({entry["st_ino"] for entry in listed.values()}) == len(listed)
    for name in NAMES:
        assert shown(ask.stat(f"{path}/{name}")) == listed[name]
    assert ask.tree.root.find(path).children  # makes all
    for name in NAMES:
        assert shown(ask.stat(f"{path}/{name}")) == listed[name]
    assert listing(path).read().entries == listed


def test_reading_a_link_makes_neither_it_nor_its_target(ask, listing):
    listed = {path: listing(path).read().entries for path in ("blocks", "links")}
    before = [made(ask, path) for path in ("blocks", "links")]
    for name in NAMES:
        assert ask("readlink", listed["links"][name]["st_ino"], CONTEXT) == f"../blocks/{name}".encode()
    assert ask.errno("readlink", listed["blocks"]["block300"]["st_ino"], CONTEXT) == errno.EINVAL
    assert [made(ask, path) for path in ("blocks", "links")] == before
    link = ask.tree.root.find("links/block300")
    assert link.text == "../blocks/block300"
    assert "block300" not in {node.name for node in ask.tree.root.find("blocks").instantiated}
    assert link.target is ask.tree.root.find("blocks/block300")


def test_a_change_makes_the_node_and_is_kept(ask, listing):
    inode = listing("blocks").read().entries["block200"]["st_ino"]
    set_attributes(ask, "blocks/block200", mode=0o700)
    ask("setxattr", inode, b"security.x", b"1", CONTEXT)
    assert made(ask, "blocks")[0] == 4
    ask("forget", [(inode, 99)])
    entry = listing("blocks").read().entries["block200"]
    assert (entry["st_ino"], stat.S_IMODE(entry["st_mode"])) == (inode, 0o700)
    assert ask("getxattr", inode, b"security.x", CONTEXT) == b"1"


def test_every_request_reaches_a_node_that_was_only_listed(ask, listing):
    blocks, links = (listing(path).read().entries for path in ("blocks", "links"))
    state = ask("lookup", blocks["block300"]["st_ino"], b"state", CONTEXT).st_ino
    handle = ask("open", state, os.O_RDONLY, CONTEXT).fh
    assert ask("read", handle, 0, 100) == b"online\n"
    assert ask("opendir", blocks["block301"]["st_ino"], CONTEXT)
    assert ask.errno("opendir", links["block301"]["st_ino"], CONTEXT) == errno.ENOTDIR


def test_an_inode_that_the_kernel_has_forgotten_is_stale(ask, listing):
    inode = listing("blocks").read().entries["block200"]["st_ino"]
    assert ask.inode("blocks/block200") == inode
    ask("forget", [(inode, 1)])
    assert ask("getattr", inode, CONTEXT).st_ino == inode
    ask("forget", [(inode, 1)])
    assert ask.errno("getattr", inode, CONTEXT) == errno.ESTALE
    assert ask.errno("opendir", inode, CONTEXT) == errno.ESTALE
    ask("forget", [(inode, 1)])
    assert ask.inode("blocks/block200") == inode
    assert ask("getattr", inode, CONTEXT).st_ino == inode


def test_the_kernel_drops_the_name_of_a_removed_node_that_was_only_listed(ask, listing):
    inode = listing("blocks").read().entries["block200"]["st_ino"]
    ask.tree.root.find("blocks").remove("block200")
    invalidate(ask)
    assert ("name", ask.tree.root.find("blocks").ino, b"block200") in ask.invalidator.calls
    assert "block200" not in listing("blocks").read().names
    ask("forget", [(inode, 1)])
    assert ask.errno("getattr", inode, CONTEXT) == errno.ESTALE


def invalidate(ask):
    """What a request does that removed a node."""
    trio.run(ask.operations.kernel_cache.invalidate_stale)


def test_a_listing_neither_skips_nor_repeats_a_name(ask, listing):
    directory = ask.tree.root.find("blocks")
    begun = listing("blocks").read(40)
    seen = begun.names
    early, late, again = seen[7], *(EVERY[index] for index in (50, 55))
    for name in (early, late, again):
        directory.remove(name)
    directory.find(EVERY[60])
    directory.add(Directory(again))
    now = [name for name in EVERY if name not in (early, late)]
    assert begun.read().names == [*seen, *(name for name in now if name_hash(name) > name_hash(seen[-1]))]
    assert listing("blocks").read().names == now


def test_no_number_is_used_twice_after_a_reset(ask, listing):
    checkpoint, state = TreeCheckpoint(ask.tree), Snapshot(ask.tree)
    before = {path: listing(path).read().entries for path in ("blocks", "links")}
    set_attributes(ask, "links/block200", uid=77)  # makes it
    ask.tree.root.find("blocks").remove("block201")
    checkpoint.reset(state.restore)
    invalidate(ask)
    after = {path: listing(path).read().entries for path in ("blocks", "links")}
    for path, changed in (("blocks", "block201"), ("links", "block200")):
        assert list(after[path]) == list(before[path])
        inodes = [{name: entry["st_ino"] for name, entry in each[path].items()} for each in (before, after)]
        assert inodes[1][changed] not in inodes[0].values()
        assert made(ask, path)[0] <= 5
    assert ask("readlink", after["links"]["block200"]["st_ino"], CONTEXT) == b"../blocks/block200"
    assert ask("opendir", after["blocks"]["block201"]["st_ino"], CONTEXT)
