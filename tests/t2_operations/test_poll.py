"""FUSE requests, sent directly: poll(2)."""

from __future__ import annotations

import errno

import pytest
from asking import CONTEXT, NOTIFIED, READY


class Handle:
    """A poll handle that counts its notifications."""

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
def test_a_first_read_at_any_offset_clears_the_events(ask, offset):
    handle = ask.open("sys/plain/event")
    ask("read", handle, offset, 100)
    assert poll(ask, handle) == READY


def test_a_notification_is_reported_until_a_read_at_offset_zero(ask):
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


def test_a_released_file_is_not_woken(ask):
    handle, woken = ask.open("sys/plain/event"), Handle()
    poll(ask, handle, woken)
    ask("release", handle)
    ask.write("sys/plain/notify", b"1")
    assert woken.notified == 0


def test_a_mount_that_ends_does_not_fail_the_write_that_notifies(ask):
    handle = ask.open("sys/plain/event")
    poll(ask, handle, Handle(OSError(errno.ENODEV, "unmounted")))
    assert ask.write("sys/plain/notify", b"1") == 1
