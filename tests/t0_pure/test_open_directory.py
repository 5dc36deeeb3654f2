"""Open directories: what each lists, and what they share."""

import gc

from toy import toy_tree

from nvdimmfs.kernfs import Directory
from nvdimmfs.kernfs.open_file import Listings, OpenDirectory

MANY = 1000


def opened(directory, listings, count):
    handles = [OpenDirectory(directory, 1, listings, may_cache=True) for _ in range(count)]
    return handles, [handle.listing(0) for handle in handles]


def test_open_directories_share_a_listing_until_the_directory_changes():
    directory, listings = toy_tree().root.find("sys/many"), Listings()
    handles, first = opened(directory, listings, MANY)
    assert len(set(map(id, first))) == 1
    directory.add(Directory("new"))
    _, second = opened(directory, listings, MANY)
    assert len(set(map(id, second))) == 1
    assert [node.name for node in second[0]] == [*(node.name for node in first[0]), "new"]
    assert handles[0].listing(5) is first[0], "a listing goes on with the nodes that it began with"


def test_nothing_of_a_listing_is_kept_after_the_last_close():
    directory, listings = toy_tree().root.find("sys/many"), Listings()
    handles, lists = opened(directory, listings, 3)
    assert len(listings._last) == 1
    del handles, lists
    gc.collect()
    assert not listings._last
