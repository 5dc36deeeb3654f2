"""FUSE requests, sent directly: what becomes of the data of a disk that leaves, and for whom a store waits."""

from __future__ import annotations

import errno
import os
import signal
import subprocess

import pyfuse3
import pytest
import toy
import trio
import trio.testing
from asking import Asker, RecordingInvalidator

from nvdimmfs.kernfs import BinaryFile


class Sandbox:
    """A session that has not acknowledged an event yet."""

    has_unacknowledged = True
    has_message = False

    def close(self):
        """Nothing is kept."""


def test_a_device_being_removed_accepts_writes_until_the_sandbox_acknowledges(ask):
    handle = ask.open("dev/zero", os.O_RDWR)
    data = ask.tree.root.find("dev/zero").data
    sandbox = Sandbox()
    ask.operations.sessions.opened(sandbox, 0)
    ask.tree.root.find("dev").remove("zero")
    assert ask("write", handle, 4, b"late") == 4
    assert data.read(4, 4) == b"late"
    ask("fsync", handle, False)
    assert data.flushes == 1
    assert ask.errno("write", handle, data.size, b"x") == errno.ENOSPC
    sandbox.has_unacknowledged = False
    assert ask.errno("write", handle, 4, b"x") == errno.ENOSPC


def test_a_device_being_removed_accepts_what_the_host_drops_from_the_page_cache():
    """Dropping the pages of a mapped file writes back those that were changed, before the store is answered."""

    class WritingBack(RecordingInvalidator):
        def invalidate_pages(self, inode):
            trio.from_thread.run(ask.operations.write, handle, 0, b"mapped")
            super().invalidate_pages(inode)

    ask = Asker(invalidator=WritingBack())
    handle = ask.open("dev/zero", os.O_RDWR)
    data = ask.tree.root.find("dev/zero").data
    ask.write("sys/hotplug", b"remove zero")
    assert data.read(0, 6) == b"mapped"
    assert ask.errno("write", handle, 0, b"x") == errno.ENOSPC
    assert ask.operations.bugs == []


def _run(*tasks):
    """Run tasks to their end on a clock that goes on when all of them wait."""

    async def together():
        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(task)

    trio.run(together, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_store_waits_for_a_sandbox_that_writes_back_however_long_that_lasts(ask):
    """And no other store brings anything in the place of the disk before."""
    disk = ask.open("dev/zero", os.O_RDWR)
    hotplug, other = ask.open("sys/hotplug", os.O_WRONLY), ask.open("sys/plain/value", os.O_WRONLY)
    dev = ask.tree.root.find("dev")
    data = dev.find("zero").data

    class Writing(Sandbox):
        has_written = False

        @property
        def has_unacknowledged(self):
            return "zero" not in dev and not self.has_written

    sandbox = Writing()
    ask.operations.sessions.opened(sandbox, 0)
    order = []

    async def remove():
        await ask.operations.write(hotplug, 0, b"remove zero")
        order.append("removed")

    async def store_meanwhile():
        await trio.sleep(1)
        await ask.operations.write(other, 0, b"x")
        order.append("stored")

    async def write_back():
        for piece in range(100):
            await trio.sleep(3)
            assert await ask.operations.write(disk, 16384 + piece, b"z") == 1
        order.append("written")
        sandbox.has_written = True
        ask.operations.sessions.message_received(sandbox)

    _run(remove, store_meanwhile, write_back)
    assert order == ["written", "removed", "stored"]
    assert data.read(16384, 100) == b"z" * 100


def test_a_sandbox_that_does_nothing_is_waited_for_once_and_again_when_it_does(ask, log_watch):
    log_watch.expect("not waited for until it does")
    value = ask.open("sys/plain/value", os.O_WRONLY)
    sandbox = Sandbox()
    ask.operations.sessions.opened(sandbox, 0)
    seconds = []

    async def store():
        for _ in range(3):
            started = trio.current_time()
            await ask.operations.write(value, 0, b"x")
            seconds.append(trio.current_time() - started)
        ask.operations.sessions.message_received(sandbox)  # but not the last acknowledgement
        started = trio.current_time()
        await ask.operations.write(value, 0, b"x")
        seconds.append(trio.current_time() - started)

    _run(store)
    assert [second > 0 for second in seconds] == [True, False, False, True]


def test_a_sandbox_whose_process_is_seen_to_be_stopped_is_not_waited_for_longer(ask, log_watch):
    log_watch.expect("not waited for until it does")
    value = ask.open("sys/plain/value", os.O_WRONLY)
    with subprocess.Popen(["sleep", "1000"]) as stopped:
        try:
            stopped.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, stopped.pid, os.WSTOPPED)
            ask.operations.sessions.opened(Sandbox(), stopped.pid)

            async def store():
                started = trio.current_time()
                await ask.operations.write(value, 0, b"x")
                assert trio.current_time() - started < 5

            _run(store)
        finally:
            stopped.kill()


def test_a_late_write_of_a_stalled_sandbox_is_refused_after_the_next_store(ask, log_watch):
    log_watch.expect("not waited for until it does")
    disk = ask.open("dev/zero", os.O_RDWR)
    data = ask.tree.root.find("dev/zero").data
    hotplug, value = ask.open("sys/hotplug", os.O_WRONLY), ask.open("sys/plain/value", os.O_WRONLY)
    ask.operations.sessions.opened(Sandbox(), 0)

    async def stores():
        await ask.operations.write(hotplug, 0, b"remove zero")
        assert await ask.operations.write(disk, 0, b"late") == 4
        await ask.operations.write(value, 0, b"x")
        with pytest.raises(pyfuse3.FUSEError):
            await ask.operations.write(disk, 0, b"too late")

    _run(stores)
    assert data.read(0, 8) == b"late" + bytes(4)


def test_a_disk_that_was_added_since_ends_what_a_removed_one_accepts(ask):
    disk = ask.open("dev/zero", os.O_RDWR)
    ask.operations.sessions.opened(Sandbox(), 0)
    ask.tree.root.find("dev").remove("zero")
    assert ask("write", disk, 0, b"late") == 4
    ask.tree.root.find("dev").add(BinaryFile("zero", 0o600, toy.Disk(toy.DISK_SIZE)))
    assert ask.errno("write", disk, 0, b"late") == errno.ENOSPC


def test_a_mount_that_ends_waits_for_no_sandbox(ask):
    value = ask.open("sys/plain/value", os.O_WRONLY)
    ask.operations.sessions.opened(Sandbox(), 0)

    async def store():
        await ask.operations.write(value, 0, b"x")
        assert trio.current_time() == started

    async def end():
        await ask.operations.stop()

    started = 0.0

    async def both():
        nonlocal started
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store)
            nursery.start_soon(end)

    _run(both)
