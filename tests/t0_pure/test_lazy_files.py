"""Lazily populated directories: user space cannot distinguish them from directories populated at once."""

import errno
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvdimmfs.errors import KernelError
from nvdimmfs.kernfs import (
    Attribute,
    Directory,
    FileKind,
    Files,
    FileTable,
    LinkKind,
    NumberedNames,
    NumberedNodes,
    Symlink,
    Tree,
    joined,
)


class Plain:
    """Shows its subject."""

    def show(self, subject):
        return str(subject).encode()

    def store(self, subject, data):
        subject.append(data)


class Witness:
    """Records the notifications."""

    def __init__(self):
        self.notifications = []

    def added(self, directory, node):
        self.notifications.append(("added", node.path))

    def instantiated(self, directory, node):
        self.notifications.append(("instantiated", node.path))

    def removed(self, directory, node):
        self.notifications.append(("removed", node.path))

    def notified(self, attribute):
        self.notifications.append(("notified", attribute.path))


def table(*names, **directories):
    """Attributes, and directories of attributes."""
    files = {name: FileKind(0o644, Plain()) for name in names}
    return FileTable(files | {name: table(*inner) for name, inner in directories.items()})


@pytest.fixture
def device():
    """A directory with one node of each kind, none of them instantiated yet."""
    directory = Tree().root.add(Directory("device"))
    directory.populate_lazily(Files(table("size", "mode", power=["control"], firmware=[]), "subject"))
    return directory


def test_a_file_is_made_when_it_is_looked_up_with_all_others(device):
    assert list(device.instantiated) == []
    size = device.find("size")
    assert isinstance(size, Attribute)
    assert (size.mode & 0o777, size.show(), size.path) == (0o644, b"subject", "/device/size")
    assert [node.name for node in device.instantiated] == ["size", "mode", "power", "firmware"]
    assert device.find("size") is size


def test_the_files_of_a_directory_are_made_when_it_is_looked_at(device):
    power = device.find("power")
    assert list(power.instantiated) == []
    assert power.find("control").show() == b"subject"


def test_asking_what_there_is_makes_nothing(device):
    assert "size" in device
    assert "power" in device
    assert "nothing" not in device
    assert not device.is_empty
    assert device.get("nothing") is None
    assert device.subdirectories == 2
    assert list(device.instantiated) == []


def test_a_directory_without_files_is_empty_and_one_with_files_is_not():
    root = Tree().root
    root.populate_lazily(Files(table(), None))
    assert root.is_empty
    root.populate_lazily(Files(table("a"), None))
    assert not root.is_empty


@pytest.mark.parametrize(
    "take",
    [
        lambda directory: directory.add(Attribute("size", 0o444, Plain(), None)),
        lambda directory: directory.populate_lazily(Files(table("new", "size"), None)),
        lambda directory: directory.link("size", directory),
        lambda directory: joined([table("size"), table("size")]),
        lambda directory: joined([table("power"), table(power=["control"])]),
        lambda directory: joined([table(power=["control"]), table(power=["control"])]),
    ],
)
def test_a_name_is_taken_although_its_file_is_not_made(device, take):
    with pytest.raises(KernelError) as refusal:
        take(device)
    assert refusal.value.errno == errno.EEXIST
    assert [node.name for node in device] == ["size", "mode", "power", "firmware"]


def test_tables_are_joined_and_their_directories_too():
    directory = Tree().root
    directory.populate_lazily(Files(joined([table("a", nfit=["x"]), table("b", nfit=["y"], power=[])]), None))
    assert [node.name for node in directory] == ["a", "nfit", "b", "power"]
    assert [node.name for node in directory.find("nfit")] == ["x", "y"]


def test_a_file_can_be_removed_before_it_is_made(device):
    device.remove("power")
    assert "power" not in device
    assert device.subdirectories == 1
    with pytest.raises(KernelError) as refusal:
        device.remove("power")
    assert refusal.value.errno == errno.ENOENT


def test_a_directory_leaves_with_files_that_nobody_looked_at(device):
    tree, witness = device.tree, Witness()
    tree.subscribe(witness)
    tree.root.remove("device")
    assert witness.notifications == [("removed", "/device")]
    assert list(device) == []
    assert "size" not in device
    assert device.get("size") is None


def test_listeners_hear_that_files_are_made_but_not_that_they_came(device):
    witness = Witness()
    device.tree.subscribe(witness)
    device.find("mode")
    device.find("size")
    assert witness.notifications == [
        ("instantiated", f"/device/{name}") for name in ("size", "mode", "power", "firmware")
    ]


def test_a_listener_can_look_at_the_directory_whose_files_it_hears_of(device):
    class Curious(Witness):
        def instantiated(self, directory, node):
            super().instantiated(directory, node)
            assert directory.find(node.name) is node

    curious = Curious()
    device.tree.subscribe(curious)
    assert len(device.children) == len(curious.notifications) == 4


def test_an_inode_number_is_given_out_once_and_only_to_who_asks(device):
    tree = device.tree
    first = tree.next_ino()
    numbers = [node.ino for node in (device, *device, *device.find("power"))]
    assert numbers == list(range(first + 1, first + 7))
    assert [node.ino for node in (device, *device)] == numbers[:5]
    kept = device.find("size")
    tree.root.remove("device")
    assert kept.ino in numbers
    again = tree.root.directory("device").add(Attribute("size", 0o444, Plain(), None))
    assert again.ino not in numbers


@pytest.fixture
def links():
    """A directory with two links that were never looked up, and their target."""
    root = Tree().root
    target, directory = root.add(Directory("target")), root.add(Directory("links"))
    for name in ("first", "second"):
        directory.link(name, target)
    return directory, target


def test_a_link_is_made_when_it_is_looked_up_and_no_other_is(links):
    directory, target = links
    assert "first" in directory
    assert list(directory.instantiated) == []
    link = directory.find("second")
    assert isinstance(link, Symlink)
    assert (link.text, link.target, link.path) == ("../target", target, "/links/second")
    assert list(directory.instantiated) == [link]
    assert directory.find("second") is link
    assert [node.name for node in directory] == ["first", "second"]
    assert directory.find("second") is link


def test_a_link_can_be_removed_before_anybody_has_seen_it(links):
    directory, target = links
    directory.remove("first")
    directory.link("first", target)
    assert [node.name for node in directory] == ["second", "first"]
    directory.tree.root.remove("links")
    assert list(directory) == []


def test_a_link_is_made_at_once_for_those_who_listen(links):
    directory, target = links
    witness = Witness()
    directory.tree.subscribe(witness)
    directory.link("third", target)
    assert directory.find("first").text == "../target"
    assert witness.notifications == [("added", "/links/third"), ("instantiated", "/links/first")]


def test_links_that_many_subjects_have_lead_each_to_its_own_target():
    root = Tree().root
    for name in ("one", "two"):
        root.add(Directory(name)).populate_lazily(Files(FileTable({"self": LinkKind(root.find)}), name))
    assert [root.find(f"{name}/self").text for name in ("one", "two")] == ["../one", "../two"]


def test_a_directory_is_made_when_it_is_looked_up_and_links_to_it_lead_there():
    root = Tree().root
    targets = [root.add_lazily(name, lambda name=name: Directory(name, 0o700)) for name in ("one", "two")]
    root.link("link", targets[1])
    assert (root.subdirectories, "one" in root, sorted(root.pending)) == (2, True, ["one", "two"])
    assert root.find("link").text == "two"
    assert list(root.instantiated) == [root.find("link")]
    two = root.find("two")
    assert (two.path, two.mode & 0o777, root.find("link").target) == ("/two", 0o700, two)
    assert [node.name for node in root] == ["one", "two", "link"]
    assert root.find("two") is two
    root.remove("one")
    assert root.subdirectories == 1


def test_a_directory_is_made_at_once_for_those_who_listen():
    root, witness = Tree().root, Witness()
    root.tree.subscribe(witness)
    root.add_lazily("one", lambda: Directory("one"))
    assert witness.notifications == [("added", "/one")]
    with pytest.raises(KernelError) as refusal:
        root.add_lazily("one", lambda: Directory("one"))
    assert refusal.value.errno == errno.EEXIST


NAMES = "abcdef"
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(NAMES), st.booleans()),
        st.tuples(st.just("fill"), st.lists(st.sampled_from(NAMES), unique=True, max_size=3), st.booleans()),
        st.tuples(st.sampled_from(["remove", "look", "link", "later"]), st.sampled_from(NAMES), st.none()),
        st.tuples(st.just("list"), st.none(), st.none()),
    ),
    max_size=12,
)


@given(STEPS)
def test_nobody_can_tell_files_that_are_not_made_from_those_that_are(steps):
    """The same steps, once with described files and once with all files instantiated at once."""
    lazy, eager = Tree().root, Tree().root
    for verb, what, as_directory in steps:
        answers = [take_step(root, verb, what, as_directory, now) for root, now in ((lazy, False), (eager, True))]
        assert answers[0] == answers[1]
        assert lazy.subdirectories == eager.subdirectories == count_directories(eager)
        assert lazy.is_empty == eager.is_empty
        assert [name in lazy for name in NAMES] == [name in eager for name in NAMES]
    assert [(node.name, node.mode) for node in lazy] == [(node.name, node.mode) for node in eager]


def count_directories(root):
    return sum(isinstance(node, Directory) for node in root)


def take_step(root, verb, what, as_directory, now):
    """What a step answers: names, or an errno."""
    try:
        if verb == "add":
            root.add(Directory(what) if as_directory else Attribute(what, 0o644, Plain(), None))
        elif verb == "link":
            root.add(Symlink(what, root)) if now else root.link(what, root)
        elif verb == "later":
            root.add(Directory(what)) if now else root.add_lazily(what, lambda: Directory(what))
        elif verb == "fill":
            fill(root, table(**{name: [] for name in what}) if as_directory else table(*what), now)
        elif verb == "remove":
            root.remove(what)
        elif verb == "look":
            return root.find(what).mode
        else:
            return [node.name for node in itertools.islice(root, len(NAMES))]
    except KernelError as refusal:
        return refusal.errno
    return None


def fill(root, files, now):
    contents = Files(files, None)
    if not now:
        root.populate_lazily(contents)
        return
    if any(name in root for name in contents.names):
        raise KernelError(errno.EEXIST, "taken")
    for node in contents.instantiate():
        root.add(node)


# Families


@pytest.fixture
def blocks():
    """A directory of half a million directories, between two files."""
    directory = Tree().root.add(Directory("memory"))
    directory.add(Attribute("before", 0o444, Plain(), None))
    names = NumberedNames("memory", (range(2), range(32, 524_288)))
    directory.add_family(NumberedNodes(names, lambda number: Directory(f"memory{number}"), are_directories=True))
    directory.add(Attribute("after", 0o444, Plain(), None))
    return directory


def test_a_node_of_a_family_is_made_alone(blocks):
    witness = Witness()
    blocks.tree.subscribe(witness)
    block = blocks.find("memory524287")
    assert (block.path, block.tree) == ("/memory/memory524287", blocks.tree)
    assert blocks.find("memory524287") is block
    assert [node.name for node in blocks.instantiated] == ["before", "after", "memory524287"]
    assert witness.notifications == [("instantiated", "/memory/memory524287")]
    assert blocks.subdirectories == 524_288 - 30


@pytest.mark.parametrize(
    "name",
    [
        "memory",
        "memory2",
        "memory31",
        "memory524288",
        "memory01",
        "memory1 ",
        "memory-1",
        "memory\u0661",
        "mem1",
        "memory" + 5000 * "1",
    ],
)
def test_other_names_are_not_in_a_family(blocks, name):
    assert name not in blocks
    assert blocks.get(name) is None


def test_each_name_of_a_family_has_a_position():
    names = NumberedNames("memory", (range(2), range(32, 40), range(40, 41)))
    assert [names.at(position) for position in range(len(names))] == list(names)
    assert [names.position(name) for name in names] == list(range(11))
    with pytest.raises(IndexError):
        names.at(11)
    with pytest.raises(ValueError, match="memory31 is none of these names"):
        names.position("memory31")


def test_the_names_of_a_family_are_taken(blocks):
    for take in (blocks.add, lambda node: blocks.link(node.name, node)):
        with pytest.raises(KernelError) as refusal:
            take(Directory("memory40"))
        assert refusal.value.errno == errno.EEXIST
    assert blocks.add(Directory("memory5")).parent is blocks
    other = Tree().root
    other.add(Directory("memory0"))
    with pytest.raises(KernelError) as refusal:
        other.add_family(NumberedNodes(NumberedNames("memory", (range(1),)), Directory, are_directories=True))
    assert refusal.value.errno == errno.EEXIST


def test_a_listing_has_a_family_at_its_place():
    directory = Tree().root
    made = []

    def create(number):
        made.append(number)
        return Directory(f"d{number}")

    directory.add(Directory("first"))
    directory.add_family(NumberedNodes(NumberedNames("d", (range(4),)), create, are_directories=True))
    directory.add(Directory("last"))
    known = directory.find("d2")
    directory.remove("d1")
    directory.remove("d3")
    directory.add(Directory("d3"))
    assert directory.get("d1") is None
    assert [node.name for node in directory] == ["first", "d0", "d2", "last", "d3"]
    assert directory.find("d2") is known
    assert made == [2, 1, 3, 0]
    assert directory.subdirectories == 5
    directory.remove("d0")
    assert "d0" not in directory


def test_a_directory_leaves_with_a_family_that_nobody_looked_at(blocks):
    blocks.tree.root.remove("memory")
    assert "memory0" not in blocks
    assert list(blocks) == []
