"""Waiting for requests: when it is done without trio, and what it relies on."""

import re
import socket
from pathlib import Path

import pyfuse3
import pytest
import trio
import trio.testing
from watchdog import WATCHDOG

from nvdimmfs.fuse import request_wait
from nvdimmfs.fuse.request_wait import RequestWait, waiting_without_trio

#: The names of trio that pyfuse3's source uses.
USED = re.compile(r"(?<![\w.`</])trio\.((?:lowlevel\.)?\w+)")


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def trio_waits(monkeypatch):
    """The descriptors that trio was asked to wait for."""
    waited = []
    wait = trio.lowlevel.wait_readable

    async def wait_readable(descriptor):
        waited.append(descriptor)
        await wait(descriptor)

    monkeypatch.setattr(trio.lowlevel, "wait_readable", wait_readable)
    return waited


@pytest.fixture
def calm(monkeypatch):
    """No limit is reached because this machine is slow."""
    monkeypatch.setattr(request_wait, "_POLL", WATCHDOG * 1000)
    monkeypatch.setattr(request_wait, "_SPIN", 0)


async def turn(wait, descriptor):
    async with wait.lock():
        await wait.wait_readable(descriptor)


def run_worker(wait, worker, *arguments):
    async def story():
        async with wait.open_nursery() as nursery:
            nursery.start_soon(worker, *arguments)

    trio.run(story)


def run_turn(wait, descriptor):
    run_worker(wait, turn, wait, descriptor)


def test_a_request_that_is_there_is_found_without_trio(ends, trio_waits, calm):
    ends[1].send(b"request")
    run_turn(RequestWait(lambda: False), ends[0].fileno())
    assert trio_waits == []


def test_one_that_does_not_come_soon_is_waited_for_in_trio(ends, trio_waits, monkeypatch):
    monkeypatch.setattr(request_wait, "_POLL", 0)
    monkeypatch.setattr(request_wait, "_SPIN", 0)
    wait = RequestWait(lambda: False)

    async def story():
        async with wait.open_nursery() as nursery:
            nursery.start_soon(turn, wait, ends[0].fileno())
            await trio.testing.wait_all_tasks_blocked()
            assert trio_waits == [ends[0].fileno()]
            ends[1].send(b"request")

    trio.run(story)


def test_trio_waits_while_another_task_has_something_to_do(ends, trio_waits, calm):
    ends[1].send(b"request")
    run_turn(RequestWait(lambda: True), ends[0].fileno())
    assert trio_waits == [ends[0].fileno()]


def test_trio_waits_while_a_worker_handles_a_request(ends, trio_waits, calm):
    wait = RequestWait(lambda: False)
    ends[1].send(b"request")

    async def story():
        async with wait.open_nursery() as nursery:
            nursery.start_soon(handler)
            nursery.start_soon(reader)

    async def reader():
        await turn(wait, ends[0].fileno())
        assert trio_waits == [ends[0].fileno()]
        answered.set()

    async def handler():
        await answered.wait()

    answered = trio.Event()
    trio.run(story)


def test_no_worker_goes_on_when_one_has_failed(ends, trio_waits, calm):
    """As one does that finds no memory for a request: there still is that request."""
    wait, started = RequestWait(lambda: False), []

    async def story():
        async with wait.open_nursery() as nursery:
            nursery.start_soon(worker, nursery)

    async def worker(nursery):
        started.append(None)
        await turn(wait, ends[0].fileno())
        nursery.start_soon(worker, nursery)
        raise OSError

    ends[1].send(b"request")
    with pytest.raises(ExceptionGroup) as failures:
        trio.run(story)
    assert len(failures.value.exceptions) == 1
    assert len(started) == 2


def test_trio_waits_for_one_in_64(ends, trio_waits, calm):
    ends[1].send(b"request")
    wait = RequestWait(lambda: False)

    async def turns():
        for _ in range(640):
            await turn(wait, ends[0].fileno())

    run_worker(wait, turns)
    assert len(trio_waits) == 10


class Client:
    """It sends a request after so long, and shares the processor with the one that asks if it needs it."""

    def __init__(self, monkeypatch):
        self.pause = 0
        self.shares_processor = False
        self.asked = 0
        self._now = self._sent = 0
        monkeypatch.setattr(request_wait.select, "poll", lambda: self)
        monkeypatch.setattr(request_wait.os, "cpu_count", lambda: 2)
        monkeypatch.setattr(request_wait.time, "perf_counter_ns", lambda: self._now)

    def register(self, *_):
        """Nothing to do."""

    def wait_with(self, wait):
        """Wait for a request, and return how long asking took, in nanoseconds; None where it was left out."""
        begin, self._sent, asked = self._now, self._now + self.pause, self.asked
        wait._comes_soon(0)
        return self._now - begin if self.asked > asked else None

    def poll(self, milliseconds):
        self.asked += milliseconds == 0
        if milliseconds:
            self._now = max(self._now, self._sent)
            return [(0, 1)]
        self._now += 1000
        if self.shares_processor:
            self._sent += 1000
        return [(0, 1)] if self._now > self._sent else []


def test_asking_takes_longer_where_that_is_not_in_vain(monkeypatch):
    client, wait = Client(monkeypatch), RequestWait(lambda: False)
    client.pause = 200_000
    asleep = [client.wait_with(wait) for _ in range(3)]
    assert asleep == [200_000, 201_000, 201_000], "it sleeps for the rest of the first pause"
    assert wait._spin_time == request_wait._LONG_SPIN
    client.pause = 10_000_000
    client.wait_with(wait)
    assert wait._spin_time == request_wait._SPIN


def test_asking_longer_is_left_out_where_the_client_needs_the_processor(monkeypatch):
    client, wait = Client(monkeypatch), RequestWait(lambda: False)
    client.pause, client.shares_processor = 20_000, True
    asked = [client.wait_with(wait) or 0 for _ in range(10_000)]
    longest = sum(each > request_wait._LONG_SPIN for each in asked)
    assert 0 < longest <= 3


def test_asking_in_vain_is_left_out_for_longer_each_time(monkeypatch):
    class Poll:
        """A client that answers after so many polls that do not sleep."""

        late = True

        def __init__(self):
            self.asked = 0

        def register(self, *_):
            """Nothing to do."""

        def poll(self, milliseconds):
            self.asked += milliseconds == 0
            return [] if self.late and not milliseconds else [(0, 1)]

    poll = Poll()
    monkeypatch.setattr(request_wait.select, "poll", lambda: poll)
    monkeypatch.setattr(request_wait.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(request_wait, "_SPIN", -1)
    monkeypatch.setattr(request_wait, "_LONG_SPIN", -1)
    wait = RequestWait(lambda: False)

    def asked(turns):
        before = poll.asked
        for _ in range(turns):
            wait._comes_soon(0)
        return poll.asked - before

    assert [asked(1), asked(8), asked(1), asked(16), asked(1), asked(32)] == [1, 0, 1, 0, 1, 0]
    poll.late = False
    assert asked(5) == 5
    poll.late = True
    assert [asked(1), asked(8), asked(1)] == [1, 0, 1]


def test_a_host_with_one_processor_never_asks_in_vain(monkeypatch, ends):
    monkeypatch.setattr(request_wait.os, "cpu_count", lambda: 1)
    wait = RequestWait(lambda: False)
    monkeypatch.setattr(wait, "_spin", lambda _: pytest.fail("it spins"))
    ends[1].send(b"request")
    run_turn(wait, ends[0].fileno())


def test_the_lock_goes_to_a_worker_that_waits_for_it():
    wait, order = RequestWait(lambda: False), []

    async def worker(name):
        async with wait.lock():
            order.append(name)
            await trio.testing.wait_all_tasks_blocked()

    async def story():
        async with trio.open_nursery() as nursery:
            for name in ("first", "second", "third"):
                nursery.start_soon(worker, name)

    trio.run(story)
    assert sorted(order) == ["first", "second", "third"]


def test_a_worker_that_is_cancelled_waits_no_longer():
    wait = RequestWait(lambda: False)

    async def story():
        async with wait.lock():
            with trio.move_on_after(0):
                async with wait.lock():
                    raise AssertionError
        assert wait._readers == 0
        async with wait.lock():
            assert wait._readers == 1

    trio.run(story)


def test_pyfuse3_uses_the_names_that_are_replaced_and_a_few_others():
    """A later pyfuse3 that uses more, or has no such global, is looked at first."""
    folder = Path(pyfuse3.__file__).parent
    texts = [(folder / name).read_text() for name in ("__init__.pyx", "internal.pxi")]
    used = {name for text in texts for name in USED.findall(re.sub(r"#.*", "", text))}
    replaced = {"Lock", "open_nursery", "lowlevel.wait_readable"}
    others = {"ClosedResourceError", "lowlevel.current_task", "lowlevel.current_trio_token", "lowlevel.notify_closing"}
    assert replaced | others <= used
    assert used - replaced - others <= {"run_sync_in_worker_thread"}, "a docstring's"


def test_pyfuse3_finds_trio_as_before_at_the_end():
    with waiting_without_trio(lambda: False):
        assert pyfuse3.trio is not trio
        assert pyfuse3.trio.ClosedResourceError is trio.ClosedResourceError
        assert pyfuse3.trio.lowlevel.current_task is trio.lowlevel.current_task
    assert pyfuse3.trio is trio


def test_another_pyfuse3_is_left_alone(monkeypatch):
    monkeypatch.delattr(pyfuse3, "trio")
    with waiting_without_trio(lambda: False):
        assert not hasattr(pyfuse3, "trio")
