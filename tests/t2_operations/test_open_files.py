"""FUSE requests, sent directly: opening, reading and writing attributes and devices."""

from __future__ import annotations

import errno
import logging
import os

import pytest
import toy
import trio
import trio.testing
from asking import CONTEXT, NOTIFIED, READY, ROOT

from nvdimmfs.errors import KernelError

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
        ("constant", os.O_ACCMODE, 0),
        ("write-only", os.O_ACCMODE, 0),
        ("value", os.O_RDONLY | os.O_DIRECT, errno.EINVAL),
        ("write-only", os.O_RDONLY | os.O_DIRECT, errno.EACCES),
    ],
)
def test_opening_checks_the_mode_even_for_root(ask, path, flags, refusal):
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


def test_opening_a_removed_attribute_or_device(ask):
    attribute, device = ask.inode("sys/devices/zero/value"), ask.inode("dev/zero")
    ask.write("sys/hotplug", b"remove zero")
    assert ask.errno("open", attribute, os.O_RDONLY, CONTEXT) == errno.ENODEV
    assert ask.errno("open", device, os.O_RDONLY, CONTEXT) == errno.ENXIO


# Reading and writing attributes


def test_reads_behave_as_those_of_seq_file(ask):
    """A real 6.1 kernel returned these results for the same reads and writes, in the same order, of pfnX.Y/mode."""
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


def test_open_files_are_independent_of_each_other(ask):
    one, two = ask.open("sys/plain/counter"), ask.open("sys/plain/counter")
    assert ask("read", one, 0, 1) == b"1"
    assert ask("read", two, 0, 1) == b"2"
    assert ask("read", one, 1, 10) == b"\n"
    assert ask("read", one, 0, 10) == b"3\n"


def test_after_a_removal_only_text_already_shown_can_be_read(ask):
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


def test_a_write_returns_a_page_at_most(ask):
    assert ask.write("sys/plain/long", b"x" * 4096 + b"!") == 4096
    assert ask.write("sys/plain/long", b"x" * 4096) == 4096


def test_the_log_has_the_reason_of_a_refused_write(ask, caplog):
    handle = ask.open("sys/plain/refusal", os.O_RDWR)
    with caplog.at_level(logging.INFO):
        assert ask.errno("write", handle, 0, b"16") == errno.EBUSY
        assert ask.errno("read", handle, 0, 4096) == errno.EBUSY
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "a write to /sys/plain/refusal is refused: EBUSY: as asked for")
    ]


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EINVAL, errno.ENXIO, 511])
def test_a_refusal_returns_the_errno(ask, number):
    handle = ask.open("sys/plain/refusal", os.O_RDWR)
    assert ask.errno("write", handle, 0, str(number).encode()) == number
    assert ask.errno("read", handle, 0, 100) == errno.EBUSY


def test_a_bug_is_logged_once_and_returns_eio(ask, caplog, log_watch):
    log_watch.expect("a bug in nvdimmfs: read fails with EIO")
    handle = ask.open("sys/plain/bug", os.O_RDWR)
    assert ask.errno("read", handle, 0, 100) == errno.EIO
    assert [type(bug) for bug in ask.operations.bugs] == [ZeroDivisionError]
    (record,) = caplog.records
    assert "a bug on purpose" in caplog.text
    assert "Traceback" in caplog.text
    assert record.levelname == "ERROR"
    assert ask.read("sys/plain/value") == b"hello\n"
    ask.operations.bugs.clear()


def test_an_error_of_the_host_is_not_reported_as_a_bug(ask, log_watch, monkeypatch):
    def refuse(bug, subject, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    log_watch.expect("write fails with ENOSPC: error of the host: No space left on device")
    monkeypatch.setattr(toy.Bug, "store", refuse)
    handle = ask.open("sys/plain/bug", os.O_RDWR)
    assert ask.errno("write", handle, 0, b"x") == errno.ENOSPC


@pytest.mark.parametrize("number", [-5, 0, 512, 524])
def test_an_errno_that_fuse_cannot_carry_is_a_bug(ask, log_watch, number):
    log_watch.expect("a bug in nvdimmfs: write fails with EIO")
    handle = ask.open("sys/plain/refusal", os.O_RDWR)
    assert ask.errno("write", handle, 0, str(number).encode()) == errno.EIO
    assert len(ask.operations.bugs) == 1
    ask.operations.bugs.clear()


def test_fsync_of_an_attribute_does_nothing(ask):
    handle = ask.open("sys/plain/value")
    before = ask("read", handle, 0, 4096)
    assert ask("fsync", handle, False) is None
    assert ask("read", handle, 0, 4096) == before


def test_flush_is_refused_with_enosys(ask):
    assert ask.errno("flush", ask.open("sys/plain/value")) == errno.ENOSYS


# The bytes of devices


def test_a_device_returns_the_bytes_written(ask):
    assert ask.write("dev/zero", b"bytes", 1000) == 5
    assert ask.read("dev/zero", 998, 9) == b"\0\0bytes\0\0"


def test_reads_and_writes_stop_at_the_end_of_a_device(ask):
    size = toy.DISK_SIZE
    assert ask.read("dev/zero", size, 10) == b""
    assert ask.read("dev/zero", size + 5, 10) == b""
    assert ask.read("dev/zero", size - 4, 10) == bytes(4)
    assert ask.write("dev/zero", b"x" * 8192, size - 4096) == 4096
    handle = ask.open("dev/zero", os.O_WRONLY)
    for offset in (size, size + 5000):
        assert ask.errno("write", handle, offset, b"x") == errno.ENOSPC


@pytest.mark.parametrize(("offset", "length"), [(1, 512), (0, 511), (256, 512), (512, 100)])
def test_with_o_direct_a_device_accepts_only_whole_blocks(ask, offset, length):
    handle = ask.open("dev/zero", os.O_RDWR | os.O_DIRECT)
    assert ask.errno("read", handle, offset, length) == errno.EINVAL
    assert ask.errno("write", handle, offset, bytes(length)) == errno.EINVAL
    assert len(ask("read", handle, 512, 1024)) == 1024
    assert ask("write", handle, 512, bytes(1024)) == 1024
    # An access that starts beyond the end is not checked for alignment.
    assert ask("read", handle, toy.DISK_SIZE + 1, 511) == b""
    assert ask.errno("write", handle, toy.DISK_SIZE + 1, b"x") == errno.ENOSPC


@pytest.mark.parametrize(("offset", "length"), [(0, 512), (toy.DISK_SIZE, 512), (toy.DISK_SIZE + 1, 1), (1, 511)])
@pytest.mark.parametrize("flags", [os.O_RDWR, os.O_RDWR | os.O_DIRECT])
def test_a_read_only_device_refuses_a_write_before_any_other_check(ask, monkeypatch, flags, offset, length):
    def refuse(_offset: int, _data: bytes) -> None:
        raise KernelError(errno.EPERM, "read-only")

    monkeypatch.setattr(ask.tree.root.find("dev/zero").data, "write", refuse)
    assert ask.errno("write", ask.open("dev/zero", flags), offset, bytes(length)) == errno.EPERM


def test_a_bad_sector_and_a_full_host_keep_their_errno(ask):
    handle = ask.open("dev/zero", os.O_RDWR)
    assert ask.errno("read", handle, 4096, 512) == errno.EIO
    assert ask.errno("write", handle, 8192, b"x") == errno.EDQUOT


def test_fsync_flushes_a_device(ask):
    ask("fsync", ask.open("dev/zero"), False)
    assert ask.tree.root.find("dev/zero").data.flushes == 1


def test_a_removed_device_is_empty(ask):
    handle = ask.open("dev/zero", os.O_RDWR)
    inode = ask.inode("dev/zero")
    ask.write("sys/hotplug", b"remove zero")
    assert ask("read", handle, 0, 100) == b""
    assert ask.errno("write", handle, 0, b"x") == errno.ENOSPC
    assert ask.errno("fsync", handle, False) == errno.EIO
    assert ask("getattr", inode, CONTEXT).st_size == 0


def test_a_device_never_blocks(ask):
    assert ask("poll", ask.inode("dev/zero"), ask.open("dev/zero"), None, CONTEXT) == READY


def test_a_request_that_waits_for_nothing_lets_no_other_task_run(ask):
    """If it did, the next request would be waited for in trio, which takes longer than the whole request."""
    handle = ask.open("sys/plain/value", os.O_RDWR)

    async def story():
        for handler, *arguments in (("read", 0, 100), ("write", 0, b"1"), ("release",)):
            with pytest.raises(StopIteration):
                getattr(ask.operations, handler)(handle, *arguments).send(None)

    trio.run(story)


def test_one_store_after_the_other(ask):
    """One that begins while another one waits for a sandbox waits for its end."""
    order = []

    async def store(name, wait):
        async def carry_out():
            order.append(f"{name} begins")
            await wait()
            order.append(f"{name} ends")

        await ask.operations._leaving.one_store(carry_out)

    async def story():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store, "first", trio.testing.wait_all_tasks_blocked)
            await trio.lowlevel.checkpoint()
            nursery.start_soon(store, "second", trio.lowlevel.checkpoint)

    trio.run(story)
    assert order == ["first begins", "first ends", "second begins", "second ends"]
