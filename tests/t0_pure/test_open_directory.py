"""Open directories: the order of what they list, and where a listing goes on."""

from __future__ import annotations

import itertools

import pytest
from toy import toy_tree

from nvdimmfs.formats.name_hash import INT_MAX, by_hash, name_hash, number_hashes
from nvdimmfs.kernfs import Directory, NumberedNames, NumberedNodes, Order, Tree, TreeCheckpoint
from nvdimmfs.kernfs.listing import listing_of
from nvdimmfs.kernfs.open_file import OpenDirectory
from nvdimmfs.snapshot import Snapshot

#: Two names with one hash.
TWINS = ("nmem21632206", "nmem744007191")


def opened(directory: Directory) -> OpenDirectory:
    return OpenDirectory(directory, 1, may_cache=True)


def names(directory: Directory, start: int = 0) -> list[str]:
    return [name for name, _, _ in opened(directory).entries(start) if name not in (".", "..")]


def folder(*children: str, order: Order | None = None) -> Directory:
    """A directory of a tree, with these directories."""
    directory = Tree().root.add(Directory("folder"))
    directory.order = order
    for name in children:
        directory.add(Directory(name))
    return directory


@pytest.mark.parametrize(
    ("name", "offset"),
    [("namespace0.0", 17380623), ("region1", 1997933610), ("btt2.0", 365350521), ("ndbus0", 1366722233)],
)
def test_the_hash_of_a_name_is_the_kernels(name, offset):
    """Offsets that Linux 6.1 returned (tests/recordings/listings)."""
    assert name_hash(name) == offset


def test_names_with_numbers_have_the_hashes_of_names():
    numbers = [*range(12), 99, 100, 7, 123456]
    assert list(number_hashes("memory", numbers)) == [name_hash(f"memory{number}") for number in numbers]


@pytest.mark.parametrize(
    ("order", "listed"),
    [
        (Order.HASH, ["region10", "pfn0.0", "region0", "region1"]),
        (Order.NEWEST, ["region1", "pfn0.0", "region10", "region0"]),
        (Order.LENGTH, ["pfn0.0", "region0", "region1", "region10"]),
    ],
)
def test_the_file_system_decides_the_order_of_all_its_directories(order, listed):
    top = folder(order=order)
    below = top.add(Directory("below"))
    for name in ("region0", "region10", "pfn0.0", "region1"):
        below.add(Directory(name))
    assert names(below) == listed


def test_each_entry_has_the_offset_behind_it():
    hashed, counted = folder("region0", "region1"), folder("region0", "region1", order=Order.NEWEST)
    assert [(name, offset) for name, _, offset in opened(hashed).entries(0)] == [
        (".", 1),
        ("..", name_hash("region0")),
        ("region0", name_hash("region1")),
        ("region1", INT_MAX),
    ]
    assert [offset for _, _, offset in opened(counted).entries(0)] == [1, 2, 3, 4]
    assert [offset for _, _, offset in opened(folder()).entries(0)] == [1, INT_MAX]


@pytest.mark.parametrize("order", Order)
def test_a_listing_can_begin_at_every_offset_that_it_has_returned(order):
    directory = folder("region0", "nmem3", "region1", "ndbus0", order=order)
    every = [(name, offset) for name, _, offset in opened(directory).entries(0)]
    for (_, offset), index in zip(every, itertools.count(1)):
        assert [(name, behind) for name, _, behind in opened(directory).entries(offset)] == every[index:]
    assert list(opened(directory).entries(INT_MAX)) == []


def test_a_kernfs_listing_goes_on_in_the_directory_as_it_is_now():
    """By hash: region10, pfn0.0, region0, region1."""
    directory = folder("pfn0.0", "region0")
    handle = opened(directory)
    assert [name for name, _, _ in itertools.islice(handle.entries(0), 3)] == [".", "..", "pfn0.0"]
    for name in ("region10", "region1"):
        directory.add(Directory(name))
    directory.remove("region0")
    assert [name for name, _, _ in handle.entries(name_hash("region0"))] == ["region1"]


def test_a_counted_listing_goes_on_with_the_names_that_it_began_with():
    directory = folder("one", "two", "three", order=Order.NEWEST)
    handle = opened(directory)
    assert [name for name, _, _ in itertools.islice(handle.entries(0), 3)] == [".", "..", "three"]
    directory.add(Directory("four"))
    directory.remove("two")
    assert [name for name, _, _ in handle.entries(3)] == ["one"]
    assert names(directory) == ["four", "three", "one"]


@pytest.mark.parametrize("is_family", [False, True])
def test_names_with_one_hash_are_listed_once_each_however_the_listing_is_cut(is_family):
    first, second = TWINS
    assert name_hash(first) == name_hash(second)
    directory = folder("uevent") if is_family else folder("uevent", second, first)
    if is_family:
        numbers = tuple(range(number, number + 1) for number in (21632206, 744007191))
        family = NumberedNames("nmem", numbers)
        directory.add_family(NumberedNodes(family, lambda number: Directory(f"nmem{number}"), are_directories=True))
    handle, offset, listed = opened(directory), 0, []
    while page := list(itertools.islice(handle.entries(offset), 2)):
        listed.append(page[0][0])  # there was no room for the second
        offset = page[0][2]
    assert listed == [".", "..", *by_hash([first, second, "uevent"])]


@pytest.mark.parametrize("gone", [(), (3, 40)])
@pytest.mark.parametrize("others", [(), ("probe", "uevent", "memory9999")])
def test_a_family_stands_among_other_names_as_if_it_had_been_added_one_by_one(gone, others):
    family = NumberedNames("memory", (range(8), range(32, 200)))
    directory = folder(*others)
    directory.add_family(NumberedNodes(family, lambda number: Directory(f"memory{number}"), are_directories=True))
    for number in gone:
        directory.remove(f"memory{number}")
    listed = names(directory)
    assert listed == by_hash([*others, *(name for name in family if name not in {f"memory{each}" for each in gone})])
    assert listed == list(directory.listing.names[:])
    assert listed == by_hash(directory.children)


def test_a_listing_is_made_once_until_a_name_comes_or_goes():
    directory = toy_tree().root.find("sys/many")
    first = directory.listing
    directory.get("attribute-with-a-long-name-0001").mode ^= 0o200
    assert directory.listing is first
    directory.add(Directory("new"))
    assert "new" in directory.listing.names
    directory.remove("new")
    assert "new" not in directory.listing.names


def test_a_reset_takes_the_listing_back():
    tree = Tree()
    directory = tree.root.add(Directory("folder"))
    directory.add(Directory("one"))
    assert names(directory) == ["one"]
    checkpoint, state = TreeCheckpoint(tree), Snapshot(tree)
    directory.add(Directory("two"))
    assert names(directory) == by_hash(["one", "two"])
    checkpoint.reset(state.restore)
    assert names(directory) == ["one"]
    directory.remove("one")
    assert names(directory) == []


def test_a_removed_directory_lists_nothing_but_dots():
    directory = folder("one")
    handle = opened(directory)
    directory.tree.root.remove("folder")
    assert [(name, node) for name, node, _ in handle.entries(0)] == [(".", directory), ("..", directory)]


def test_offsets_between_names_lead_to_the_name_behind():
    listing = listing_of(Order.HASH, ("region0", "region1"))
    assert [listing.index(offset, "") for offset in (2, listing.offsets[0], listing.offsets[0] + 1, INT_MAX)] == [
        0,
        0,
        1,
        2,
    ]
