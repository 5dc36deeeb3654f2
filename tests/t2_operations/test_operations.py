"""The FUSE requests, called directly.  Where an errno stands for itself, a real 6.1 kernel gave it to root."""

from __future__ import annotations

import errno
import os
import select
import stat
import threading
from types import SimpleNamespace

import pyfuse3
import pytest
import toy
import trio

from nvdimmfs.fuse import identity
from nvdimmfs.fuse.inode import CACHE_TIMEOUT
from nvdimmfs.fuse.operations import Operations
from nvdimmfs.kernfs import Attribute, Directory, Tree

ROOT = pyfuse3.ROOT_INODE
CONTEXT = pyfuse3.RequestContext()
READY = select.POLLIN | select.POLLOUT | select.POLLRDNORM | select.POLLWRNORM
NOTIFIED = READY | select.POLLERR | select.POLLPRI


class RecordingKernel:
    """Remembers what it was told to forget."""

    def __init__(self):
        self.forgotten = []

    def forget_name(self, directory, name):
        self.forgotten.append(("name", directory, name))

    def forget_attributes(self, inode):
        self.forgotten.append(("attributes", inode))

    def forget_pages(self, inode):
        self.forgotten.append(("pages", inode))


class Asker:
    """Asks `Operations` what the kernel would ask, and keeps a path's inodes looked up as the kernel does."""

    def __init__(self, tree=None, kernel=None, **options):
        self.tree = tree or toy.toy_tree()
        self.kernel = kernel or RecordingKernel()
        self.operations = Operations(self.tree, kernel=self.kernel, strict=True, **options)

    def __call__(self, handler, *arguments):
        return trio.run(getattr(self.operations, handler), *arguments)

    def errno(self, handler, *arguments):
        """The errno of a request that is refused."""
        with pytest.raises(pyfuse3.FUSEError) as refusal:
            self(handler, *arguments)
        return refusal.value.errno

    def inode(self, path):
        """Look a path up, component by component."""
        inode = ROOT
        for name in filter(None, path.split("/")):
            inode = self("lookup", inode, name.encode(), CONTEXT).st_ino
        return inode

    def stat(self, path):
        return self("getattr", self.inode(path), CONTEXT)

    def open(self, path, flags=os.O_RDONLY):
        return self("open", self.inode(path), flags, CONTEXT).fh

    def read(self, path, offset=0, size=65536):
        handle = self.open(path)
        try:
            return self("read", handle, offset, size)
        finally:
            self("release", handle)

    def write(self, path, data, offset=0):
        handle = self.open(path, os.O_WRONLY)
        try:
            return self("write", handle, offset, data)
        finally:
            self("release", handle)


@pytest.fixture
def ask():
    asker = Asker()
    yield asker
    assert asker.operations.bugs == []


def fields(**updates):
    """The flags of a setattr request."""
    names = ("atime", "mtime", "ctime", "mode", "uid", "gid", "size")
    return SimpleNamespace(**{f"update_{name}": name in updates for name in names})


def attributes(**values):
    entry = pyfuse3.EntryAttributes()
    for name, value in values.items():
        setattr(entry, f"st_{name}_ns" if name.endswith("time") else f"st_{name}", value)
    return entry


def set_attributes(ask, path, **values):
    return ask("setattr", ask.inode(path), attributes(**values), fields(**values), None, CONTEXT)


# Names


def test_a_lookup_of_nothing_is_enoent(ask):
    assert ask.errno("lookup", ROOT, b"nothing", CONTEXT) == errno.ENOENT


def test_a_lookup_below_a_file_is_enotdir(ask):
    assert ask.errno("lookup", ask.inode("sys/plain/value"), b"x", CONTEXT) == errno.ENOTDIR


def test_an_inode_that_the_kernel_was_never_told_of_is_estale(ask):
    assert ask.errno("getattr", 10**9, CONTEXT) == errno.ESTALE


@pytest.mark.parametrize("name", [b"\xff\xfe", "ü".encode(), b"a" * 256])
def test_a_name_of_any_bytes_is_looked_up(ask, name):
    assert ask.errno("lookup", ROOT, name, CONTEXT) == errno.ENOENT


def test_a_link_is_read_as_it_was_made(ask):
    assert ask("readlink", ask.inode("sys/links/zero"), CONTEXT) == b"../devices/zero"


def test_a_file_is_no_link(ask):
    assert ask.errno("readlink", ask.inode("sys/plain/value"), CONTEXT) == errno.EINVAL


def test_names_and_attributes_are_cached_for_long(ask):
    entry = ask("lookup", ROOT, b"sys", CONTEXT)
    assert (entry.entry_timeout, entry.attr_timeout) == (CACHE_TIMEOUT, CACHE_TIMEOUT)


def test_without_cache_nothing_is_cached():
    entry = Asker(cache=False)("lookup", ROOT, b"sys", CONTEXT)
    assert (entry.entry_timeout, entry.attr_timeout) == (0, 0)


# Attributes


@pytest.mark.parametrize(
    ("path", "mode", "nlink", "size", "blocks"),
    [
        ("", "drwxr-xr-x", 4, 0, 0),
        ("sys", "dr-xr-xr-x", 6, 0, 0),
        ("sys/devices", "drwxr-xr-x", 3, 0, 0),
        ("sys/plain", "drwxr-xr-x", 2, 0, 0),
        ("sys/plain/value", "-rw-r--r--", 1, 4096, 0),
        ("sys/plain/constant", "-r--r--r--", 1, 4096, 0),
        ("sys/plain/write-only", "--w-------", 1, 4096, 0),
        ("sys/links/zero", "lrwxrwxrwx", 1, 0, 0),
        ("dev/zero", "-rw-------", 1, toy.DISK_SIZE, toy.DISK_SIZE // 512),
    ],
)
def test_stat_shows_what_sysfs_shows(ask, path, mode, nlink, size, blocks):
    entry = ask.stat(path)
    assert stat.filemode(entry.st_mode) == mode
    assert (entry.st_nlink, entry.st_size, entry.st_blocks, entry.st_blksize) == (nlink, size, blocks, 4096)
    assert (entry.st_uid, entry.st_gid) == (os.getuid(), os.getgid())


def test_inode_numbers_are_the_nodes_own(ask):
    assert ask.stat("").st_ino == ROOT
    assert ask.stat("sys/plain/value").st_ino == ask.tree.root.find("sys/plain/value").ino


def test_times_are_those_of_the_first_lookup_and_stay(ask):
    first = ask.stat("sys/plain/value")
    times = (first.st_atime_ns, first.st_mtime_ns, first.st_ctime_ns)
    ask.write("sys/plain/value", b"x")
    ask.read("sys/plain/value")
    again = ask.stat("sys/plain/value")
    assert times[0] > 10**18
    assert (again.st_atime_ns, again.st_mtime_ns, again.st_ctime_ns) == times


def test_o_trunc_is_noted_in_mtime_alone(ask):
    before = ask.stat("sys/plain/value").st_mtime_ns
    ask.open("sys/plain/value", os.O_WRONLY | os.O_TRUNC)
    after = ask.stat("sys/plain/value")
    assert after.st_mtime_ns > before
    assert after.st_size == 4096
    assert ask.read("sys/plain/value") == b"hello\n"


def test_a_write_to_a_device_moves_its_mtime(ask):
    before = ask.stat("dev/zero").st_mtime_ns
    ask.write("dev/zero", b"x")
    assert ask.stat("dev/zero").st_mtime_ns > before


@pytest.mark.parametrize("path", ["sys/plain/value", "sys/plain"])
def test_chmod_sticks(ask, path):
    kind = stat.S_IFMT(ask.stat(path).st_mode)
    assert set_attributes(ask, path, mode=kind | 0o4700).st_mode == kind | 0o4700
    assert ask.stat(path).st_mode == kind | 0o4700


def test_chown_and_utimes_stick(ask):
    set_attributes(ask, "sys/plain/value", uid=5, gid=6)
    set_attributes(ask, "sys/plain/value", atime=7, mtime=8)
    entry = ask.stat("sys/plain/value")
    assert (entry.st_uid, entry.st_gid, entry.st_atime_ns, entry.st_mtime_ns) == (5, 6, 7, 8)
    assert entry.st_ctime_ns > 10**18


@pytest.mark.parametrize(("path", "size"), [("sys/plain/value", 4096), ("dev/zero", toy.DISK_SIZE)])
def test_truncation_is_taken_and_ignored(ask, path, size):
    assert set_attributes(ask, path, size=0).st_size == size
    assert set_attributes(ask, path, size=1 << 40).st_size == size


def test_chmod_lets_root_open_what_it_forbade(ask):
    set_attributes(ask, "sys/plain/constant", mode=0o644)
    assert ask.write("sys/plain/constant", b"changed") == 7


def test_statfs_says_what_sysfs_says(ask):
    answer = ask("statfs", CONTEXT)
    assert (answer.f_bsize, answer.f_frsize, answer.f_namemax, answer.f_blocks, answer.f_files) == (
        4096,
        4096,
        255,
        0,
        0,
    )


# Opening


@pytest.mark.parametrize(
    ("path", "flags", "refusal"),
    [
        ("value", os.O_RDONLY, 0),
        ("value", os.O_WRONLY, 0),
        ("value", os.O_RDWR | os.O_APPEND | os.O_TRUNC, 0),
        ("constant", os.O_RDONLY, 0),
        ("constant", os.O_RDONLY | os.O_TRUNC, 0),
        ("constant", os.O_WRONLY, errno.EACCES),
        ("constant", os.O_RDWR, errno.EACCES),
        ("write-only", os.O_RDONLY, errno.EACCES),
        ("write-only", os.O_WRONLY, 0),
        ("write-only", os.O_RDWR, errno.EACCES),
        ("value", os.O_RDONLY | os.O_DIRECT, errno.EINVAL),
        ("write-only", os.O_RDONLY | os.O_DIRECT, errno.EACCES),
    ],
)
def test_opening_asks_the_mode_even_for_root(ask, path, flags, refusal):
    arguments = ("open", ask.inode(f"sys/plain/{path}"), flags, CONTEXT)
    if refusal:
        assert ask.errno(*arguments) == refusal
    else:
        assert ask(*arguments).direct_io


def test_attributes_bypass_the_page_cache_and_devices_use_it(ask):
    assert ask("open", ask.inode("sys/plain/value"), os.O_RDONLY, CONTEXT).direct_io
    device = ask("open", ask.inode("dev/zero"), os.O_RDWR, CONTEXT)
    assert not device.direct_io
    assert not device.keep_cache


def test_opening_what_was_removed(ask):
    attribute, device = ask.inode("sys/devices/zero/value"), ask.inode("dev/zero")
    ask.write("sys/hotplug", b"remove zero")
    assert ask.errno("open", attribute, os.O_RDONLY, CONTEXT) == errno.ENODEV
    assert ask.errno("open", device, os.O_RDONLY, CONTEXT) == errno.ENXIO


# Reading and writing attributes


def test_reads_have_the_habits_of_seq_file(ask):
    """The same reads and writes, in the same order, of pfnX.Y/mode: what a real 6.1 kernel answered."""
    ask.write("sys/plain/value", b"none")
    handle = ask.open("sys/plain/value")
    read = lambda offset, size: ask("read", handle, offset, size)  # noqa: E731
    assert read(0, 2) == b"no"
    ask.write("sys/plain/value", b"pmem")
    assert read(2, 2) == b"ne"
    assert read(3, 2) == b"m\n"
    assert read(1, 2) == b"me"
    assert read(3, 100) == b"m\n"
    assert read(5, 100) == b""
    ask.write("sys/plain/value", b"none")
    assert read(0, 100) == b"none\n"
    ask.write("sys/plain/value", b"pmem")
    assert read(5, 100) == b""
    assert read(2, 1) == b"e"
    ask.write("sys/plain/value", b"none")
    assert read(3, 100) == b"m\n"


@pytest.mark.parametrize("offset", [0, 1, 5, 6, 7, 4096, 1 << 40])
def test_reads_at_offsets_end_with_the_text(ask, offset):
    assert ask.read("sys/plain/value", offset) == b"hello\n"[offset:]


def test_an_empty_attribute_reads_empty(ask):
    assert ask.read("sys/plain/empty") == b""


def test_open_files_do_not_disturb_each_other(ask):
    one, two = ask.open("sys/plain/counter"), ask.open("sys/plain/counter")
    assert ask("read", one, 0, 1) == b"1"
    assert ask("read", two, 0, 1) == b"2"
    assert ask("read", one, 1, 10) == b"\n"
    assert ask("read", one, 0, 10) == b"3\n"


def test_once_removed_only_a_begun_answer_can_be_read(ask):
    begun, finished, fresh = (ask.open("sys/devices/zero/name") for _ in range(3))
    writer = ask.open("sys/devices/zero/value", os.O_WRONLY)
    assert ask("read", begun, 0, 2) == b"ze"
    assert ask("read", finished, 0, 100) == b"zero\n"
    ask.write("sys/hotplug", b"remove zero")
    assert ask("read", begun, 2, 100) == b"ro\n"
    for handle, offset in ((begun, 5), (begun, 0), (finished, 5), (fresh, 0), (fresh, 2), (fresh, 10000)):
        assert ask.errno("read", handle, offset, 100) == errno.ENODEV
    assert ask.errno("write", writer, 0, b"1") == errno.ENODEV
    assert ask("poll", ROOT, begun, None, CONTEXT) == NOTIFIED


@pytest.mark.parametrize("offset", [0, 3, 4096, 1 << 40])
def test_a_write_is_one_store_whatever_its_offset(ask, offset):
    assert ask.write("sys/plain/value", b"stored\n", offset) == 7
    assert ask.read("sys/plain/value") == b"stored\n"


def test_a_write_counts_a_page_at_most(ask):
    assert ask.write("sys/plain/long", b"x" * 4096 + b"!") == 4096
    assert ask.write("sys/plain/long", b"x" * 4096) == 4096


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EINVAL, errno.ENXIO, 511])
def test_a_refusal_carries_the_errno(ask, number):
    handle = ask.open("sys/plain/refusal", os.O_RDWR)
    assert ask.errno("write", handle, 0, str(number).encode()) == number
    assert ask.errno("read", handle, 0, 100) == errno.EBUSY


def test_a_bug_is_logged_once_answered_eio_and_survived(ask, caplog, log_watch):
    log_watch.expect("a bug in nvdimmfs: read answers EIO")
    handle = ask.open("sys/plain/bug", os.O_RDWR)
    assert ask.errno("read", handle, 0, 100) == errno.EIO
    assert [type(bug) for bug in ask.operations.bugs] == [ZeroDivisionError]
    (record,) = caplog.records
    assert "a bug on purpose" in caplog.text
    assert "Traceback" in caplog.text
    assert record.levelname == "ERROR"
    assert ask.read("sys/plain/value") == b"hello\n"
    ask.operations.bugs.clear()


@pytest.mark.parametrize("number", [-5, 0, 512, 524])
def test_an_errno_that_cannot_travel_is_a_bug(ask, log_watch, number):
    log_watch.expect("a bug in nvdimmfs: write answers EIO")
    handle = ask.open("sys/plain/refusal", os.O_RDWR)
    assert ask.errno("write", handle, 0, str(number).encode()) == errno.EIO
    assert len(ask.operations.bugs) == 1
    ask.operations.bugs.clear()


def test_fsync_of_an_attribute_does_nothing(ask):
    ask("fsync", ask.open("sys/plain/value"), False)


def test_flush_is_never_needed(ask):
    assert ask.errno("flush", ask.open("sys/plain/value")) == errno.ENOSYS


# The bytes of devices


def test_a_device_reads_what_was_written(ask):
    assert ask.write("dev/zero", b"bytes", 1000) == 5
    assert ask.read("dev/zero", 998, 9) == b"\0\0bytes\0\0"


def test_a_device_ends_where_it_ends(ask):
    size = toy.DISK_SIZE
    assert ask.read("dev/zero", size, 10) == b""
    assert ask.read("dev/zero", size + 5, 10) == b""
    assert ask.read("dev/zero", size - 4, 10) == bytes(4)
    assert ask.write("dev/zero", b"x" * 8192, size - 4096) == 4096
    handle = ask.open("dev/zero", os.O_WRONLY)
    for offset in (size, size + 5000):
        assert ask.errno("write", handle, offset, b"x") == errno.ENOSPC


def test_a_bad_sector_and_a_full_host_keep_their_errno(ask):
    handle = ask.open("dev/zero", os.O_RDWR)
    assert ask.errno("read", handle, 4096, 512) == errno.EIO
    assert ask.errno("write", handle, 8192, b"x") == errno.EDQUOT


def test_fsync_flushes_a_device(ask):
    ask("fsync", ask.open("dev/zero"), False)
    assert ask.tree.root.find("dev/zero").data.flushes == 1


def test_a_vanished_device_is_empty(ask):
    handle = ask.open("dev/zero", os.O_RDWR)
    inode = ask.inode("dev/zero")
    ask.write("sys/hotplug", b"remove zero")
    assert ask("read", handle, 0, 100) == b""
    assert ask.errno("write", handle, 0, b"x") == errno.ENOSPC
    assert ask.errno("fsync", handle, False) == errno.EIO
    assert ask("getattr", inode, CONTEXT).st_size == 0


def test_a_device_never_blocks(ask):
    assert ask("poll", ask.inode("dev/zero"), ask.open("dev/zero"), None, CONTEXT) == READY


# poll(2)


class Handle:
    """A poll handle that says whether it was notified."""

    def __init__(self, failure=None):
        self.notified = 0
        self.failure = failure

    def notify(self):
        self.notified += 1
        if self.failure:
            raise self.failure


def poll(ask, handle, poll_handle=None):
    return ask("poll", ask.inode("sys/plain/event"), handle, poll_handle, CONTEXT)


def test_an_attribute_not_read_yet_counts_as_changed(ask):
    assert poll(ask, ask.open("sys/plain/event")) == NOTIFIED


@pytest.mark.parametrize("offset", [0, 2])
def test_a_read_anywhere_takes_note_of_the_events(ask, offset):
    handle = ask.open("sys/plain/event")
    ask("read", handle, offset, 100)
    assert poll(ask, handle) == READY


def test_a_notification_shows_until_it_is_read_at_zero(ask):
    handle = ask.open("sys/plain/event")
    ask("read", handle, 0, 2)
    ask.write("sys/plain/notify", b"1")
    assert poll(ask, handle) == NOTIFIED
    ask("read", handle, 2, 100)
    assert poll(ask, handle) == NOTIFIED
    ask("read", handle, 0, 100)
    assert poll(ask, handle) == READY


def test_a_notification_wakes_every_open_file_once(ask):
    first, second = ask.open("sys/plain/event"), ask.open("sys/plain/event")
    replaced, one, two = Handle(), Handle(), Handle()
    poll(ask, first, replaced)
    poll(ask, first, one)
    poll(ask, second, two)
    ask.write("sys/plain/notify", b"1")
    ask.write("sys/plain/notify", b"1")
    assert (replaced.notified, one.notified, two.notified) == (0, 1, 1)


def test_a_released_file_is_woken_no_more(ask):
    handle, woken = ask.open("sys/plain/event"), Handle()
    poll(ask, handle, woken)
    ask("release", handle)
    ask.write("sys/plain/notify", b"1")
    assert woken.notified == 0


def test_a_mount_that_ends_does_not_fail_the_write_that_notifies(ask):
    handle = ask.open("sys/plain/event")
    poll(ask, handle, Handle(OSError(errno.ENODEV, "gone")))
    assert ask.write("sys/plain/notify", b"1") == 1


# Directories


class Page:
    """The kernel's buffer of a listing, with room for so many names."""

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
    assert names == [".", "..", *(f"attribute-with-a-long-name-{number:04}" for number in range(300))]


def test_changes_neither_skip_nor_repeat_a_name(ask, listing):
    for number in range(10):
        ask.write("sys/hotplug", f"add d{number}".encode())
    changes = iter([b"remove d0", b"add new", b"remove d9", b"replace d5", b"add other"])
    names = listing("sys/devices", 3, lambda: ask.write("sys/hotplug", next(changes, b"nothing")))
    assert len(names) == len(set(names))
    assert set(names) >= {"zero", *(f"d{number}" for number in range(1, 9) if number != 5)}
    assert "d9" not in names


def test_a_listing_started_again_shows_what_is_there_now(ask, monkeypatch):
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


def test_a_file_cannot_be_listed(ask):
    assert ask.errno("opendir", ask.inode("sys/plain/value"), CONTEXT) == errno.ENOTDIR


def test_fsync_of_a_directory_is_einval(ask):
    assert ask.errno("fsyncdir", ask("opendir", ROOT, CONTEXT), False) == errno.EINVAL


# What sysfs has no room for


@pytest.mark.parametrize(
    ("request_", "refusal"),
    [
        (("create", ROOT, b"new", 0o644, os.O_WRONLY, CONTEXT), errno.EACCES),
        (("mknod", ROOT, b"new", stat.S_IFREG | 0o644, 0, CONTEXT), errno.EACCES),
        (("mknod", ROOT, b"new", stat.S_IFCHR | 0o644, os.makedev(1, 3), CONTEXT), errno.EPERM),
        (("mknod", ROOT, b"new", stat.S_IFIFO | 0o644, 0, CONTEXT), errno.EPERM),
        (("mkdir", ROOT, b"new", 0o755, CONTEXT), errno.EPERM),
        (("symlink", ROOT, b"new", b"target", CONTEXT), errno.EPERM),
        (("link", ROOT, ROOT, b"new", CONTEXT), errno.EPERM),
        (("unlink", ROOT, b"sys", CONTEXT), errno.EPERM),
        (("rmdir", ROOT, b"sys", CONTEXT), errno.EPERM),
        (("rename", ROOT, b"sys", ROOT, b"new", 0, CONTEXT), errno.EPERM),
        (("rename", ROOT, b"sys", ROOT, b"dev", pyfuse3.RENAME_EXCHANGE, CONTEXT), errno.EINVAL),
        (("rename", ROOT, b"sys", ROOT, b"new", pyfuse3.RENAME_NOREPLACE, CONTEXT), errno.EINVAL),
    ],
)
def test_nobody_makes_renames_or_removes_files(ask, request_, refusal):
    assert ask.errno(*request_) == refusal


@pytest.mark.parametrize("name", [b"trusted.x", b"security.x"])
def test_kernfs_keeps_trusted_and_security_xattrs(ask, name):
    inode = ask.inode("sys/plain/value")
    assert ask.errno("getxattr", inode, name, CONTEXT) == errno.ENODATA
    ask("setxattr", inode, name, b"v", CONTEXT)
    assert ask("getxattr", inode, name, CONTEXT) == b"v"
    assert ask("listxattr", inode, CONTEXT) == [name]
    ask("removexattr", inode, name, CONTEXT)
    assert ask.errno("removexattr", inode, name, CONTEXT) == errno.ENODATA
    assert ask("listxattr", inode, CONTEXT) == []


def test_only_root_sees_trusted_xattrs(ask):
    inode = ask.inode("sys/plain/value")
    ask("setxattr", inode, b"trusted.x", b"v", CONTEXT)
    assert ask("listxattr", inode, SimpleNamespace(uid=1000)) == []


@pytest.mark.parametrize(
    ("name", "of_get", "of_set"),
    [
        (b"user.x", errno.ENODATA, errno.ENOTSUP),
        (b"system.posix_acl_access", errno.ENOTSUP, errno.ENOTSUP),
        (b"foo", errno.ENOTSUP, errno.ENOTSUP),
    ],
)
def test_other_xattrs_are_refused(ask, name, of_get, of_set):
    inode = ask.inode("sys/plain/value")
    assert ask.errno("getxattr", inode, name, CONTEXT) == of_get
    assert ask.errno("setxattr", inode, name, b"v", CONTEXT) == of_set
    assert ask.errno("removexattr", inode, name, CONTEXT) == of_set


def test_the_root_names_its_daemon_and_nothing_else_does(ask):
    name = identity.DAEMON_XATTR.encode()
    assert ask("getxattr", ROOT, name, CONTEXT).split()[0] == str(os.getpid()).encode()
    assert ask("listxattr", ROOT, CONTEXT) == []
    assert ask.errno("getxattr", ask.inode("sys"), name, CONTEXT) == errno.ENODATA


# What the kernel is made to forget


def test_a_read_makes_the_kernel_forget_nothing(ask):
    ask.read("sys/plain/value")
    ask.write("sys/plain/value", b"x")
    assert ask.kernel.forgotten == []


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
