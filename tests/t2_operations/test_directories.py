"""FUSE requests, sent directly: listing directories."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import pyfuse3
import pytest
from asking import CONTEXT, ROOT

from nvdimmfs.formats.name_hash import by_hash
from nvdimmfs.fuse.inode import CACHE_TIMEOUT


class Page:
    """The kernel's buffer of a listing, with room for `room` names."""

    def __init__(self, room):
        self.room = room
        self.names = []
        self.next = 0

    def reply(self, token, name, attributes, next_id):
        if len(self.names) == self.room:
            return False
        assert attributes.st_ino
        self.names.append(name.decode())
        self.next = next_id
        return True


@pytest.fixture
def listing(ask, monkeypatch):
    """List a directory in pages of `room` names; `between` is called after each page."""

    def listed(path, room, between=lambda: None):
        handle = ask("opendir", ask.inode(path), CONTEXT)
        names, start = [], 0
        while True:
            page = Page(room)
            monkeypatch.setattr(pyfuse3, "readdir_reply", page.reply)
            ask("readdir", handle, start, pyfuse3.ReaddirToken())
            if not page.names:
                break
            names += page.names
            start = page.next
            between()
        ask("releasedir", handle)
        return names

    return listed


@pytest.mark.parametrize("room", [1, 2, 3, 7, 1000])
def test_a_listing_has_every_name_once_however_it_is_paged(ask, listing, room):
    names = listing("sys/many", room)
    assert names == [".", "..", *by_hash(f"attribute-with-a-long-name-{number:04}" for number in range(300))]


def test_changes_neither_skip_nor_repeat_a_name(ask, listing):
    for number in range(10):
        ask.write("sys/hotplug", f"add d{number}".encode())
    changes = iter([b"remove d0", b"add new", b"remove d9", b"replace d5", b"add other"])
    names = listing("sys/devices", 3, lambda: ask.write("sys/hotplug", next(changes, b"nothing")))
    assert len(names) == len(set(names))
    assert set(names) >= {"zero", *(f"d{number}" for number in range(1, 9) if number != 5)}
    assert "d9" not in names


def test_a_listing_started_again_shows_the_current_names(ask, monkeypatch):
    handle = ask("opendir", ask.inode("sys/devices"), CONTEXT)
    for added in ("one", "two"):
        ask.write("sys/hotplug", f"add {added}".encode())
        page = Page(100)
        monkeypatch.setattr(pyfuse3, "readdir_reply", page.reply)
        ask("readdir", handle, 0, pyfuse3.ReaddirToken())
        assert added in page.names


def test_a_removed_directory_lists_nothing_but_dots(ask, monkeypatch):
    handle = ask("opendir", ask.inode("sys/devices/zero"), CONTEXT)
    ask.write("sys/hotplug", b"remove zero")
    page = Page(100)
    monkeypatch.setattr(pyfuse3, "readdir_reply", page.reply)
    ask("readdir", handle, 0, pyfuse3.ReaddirToken())
    assert page.names == [".", ".."]


def test_listed_nodes_count_as_looked_up_but_dots_do_not(ask, listing):
    listing("sys/devices", 100)
    inodes = ask.operations.inodes
    assert inodes.of(ask.tree.root.find("sys/devices/zero")).lookups == 1
    assert inodes.of(ask.tree.root.find("sys/devices")).lookups == 1


@pytest.mark.parametrize(("user", "seconds"), [(os.getuid(), CACHE_TIMEOUT), (os.getuid() + 1, 0)])
def test_only_what_the_owner_of_the_mount_lists_is_cached(ask, monkeypatch, user, seconds):
    """Another user may take the listing as late as they like; the kernel caches each name only then."""
    timeouts = set()

    def reply(token, name, attributes, next_id):
        timeouts.update((attributes.entry_timeout, attributes.attr_timeout))
        return True

    monkeypatch.setattr(pyfuse3, "readdir_reply", reply)
    handle = ask("opendir", ask.inode("sys/many"), SimpleNamespace(uid=user, pid=1))
    ask("readdir", handle, 0, pyfuse3.ReaddirToken())
    assert timeouts == {seconds}


def test_a_file_cannot_be_listed(ask):
    assert ask.errno("opendir", ask.inode("sys/plain/value"), CONTEXT) == errno.ENOTDIR


def test_fsync_of_a_directory_is_einval(ask):
    assert ask.errno("fsyncdir", ask("opendir", ROOT, CONTEXT), False) == errno.EINVAL
