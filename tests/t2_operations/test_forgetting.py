"""The FUSE requests, called directly: what the kernel is made to forget, and what is kept for it."""

from __future__ import annotations

import errno
import os
import threading

import toy
import trio
from asking import CONTEXT, ROOT, Asker, RecordingKernel, set_attributes

from nvdimmfs.kernfs import Attribute, Directory, Tree

# What the kernel is made to forget


def test_a_read_makes_the_kernel_forget_nothing(ask):
    ask.read("sys/plain/value")
    ask.write("sys/plain/value", b"x")
    assert ask.kernel.forgotten == []


def test_a_write_far_behind_the_end_makes_the_kernel_forget_the_size(ask):
    ask.write("sys/plain/value", b"x", offset=4096)
    assert ask.kernel.forgotten == []
    ask.write("sys/plain/value", b"x", offset=1 << 40)
    assert ask.kernel.forgotten == [("attributes", ask.inode("sys/plain/value"))]


def test_what_the_kernel_never_saw_need_not_be_forgotten(ask):
    ask.write("sys/hotplug", b"replace zero")
    assert [what for what, *_ in ask.kernel.forgotten] == []


def test_making_files_that_were_there_makes_the_kernel_forget_nothing(ask):
    device = ask.inode("sys/devices/zero")
    assert ask.stat("sys/devices/zero").st_nlink == 3
    ask.read("sys/devices/zero/power/control")
    assert ask.kernel.forgotten == []
    assert ask("getattr", device, CONTEXT).st_nlink == 3


def test_files_that_were_made_but_never_seen_need_not_be_forgotten(ask):
    devices, device = ask.inode("sys/devices"), ask.inode("sys/devices/zero")
    assert ask.errno("lookup", device, b"nothing", CONTEXT) == errno.ENOENT
    ask.inode("sys/devices/zero/value")
    ask.write("sys/hotplug", b"remove zero")
    names = [call[1:] for call in ask.kernel.forgotten if call[0] == "name"]
    assert names == [(devices, b"zero"), (device, b"value")]


def test_a_removal_is_forgotten_name_by_name_from_the_top(ask):
    devices, device = ask.inode("sys/devices"), ask.inode("sys/devices/zero")
    ask.inode("sys/devices/zero/value")
    ask.inode("sys/links/zero")
    links = ask.inode("sys/links")
    disk = ask.inode("dev/zero")
    dev = ask.inode("dev")
    ask.write("sys/hotplug", b"remove zero")
    assert ask.kernel.forgotten == [
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
    assert ask.kernel.forgotten == [("attributes", devices)]
    assert ask.stat("sys/devices").st_nlink == 4


def test_a_refused_write_is_forgotten_as_well(ask):
    ask.inode("sys/devices/zero")
    handle = ask.open("sys/hotplug", os.O_WRONLY)
    assert ask.errno("write", handle, 0, b"fail zero") == errno.ENXIO
    assert ("name", ask.inode("sys/devices"), b"zero") in ask.kernel.forgotten


def test_what_the_kernel_has_forgotten_already_is_no_failure():
    class Forgetful(RecordingKernel):
        def forget_name(self, directory, name):
            raise FileNotFoundError(errno.ENOENT, "never heard of it")

    ask = Asker(kernel=Forgetful())
    ask.inode("sys/devices/zero")
    assert ask.write("sys/hotplug", b"remove zero") == 11


def test_a_kernel_that_will_not_forget_is_reported_and_the_write_succeeds(log_watch):
    class Stubborn(RecordingKernel):
        def forget_name(self, directory, name):
            raise OSError(errno.ENOSYS, "never")

    log_watch.expect("the kernel did not forget")
    ask = Asker(kernel=Stubborn())
    ask.inode("sys/devices/zero")
    assert ask.write("sys/hotplug", b"remove zero") == 11


def test_requests_are_answered_while_the_kernel_forgets():
    """The kernel may hold a directory's lock for a lookup, and want its answer before it forgets a name there."""

    class Locked(RecordingKernel):
        def __init__(self):
            super().__init__()
            self.asked, self.unlocked = threading.Event(), threading.Event()

        def forget_name(self, directory, name):
            self.asked.set()
            assert self.unlocked.wait(10), "nobody answered the lookup"
            super().forget_name(directory, name)

    kernel = Locked()
    ask = Asker(kernel=kernel)
    device = ask.inode("sys/devices/zero")
    handle = ask.open("sys/hotplug", os.O_WRONLY)

    async def look_up_meanwhile():
        await trio.to_thread.run_sync(kernel.asked.wait)
        await ask.operations.lookup(ROOT, b"sys", CONTEXT)
        assert not kernel.forgotten
        kernel.unlocked.set()

    async def both():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look_up_meanwhile)
            await ask.operations.write(handle, 0, b"remove zero")
            assert kernel.forgotten, "the write was answered before the kernel forgot"

    trio.run(both)
    assert ("attributes", device) in kernel.forgotten


def test_a_mount_that_ends_leaves_the_kernel_alone(ask):
    ask.inode("sys/devices/zero")
    trio.run(ask.operations.kernel_cache.stop)
    ask.write("sys/hotplug", b"remove zero")
    assert ask.kernel.forgotten == []


# What is kept


def test_a_removed_node_answers_as_long_as_the_kernel_holds_it(ask):
    inode = ask.inode("sys/devices/zero/value")
    ask.write("sys/hotplug", b"remove zero")
    assert ask("getattr", inode, CONTEXT).st_ino == inode
    ask("forget", [(inode, 1)])
    assert ask.errno("getattr", inode, CONTEXT) == errno.ESTALE


def test_a_living_node_survives_being_forgotten(ask):
    set_attributes(ask, "sys/plain/value", uid=77)
    ask("forget", [(ask.inode("sys/plain/value"), 2)])
    assert ask.stat("sys/plain/value").st_uid == 77


def test_forgetting_more_than_was_told_harms_nothing(ask):
    ask("forget", [(ask.inode("sys"), 99), (10**9, 1)])
    assert ask.stat("sys").st_nlink == 6


def test_hotplug_leaves_nothing_behind(ask):
    for path in ("sys/devices", "sys/links", "dev"):
        ask.inode(path)
    ask.inode("sys/hotplug")
    before = len(ask.operations.inodes)
    for _ in range(20):
        ask.write("sys/hotplug", b"add one")
        told = [ask.inode(path) for path in ("sys/devices/one/value", "sys/devices/one/power", "dev/one")]
        known = ask.inode("sys/devices/one")
        ask.write("sys/hotplug", b"remove one")
        ask("forget", [(inode, 1) for inode in told] + [(known, 3)])
    assert len(ask.operations.inodes) == before


def test_a_tree_of_its_own_root_only():
    tree = Tree()
    tree.root.add(Directory("empty")).add(Attribute("x", 0o444, toy.Value("1"), None))
    assert Asker(tree).read("empty/x") == b"1\n"
