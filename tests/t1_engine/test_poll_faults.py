"""Fault rules for poll(2): a notification that there was none of, one that is lost, and one that is late."""

from __future__ import annotations

import os

import pytest

from nvdimmfs.kernfs.open_attribute import ALWAYS_READY, NOTIFIED
from nvdimmfs.kernfs.open_file import open_node
from nvdimmfs.testing import Engine

FLAGS = "sys/bus/nd/devices/nmem0/nfit/flags"
WAKES = ALWAYS_READY | NOTIFIED


class Program:
    """Polls and reads the flags of a DIMM."""

    def __init__(self, engine, command="monitor", uid=0):
        self.command, self.uid = command, uid
        self.node = engine._node(FLAGS)
        self.file = open_node(self.node, os.O_RDONLY, self)
        self.file.read(0, 4096)

    def is_woken(self):
        """Whether poll(2) reports a notification; it does so until the file is read."""
        events = self.file.ready()
        assert events == self.file.ready()
        return {ALWAYS_READY: False, WAKES: True}[events]

    def read(self):
        self.file.read(0, 4096)


@pytest.fixture
def engine():
    with Engine("qemu-nfit", clock="manual") as engine:
        yield engine


@pytest.fixture
def program(engine):
    return Program(engine)


def test_without_a_rule_each_notification_is_reported(program):
    assert not program.is_woken()
    for _ in range(2):
        program.node.notify()
        assert program.is_woken()
        program.read()
        assert not program.is_woken()


def test_a_notification_that_there_was_none_of_stays_until_the_file_is_read(engine, program):
    with engine.fail(FLAGS, "poll", notified=True, times=2) as fault:
        for hits in (1, 2):
            assert program.is_woken()
            assert fault.hits == hits
            program.read()
        assert not program.is_woken()
    assert engine.read("sys/kernel/debug/nvdimmfs/faults") == ""


def test_a_real_notification_does_not_count_as_none(engine, program):
    fault = engine.fail(FLAGS, "poll", notified=True)
    program.node.notify()
    assert program.is_woken()
    assert fault.hits == 0


def test_a_rule_without_times_wakes_again_and_again_and_not_once_it_is_removed(engine, program):
    fault = engine.fail(FLAGS, "poll", notified=True)
    for _ in range(5):
        assert program.is_woken()
        program.read()
    fault.remove()
    assert not program.is_woken()
    assert fault.hits == 5


def test_a_reported_notification_stays_when_the_rule_is_removed(engine, program):
    with engine.fail(FLAGS, "poll", notified=True):
        assert program.is_woken()
    assert program.is_woken()


def test_a_lost_notification_is_never_reported(engine, program):
    with engine.fail(FLAGS, "poll", lost=True, times=1) as fault:
        program.node.notify()
        assert not program.is_woken()
        assert not program.is_woken()
        assert fault.hits == 1
    assert not program.is_woken()
    program.node.notify()
    assert program.is_woken()


def test_each_open_file_loses_a_notification_of_its_own(engine, program):
    other = Program(engine, "other")
    fault = engine.fail(FLAGS, "poll", lost=True, comm="monitor")
    program.node.notify()
    assert not program.is_woken()
    assert other.is_woken()
    assert fault.hits == 1


def test_a_poll_without_a_notification_does_not_count_for_one_that_is_lost(engine, program):
    fault = engine.fail(FLAGS, "poll", lost=True, after=1)
    for _ in range(5):
        assert not program.is_woken()
    program.node.notify()
    assert program.is_woken()
    program.read()
    program.node.notify()
    assert not program.is_woken()
    assert fault.hits == 1


def test_a_late_notification_comes_on_the_clock_of_the_machine(engine, program):
    fault = engine.fail(FLAGS, "poll", delay=2.5)
    program.node.notify()
    assert not program.is_woken()
    assert [(event.what, event.due - engine.clock.now) for event in engine.clock.pending] == [
        ("a late notification", 2.5)
    ]
    engine.clock.advance(2.4)
    assert not program.is_woken()
    engine.clock.advance(0.1)
    assert program.is_woken()
    program.read()
    assert not program.is_woken()
    assert fault.hits == 1


def test_delays_add_up_and_a_rule_that_loses_it_wins(engine, program):
    engine.fail(FLAGS, "poll", delay=1)
    engine.fail("sys/bus/nd/devices/*/nfit/flags", "poll", delay=1)
    program.node.notify()
    assert not program.is_woken()
    engine.clock.advance(1.5)
    assert not program.is_woken()
    engine.clock.advance(0.5)
    assert program.is_woken()
    program.read()
    engine.fail(FLAGS, "poll", lost=True)
    program.node.notify()
    assert not program.is_woken()
    engine.clock.advance(10)
    assert not program.is_woken()


def test_reading_the_file_is_the_end_of_a_late_notification(engine, program):
    engine.fail(FLAGS, "poll", delay=1, times=1)
    program.node.notify()
    assert not program.is_woken()
    program.read()
    engine.clock.advance(2)
    assert not program.is_woken()
    program.node.notify()
    assert program.is_woken()


def test_more_notifications_do_not_delay_a_late_one(engine, program):
    engine.fail(FLAGS, "poll", delay=1)
    program.node.notify()
    assert not program.is_woken()
    engine.clock.advance(0.9)
    program.node.notify()
    assert not program.is_woken()
    engine.clock.advance(0.1)
    assert program.is_woken()


def test_a_late_notification_wakes_those_who_wait(engine, program):
    woken = []

    class Listener:
        def notified(self, node):
            woken.append(node)

    engine.fail(FLAGS, "poll", delay=1)
    program.node.notify()
    assert not program.is_woken()
    engine._machine.tree.subscribe(Listener())
    engine.clock.advance(1)
    assert woken == [program.node]


def test_a_reset_forgets_that_a_notification_is_late(engine, program):
    fault = engine.fail(FLAGS, "poll", delay=1)
    with engine.checkpoint():
        program.node.notify()
        assert not program.is_woken()
        assert fault.hits == 1
    assert not engine.clock.pending
    program.node.notify()
    assert not program.is_woken()
    engine.clock.advance(1)
    assert program.is_woken()


def test_an_attribute_that_has_gone_is_reported_whatever_rules_there_are(engine, program):
    engine.fail("sys/bus/nd/devices/nmem0/nfit/flags", "poll", lost=True)
    engine.write("/sys/bus/acpi/drivers/nfit/unbind", "ACPI0012:00")
    assert program.is_woken()


@pytest.mark.parametrize(
    ("path", "details", "message"),
    [
        ("sys/x", {"errno": "EIO"}, "errno: poll does not fail in this way; write one of notified, lost, delay"),
        ("dev/pmem0", {"lost": True}, 'path: "dev/pmem0" is not in sys'),
        ("proc/iomem", {"notified": True}, "is not in sys"),
        ("sys/kernel/debug/nvdimmfs/trace", {"lost": True}, "do not fail"),
        ("sys/x", {"lost": True, "notified": True}, "not lost and notified"),
    ],
)
def test_a_mistake_is_one_line(engine, path, details, message):
    with pytest.raises(ValueError, match=message):
        engine.fail(path, "poll", **details)


def test_other_requests_have_no_notification(engine):
    with pytest.raises(ValueError, match="lost: read does not fail in this way"):
        engine.fail("sys/x", "read", lost=True)
