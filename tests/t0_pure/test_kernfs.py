"""The tree of nodes: links, removal, notification."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import ATTRIBUTE_SIZE, Attribute, Directory, Symlink, Tree


class Echo:
    """Reads back what was written last."""

    def __init__(self):
        self.written = []

    def show(self, subject):
        return f"{subject}\n".encode()

    def store(self, subject, data):
        self.written.append((subject, data))


class Witness:
    def __init__(self):
        self.seen = []

    def added(self, directory, node):
        self.seen.append(("added", node.path))

    def instantiated(self, directory, node):
        self.seen.append(("instantiated", node.path))

    def removed(self, directory, node):
        self.seen.append(("removed", node.path))

    def notified(self, attribute):
        self.seen.append(("notified", attribute.path))


def test_a_store_sees_one_page_and_nothing_of_an_empty_write():
    echo = Echo()
    file = Tree().root.add(Attribute("a", 0o644, echo, "subject"))
    assert file.store(b"x" * 5000) == ATTRIBUTE_SIZE
    assert file.store(b"") == 0
    assert echo.written == [("subject", b"x" * ATTRIBUTE_SIZE)]


def test_a_file_that_outlives_its_directory_answers_enodev():
    tree = Tree()
    file = tree.root.directory("device").add(Attribute("a", 0o644, Echo(), 1))
    tree.root.remove("device")
    for call in (file.show, lambda: file.store(b"1")):
        with pytest.raises(KernelError) as refusal:
            call()
        assert refusal.value.errno == errno.ENODEV


def test_a_name_is_taken_once():
    tree = Tree()
    tree.root.add(Directory("a"))
    with pytest.raises(KernelError) as refusal:
        tree.root.add(Directory("a"))
    assert refusal.value.errno == errno.EEXIST


@pytest.mark.parametrize(
    ("path", "code"), [("a/b/c", errno.ENOENT), ("a/file/x", errno.ENOTDIR), ("nothing", errno.ENOENT)]
)
def test_finding_what_is_not_there(path, code):
    tree = Tree()
    tree.root.directory("a").add(Attribute("file", 0o444, Echo(), 0))
    with pytest.raises(KernelError) as refusal:
        tree.root.find(path)
    assert refusal.value.errno == code


@pytest.mark.parametrize(
    ("where", "target", "text"),
    [
        ("bus/nd/devices", "devices/platform/e820_pmem/ndbus0", "../../../devices/platform/e820_pmem/ndbus0"),
        ("devices/ndbus0/nd/ndctl0", "devices/ndbus0", "../../../ndbus0"),
        ("devices/ndbus0", "devices/ndbus0/nd", "nd"),
        ("class/block", "class", "../../class"),
    ],
)
def test_a_link_names_an_ancestor_as_sysfs_does(where, target, text):
    tree = Tree()
    for path in (where, target):
        place = tree.root
        for name in path.split("/"):
            place = place.directory(name)
    directory, goal = tree.root.find(where), tree.root.find(target)
    assert isinstance(directory, Directory)
    assert directory.add(Symlink("link", goal)).text == text


names = st.lists(st.sampled_from("abc"), min_size=1, max_size=5)


@given(names, names)
def test_a_link_leads_to_its_target(where, target):
    tree = Tree()
    for path in (where, target):
        place = tree.root
        for name in path:
            place = place.directory(name)
    directory, goal = tree.root.find("/".join(where)), tree.root.find("/".join(target))
    node = directory
    for step in directory.add(Symlink("link", goal)).text.split("/"):
        node = (node.parent or node) if step == ".." else node.children[step]
    assert node is goal


def test_a_link_says_where_its_target_was():
    tree = Tree()
    goal = tree.root.directory("devices").directory("ndbus0").directory("region0")
    link = tree.root.directory("bus").add(Symlink("region0", goal))
    tree.root.find("devices").remove("ndbus0")
    assert (link.text, goal.path) == ("../devices/ndbus0/region0", "/devices/ndbus0/region0")
    assert tree.root.add(Symlink("late", goal)).text == "devices/ndbus0/region0"


def test_a_node_that_left_the_tree_with_its_directory_can_be_removed_again():
    tree = Tree()
    above = tree.root.directory("ndbus0")
    directory = above.directory("region0")
    directory.add(Attribute("a", 0o444, Echo(), 0))
    assert not directory.is_detached
    tree.root.remove("ndbus0")
    assert directory.is_detached
    directory.remove("a")
    assert not tree.root.is_detached
    with pytest.raises(KernelError) as refusal:
        tree.root.remove("ndbus0")
    assert refusal.value.errno == errno.ENOENT


def test_listeners_hear_of_every_change_and_inodes_are_never_used_twice():
    tree = Tree()
    witness = Witness()
    tree.subscribe(witness)
    file = tree.root.directory("d").add(Attribute("a", 0o444, Echo(), 0))
    file.notify()
    tree.root.remove("d")
    again = tree.root.directory("d").add(Attribute("a", 0o444, Echo(), 0))
    assert witness.seen == [
        ("added", "/d"),
        ("added", "/d/a"),
        ("notified", "/d/a"),
        ("removed", "/d"),
        ("added", "/d"),
        ("added", "/d/a"),
    ]
    assert file.events == 1
    assert again.ino != file.ino
