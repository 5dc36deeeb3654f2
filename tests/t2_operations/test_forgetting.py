"""FUSE requests, sent directly: invalidation of the kernel's caches, and how long inodes are kept."""

from __future__ import annotations

import errno
import os
import threading

import toy
import trio
from asking import CONTEXT, ROOT, Asker, RecordingInvalidator, set_attributes
from watchdog import WATCHDOG

from nvdimmfs.kernfs import Attribute, Directory, Tree

# Invalidation


def test_reads_and_writes_of_an_attribute_invalidate_nothing(ask):
    ask.read("sys/plain/value")
    ask.write("sys/plain/value", b"x")
    assert ask.invalidator.calls == []


def test_a_write_far_beyond_the_end_invalidates_the_size(ask):
    ask.write("sys/plain/value", b"x", offset=4096)
    assert ask.invalidator.calls == []
    ask.write("sys/plain/value", b"x", offset=1 << 40)
    assert ask.invalidator.calls == [("attributes", ask.inode("sys/plain/value"))]


def test_nodes_that_the_kernel_never_looked_up_are_not_invalidated(ask):
    ask.write("sys/hotplug", b"replace zero")
    assert [what for what, *_ in ask.invalidator.calls] == []


def test_populating_a_directory_lazily_invalidates_nothing(ask):
    device = ask.inode("sys/devices/zero")
    assert ask.stat("sys/devices/zero").st_nlink == 3
    ask.read("sys/devices/zero/power/control")
    assert ask.invalidator.calls == []
    assert ask("getattr", device, CONTEXT).st_nlink == 3


def test_populated_files_that_were_never_looked_up_are_not_invalidated(ask):
    devices, device = ask.inode("sys/devices"), ask.inode("sys/devices/zero")
    assert ask.errno("lookup", device, b"nothing", CONTEXT) == errno.ENOENT
    ask.inode("sys/devices/zero/value")
    ask.write("sys/hotplug", b"remove zero")
    names = [call[1:] for call in ask.invalidator.calls if call[0] == "name"]
    assert names == [(devices, b"zero"), (device, b"value")]


def test_a_removal_invalidates_name_by_name_from_the_top(ask):
    devices, device = ask.inode("sys/devices"), ask.inode("sys/devices/zero")
    ask.inode("sys/devices/zero/value")
    ask.inode("sys/links/zero")
    links = ask.inode("sys/links")
    disk = ask.inode("dev/zero")
    dev = ask.inode("dev")
    ask.write("sys/hotplug", b"remove zero")
    assert ask.invalidator.calls == [
        ("name", dev, b"zero"),
        ("pages", disk),
        ("name", links, b"zero"),
        ("name", devices, b"zero"),
        ("attributes", device),
        ("name", device, b"value"),
        ("attributes", devices),
    ]


def test_a_new_directory_changes_the_link_count_of_its_parent(ask):
    devices = ask.inode("sys/devices")
    assert ask.stat("sys/devices").st_nlink == 3
    ask.write("sys/hotplug", b"add one")
    assert ask.invalidator.calls == [("attributes", devices)]
    assert ask.stat("sys/devices").st_nlink == 4


def test_a_refused_write_invalidates_what_it_removed_all_the_same(ask):
    ask.inode("sys/devices/zero")
    handle = ask.open("sys/hotplug", os.O_WRONLY)
    assert ask.errno("write", handle, 0, b"fail zero") == errno.ENXIO
    assert ("name", ask.inode("sys/devices"), b"zero") in ask.invalidator.calls


def test_an_entry_that_is_not_cached_any_more_is_no_failure():
    class NothingCached(RecordingInvalidator):
        def invalidate_name(self, directory, name):
            raise FileNotFoundError(errno.ENOENT, "not cached")

    ask = Asker(invalidator=NothingCached())
    ask.inode("sys/devices/zero")
    assert ask.write("sys/hotplug", b"remove zero") == 11


def test_a_failed_invalidation_is_logged_and_the_write_succeeds(log_watch):
    class Failing(RecordingInvalidator):
        def invalidate_name(self, directory, name):
            raise OSError(errno.ENOSYS, "not implemented")

    log_watch.expect("the kernel's cache may be stale")
    ask = Asker(invalidator=Failing())
    ask.inode("sys/devices/zero")
    assert ask.write("sys/hotplug", b"remove zero") == 11


def test_requests_are_answered_during_an_invalidation():
    """The kernel may hold a directory's lock for a lookup, and need its reply before it invalidates a name there."""

    class Locked(RecordingInvalidator):
        def __init__(self):
            super().__init__()
            self.asked, self.unlocked = threading.Event(), threading.Event()

        def invalidate_name(self, directory, name):
            self.asked.set()
            assert self.unlocked.wait(WATCHDOG), "the lookup was not answered"
            super().invalidate_name(directory, name)

    invalidator = Locked()
    ask = Asker(invalidator=invalidator)
    device = ask.inode("sys/devices/zero")
    handle = ask.open("sys/hotplug", os.O_WRONLY)

    async def look_up_meanwhile():
        await trio.to_thread.run_sync(invalidator.asked.wait)
        await ask.operations.lookup(ROOT, b"sys", CONTEXT)
        assert not invalidator.calls
        invalidator.unlocked.set()

    async def both():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look_up_meanwhile)
            await ask.operations.write(handle, 0, b"remove zero")
            assert invalidator.calls, "the write was answered before the invalidation"

    trio.run(both)
    assert ("attributes", device) in invalidator.calls


def test_a_mount_that_ends_makes_no_more_invalidations(ask):
    ask.inode("sys/devices/zero")
    trio.run(ask.operations.kernel_cache.stop)
    ask.write("sys/hotplug", b"remove zero")
    assert ask.invalidator.calls == []


# Lifetime of inodes


def test_a_removed_node_stays_usable_while_the_kernel_refers_to_it(ask):
    inode = ask.inode("sys/devices/zero/value")
    ask.write("sys/hotplug", b"remove zero")
    assert ask("getattr", inode, CONTEXT).st_ino == inode
    ask("forget", [(inode, 1)])
    assert ask.errno("getattr", inode, CONTEXT) == errno.ESTALE


def test_a_node_in_the_tree_survives_being_forgotten(ask):
    set_attributes(ask, "sys/plain/value", uid=77)
    ask("forget", [(ask.inode("sys/plain/value"), 2)])
    assert ask.stat("sys/plain/value").st_uid == 77


def test_forgetting_more_lookups_than_there_were_does_no_harm(ask):
    ask("forget", [(ask.inode("sys"), 99), (10**9, 1)])
    assert ask.stat("sys").st_nlink == 6


def test_hotplug_leaks_no_inodes(ask):
    for path in ("sys/devices", "sys/links", "dev"):
        ask.inode(path)
    ask.inode("sys/hotplug")
    before = len(ask.operations.inodes)
    for _ in range(20):
        ask.write("sys/hotplug", b"add one")
        looked_up = [ask.inode(path) for path in ("sys/devices/one/value", "sys/devices/one/power", "dev/one")]
        known = ask.inode("sys/devices/one")
        ask.write("sys/hotplug", b"remove one")
        ask("forget", [(inode, 1) for inode in looked_up] + [(known, 3)])
    assert len(ask.operations.inodes) == before


def test_a_tree_other_than_the_toy():
    tree = Tree()
    tree.root.add(Directory("empty")).add(Attribute("x", 0o444, toy.Value("1"), None))
    assert Asker(tree).read("empty/x") == b"1\n"
