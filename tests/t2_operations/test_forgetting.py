"""FUSE requests, sent directly: invalidation of the kernel's caches, and how long inodes are kept."""

from __future__ import annotations

import errno
import math
import os
import threading

import pyfuse3
import pytest
import toy
import trio
import trio.testing
from asking import CONTEXT, ROOT, Asker, RecordingInvalidator, attributes, fields, set_attributes
from watchdog import WATCHDOG

from nvdimmfs.kernfs import Attribute, Channel, Directory, Tree, TreeCheckpoint
from nvdimmfs.snapshot import Snapshot

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
    link = ask.inode("sys/links/zero")
    links = ask.inode("sys/links")
    disk = ask.inode("dev/zero")
    dev = ask.inode("dev")
    ask.write("sys/hotplug", b"remove zero")
    assert ask.invalidator.calls == [
        ("name", dev, b"zero"),
        ("name", links, b"zero"),
        ("name", devices, b"zero"),
        ("name", device, b"value"),
        ("attributes", device),
        ("attributes", devices),
        ("pages", disk),
        ("pages", link),
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


class Locked(RecordingInvalidator):
    """Drops a name only when the lock of its directory is free."""

    def __init__(self):
        super().__init__()
        self.asked, self.unlocked = threading.Event(), threading.Event()

    def invalidate_name(self, directory, name):
        self.asked.set()
        assert self.unlocked.wait(WATCHDOG), "nothing has unlocked it"
        super().invalidate_name(directory, name)


def test_requests_are_answered_during_an_invalidation():
    """The kernel may hold a directory's lock for a lookup, and need its reply before it invalidates a name there."""
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


class Listener:
    """A session that has a message."""

    has_unacknowledged = False
    has_message = True

    def read(self):
        return b"a change"


@pytest.mark.parametrize("cause", ["store", "time"])
def test_a_channel_tells_of_no_change_before_names_are_dropped(cause):
    """A sandbox that learns of a new disk would reach, by its name, the one before."""
    invalidator = Locked()
    ask = Asker(invalidator=invalidator)
    ask.inode("sys/devices/zero")
    ask.tree.root.add(Channel("channel", 0o600, lambda _: Listener()))
    hotplug, channel = ask.open("sys/hotplug", os.O_WRONLY), ask.open("channel", os.O_RDWR)
    cache = ask.operations.kernel_cache
    ends = []

    async def change():
        if cause == "store":
            await ask.operations.write(hotplug, 0, b"remove zero")
        else:
            ask.tree.root.find("sys/devices").remove("zero")
            cache.postpone()
            await cache.invalidate_postponed()
        ends.append("change")

    async def read():
        assert await ask.operations.read(channel, 0, 100) == b"a change"
        assert invalidator.calls, "the channel was read before the name was dropped"
        ends.append("read")

    async def both():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(change)
            await trio.to_thread.run_sync(invalidator.asked.wait)
            nursery.start_soon(read)
            try:
                await trio.testing.wait_all_tasks_blocked()
                assert not ends
            finally:
                invalidator.unlocked.set()

    trio.run(both)
    assert sorted(ends) == ["change", "read"]


def test_a_name_is_left_while_a_directory_is_open_and_leads_nowhere(ask):
    """The kernel may hold the lock of any directory then."""
    device, link, disk = ask.inode("sys/devices/zero"), ask.inode("sys/links/zero"), ask.inode("dev/zero")
    listing = ask("opendir", ask.inode("sys/plain"), CONTEXT)
    ask.write("sys/hotplug", b"remove zero")
    assert {call[0] for call in ask.invalidator.calls} == {"attributes", "pages"}
    assert {inode for _, inode in ask.invalidator.calls} >= {device, link, disk}
    for refusal, then in ((errno.ENOENT, b"add zero"), (errno.ESTALE, b"remove zero")):
        for request in ("getattr", "readlink", "opendir", "listxattr"):
            assert ask.errno(request, link, CONTEXT) == refusal
        assert ask.errno("open", disk, os.O_RDONLY, CONTEXT) == refusal
        assert ask.errno("setattr", device, attributes(mode=0), fields(mode=0), None, CONTEXT) == refusal
        ask.write("sys/hotplug", then)  # a device with the same names
    assert ask.errno("lookup", ask.inode("sys/devices"), b"zero", CONTEXT) == errno.ENOENT
    ask.invalidator.calls.clear()
    ask("releasedir", listing)
    assert ask.operations.kernel_cache.has_postponed
    trio.run(ask.operations.kernel_cache.invalidate_postponed)
    assert not ask.operations.kernel_cache.has_postponed
    assert ("name", ask.inode("sys/devices"), b"zero") in ask.invalidator.calls


def test_a_node_stays_unreachable_until_all_who_followed_its_name_have_asked_for_it(ask):
    """A process follows the name, the name is dropped, and only then does the process ask for the node."""
    operations, disk, hotplug = ask.operations, ask.inode("dev/zero"), ask.open("sys/hotplug", os.O_WRONLY)

    async def remove_while_a_directory_is_open():
        listing = await operations.opendir(ROOT, CONTEXT)
        await operations.write(hotplug, 0, b"remove zero")
        await operations.releasedir(listing)
        await operations.kernel_cache.invalidate_postponed()
        assert ("name", ask.operations.inodes.of(ask.tree.root.find("dev")).node.ino, b"zero") in ask.invalidator.calls
        with pytest.raises(pyfuse3.FUSEError):
            await operations.getattr(disk, CONTEXT)
        await trio.sleep(operations.kernel_cache.seconds_until_revisit)
        await operations.kernel_cache.revisit()
        assert operations.kernel_cache.seconds_until_revisit == math.inf
        assert (await operations.getattr(disk, CONTEXT)).st_ino == disk

    trio.run(remove_while_a_directory_is_open, clock=trio.testing.MockClock(autojump_threshold=0.05))


def test_a_thread_finds_the_attributes_of_what_it_has_open_although_its_name_was_left(ask):
    handle = ask.open("dev/zero")
    disk = ask.inode("dev/zero")
    ask("opendir", ask.inode("dev"), CONTEXT)
    ask.write("sys/hotplug", b"remove zero")
    found = ask("getattr", disk, CONTEXT)
    assert (found.st_ino, found.attr_timeout) == (disk, 0)
    ask("release", handle)
    assert ask.errno("getattr", disk, CONTEXT) == errno.ENOENT


def test_a_name_that_was_left_is_not_kept_in_mind_once_the_kernel_has_forgotten_the_node(ask):
    disk = ask.inode("dev/zero")
    ask("opendir", ask.inode("dev"), CONTEXT)
    ask.write("sys/hotplug", b"remove zero")
    ask("forget", [(disk, 1)])
    assert disk not in ask.operations.inodes.stale_names
    assert ask.errno("getattr", disk, CONTEXT) == errno.ESTALE


def test_attributes_that_the_kernel_is_about_to_store_are_dropped_afterwards():
    class Late(RecordingInvalidator):
        def invalidate_attributes(self, inode):
            super().invalidate_attributes(inode)
            if self.calls.count(("attributes", inode)) < 3:
                raise FileNotFoundError(errno.ENOENT, "not there yet")

    ask = Asker(invalidator=Late())
    disk = ask.inode("dev/zero")
    ask("opendir", ask.inode("dev"), CONTEXT)
    ask.write("sys/hotplug", b"remove zero")
    assert ask.invalidator.calls.count(("attributes", disk)) == 3


def test_attributes_that_a_listing_has_yet_to_store_are_awaited_without_a_request():
    class Never(RecordingInvalidator):
        is_there = False

        def invalidate_attributes(self, inode):
            super().invalidate_attributes(inode)
            if not self.is_there:
                raise FileNotFoundError(errno.ENOENT, "not there yet")

    ask = Asker(invalidator=Never())
    disk = ask.inode("dev/zero")
    ask("opendir", ask.inode("dev"), CONTEXT)
    ask.write("sys/hotplug", b"remove zero")
    cache = ask.operations.kernel_cache
    assert cache.seconds_until_revisit < math.inf
    ask.invalidator.calls.clear()
    trio.run(cache.revisit)
    assert ask.invalidator.calls == [("attributes", disk)]
    ask.invalidator.is_there = True
    trio.run(cache.revisit)
    assert cache.seconds_until_revisit == math.inf


def test_the_timekeeper_awaits_them_although_it_slept(autojump_clock):
    class Late(RecordingInvalidator):
        def invalidate_attributes(self, inode):
            super().invalidate_attributes(inode)
            if self.calls.count(("attributes", inode)) < 12:
                raise FileNotFoundError(errno.ENOENT, "not there yet")

    ask = Asker(invalidator=Late())
    disk, directory = ask.inode("dev/zero"), ask.inode("dev")
    cache, handle = ask.operations.kernel_cache, ask.open("sys/hotplug", os.O_WRONLY)

    async def story():
        await ask.operations.opendir(directory, CONTEXT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask.operations.timekeeper.keep)
            await trio.sleep(60)
            await ask.operations.write(handle, 0, b"remove zero")
            assert cache.seconds_until_revisit < math.inf
            with trio.fail_after(1_000_000):  # of a clock that jumps while the thread makes its calls
                while cache.seconds_until_revisit < math.inf:  # noqa: ASYNC110  # nobody is told when it has come
                    await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert ask.invalidator.calls.count(("attributes", disk)) == 12

    trio.run(story, clock=autojump_clock)


def test_a_node_that_a_reset_put_back_is_reached_although_its_removal_was_postponed(ask):
    disk = ask.inode("dev/zero")
    state = TreeCheckpoint(ask.tree)
    snapshot = Snapshot(ask.tree)
    ask("opendir", ask.inode("dev"), CONTEXT)
    ask.tree.root.find("dev").remove("zero")
    cache = ask.operations.kernel_cache
    cache.postpone()
    state.reset(snapshot.restore)
    trio.run(cache.invalidate_postponed)
    assert ask.inode("dev/zero") == disk
    assert ask("getattr", disk, CONTEXT).st_ino == disk


def test_a_directory_opens_only_after_names_were_dropped():
    invalidator = Locked()
    ask = Asker(invalidator=invalidator)
    dev = ask.inode("dev")
    ask.inode("dev/zero")
    handle = ask.open("sys/hotplug", os.O_WRONLY)

    async def open_directory():
        await ask.operations.opendir(dev, CONTEXT)
        assert invalidator.calls

    async def both():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask.operations.write, handle, 0, b"remove zero")
            await trio.to_thread.run_sync(invalidator.asked.wait)
            nursery.start_soon(open_directory)
            await trio.testing.wait_all_tasks_blocked()
            invalidator.unlocked.set()

    trio.run(both)


def test_an_open_that_is_refused_leaves_no_directory_open(ask):
    assert ask.errno("opendir", ask.inode("sys/plain/value"), CONTEXT) == errno.ENOTDIR
    ask.inode("dev/zero")
    ask.write("sys/hotplug", b"remove zero")
    assert ("name", ask.inode("dev"), b"zero") in ask.invalidator.calls


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
