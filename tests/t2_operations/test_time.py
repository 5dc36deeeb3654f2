"""When a front end has the clock do what is due: before requests, in polls, and while no request comes."""

import math
import select

import pytest
import toy
import trio
from asking import CONTEXT, Asker

from nvdimmfs.core.clock import Clock, ClockMode
from nvdimmfs.kernels.durations import SECOND

NAME = "sys/plain"


class Host:
    """A host's clock that only the test advances."""

    def __init__(self):
        self.time = 0

    def __call__(self):
        return self.time


@pytest.fixture
def host():
    return Host()


def asker(clock):
    return Asker(toy.toy_tree(), clock=clock)


@pytest.mark.parametrize("path", ["sys/plain/value", "sys"])
def test_due_work_is_done_before_a_request(host, path):
    clock, done = Clock(ClockMode.REAL, host=host), []
    ask = asker(clock)
    inode = ask.inode(path)
    clock.start()
    clock.schedule(SECOND, lambda: done.append(clock.now))
    ask("getattr", inode, CONTEXT)
    assert done == []
    host.time = 5 * SECOND
    ask("getattr", inode, CONTEXT)
    assert done == [SECOND]


def test_a_bug_in_what_is_due_is_no_answer(host, log_watch):
    log_watch.expect("work that was due failed")
    clock = Clock(ClockMode.REAL, host=host)
    ask = asker(clock)
    inode = ask.inode("sys")
    clock.start()
    clock.schedule(0, lambda: [][1])
    ask("getattr", inode, CONTEXT)
    (bug,) = ask.operations.bugs
    assert isinstance(bug, IndexError)


def test_time_passes_from_the_first_request_on():
    clock = Clock()
    ask = asker(clock)
    assert not clock.is_started
    ask.operations.init()
    assert clock.is_started


def test_a_poll_that_would_wait_moves_the_clock_in_steps():
    clock = Clock(ClockMode.STEPS)
    tree = toy.toy_tree()
    ask = Asker(tree, clock=clock)
    node = tree.root.find("sys/plain/value")
    clock.schedule(SECOND, lambda: None)
    clock.schedule(2 * SECOND, node.notify)
    clock.schedule(3 * SECOND, lambda: None)
    inode = ask.inode("sys/plain/value")
    handle = ask("open", inode, 0, CONTEXT).fh
    ask("read", handle, 0, 100)
    now = clock.now
    assert not ask("poll", inode, handle, None, CONTEXT) & select.POLLPRI
    assert clock.now == now

    class Handle:
        def notify(self):
            """Do nothing."""

    assert ask("poll", inode, handle, Handle(), CONTEXT) & select.POLLPRI
    assert clock.now == 2 * SECOND


def test_without_anything_due_the_timekeeper_sleeps_for_ever(host):
    clock = Clock(ClockMode.REAL, host=host)
    timekeeper = asker(clock).operations.timekeeper
    clock.start()
    assert timekeeper._seconds_to_sleep() == math.inf
    clock.schedule(2 * SECOND, lambda: None)
    assert timekeeper._seconds_to_sleep() == 2.0


def test_the_timekeeper_wakes_when_something_is_due():
    clock, done = Clock(), trio.Event()
    timekeeper = asker(clock).operations.timekeeper
    clock.start()

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(timekeeper.keep)
            await trio.testing.wait_all_tasks_blocked()
            clock.schedule(SECOND // 100, done.set)
            await done.wait()
            nursery.cancel_scope.cancel()

    trio.run(main)
