"""The machine's clock: what is due, in which order, and what moves it."""

import pytest

from nvdimmfs.core.clock import Clock, ClockMode
from nvdimmfs.kernels.durations import (
    DURATIONS,
    MILLISECOND,
    MISMATCH,
    PRICES,
    READ,
    REGION_BIND,
    SECOND,
    WRITE,
    duration_text,
)


class Host:
    """A host's clock that only the test advances."""

    def __init__(self):
        self.time = 1_000_000 * SECOND

    def __call__(self):
        return self.time


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def done():
    return []


@pytest.fixture
def at(done):
    """Schedule something that leaves its name and the time behind."""

    def schedule(clock, delay, name):
        return clock.schedule(delay, lambda: done.append((name, clock.now)), name)

    return schedule


def test_events_are_handled_in_the_order_of_their_times_then_of_their_scheduling(at, done):
    clock = Clock(ClockMode.MANUAL)
    at(clock, 2 * SECOND, "c")
    at(clock, SECOND, "a")
    at(clock, SECOND, "b")
    assert [event.what for event in clock.pending] == ["a", "b", "c"]
    clock.advance(2 * SECOND)
    assert done == [("a", SECOND), ("b", SECOND), ("c", 2 * SECOND)]
    assert clock.next_due is None


def test_a_cancelled_event_does_not_happen(at, done):
    clock = Clock(ClockMode.MANUAL)
    first, second = at(clock, 1, "first"), at(clock, 2, "second")
    first.cancel()
    assert (clock.next_due, clock.pending) == (2, (second,))
    clock.advance(3)
    assert done == [("second", 2)]


def test_a_late_event_does_not_delay_what_it_schedules(host, done):
    clock = Clock(ClockMode.REAL, host=host)
    clock.start()

    def again():
        done.append(clock.now)
        if len(done) < 3:
            clock.schedule(SECOND, again)

    clock.schedule(SECOND, again)
    host.time += 10 * SECOND
    clock.run_due()
    assert done == [SECOND, 2 * SECOND, 3 * SECOND]
    assert clock.now == 10 * SECOND


def test_after_each_event_queued_work_is_done(done):
    clock = Clock(ClockMode.MANUAL, after_event=lambda: done.append("settled"))
    clock.schedule(1, lambda: done.append("event"))
    clock.schedule(1, lambda: done.append("another"))
    clock.advance(1)
    assert done == ["event", "settled", "another", "settled"]


def test_an_event_that_fails_is_not_handled_again(at, done):
    clock = Clock(ClockMode.MANUAL)

    def fail():
        raise RuntimeError

    clock.schedule(1, fail)
    at(clock, 2, "next")
    with pytest.raises(RuntimeError):
        clock.advance(1)
    clock.advance(1)
    assert done == [("next", 2)]


def test_time_stands_still_until_user_space_is_there(host, at, done):
    clock = Clock(ClockMode.REAL, host=host)
    at(clock, SECOND, "event")
    host.time += 100 * SECOND
    assert (clock.now, clock.host_seconds_left) == (0, None)
    clock.spend(READ)
    assert (clock.now, clock.host_seconds_left) == (0, 1.0)
    host.time += SECOND // 4
    assert clock.host_seconds_left == 0.75
    host.time += SECOND
    clock.spend(READ)
    assert done == [("event", SECOND)]
    assert clock.host_seconds_left is None


@pytest.mark.parametrize(("mode", "passed"), [("real", 0), ("steps", WRITE.nanoseconds), ("manual", 0)])
def test_the_time_that_an_act_takes(host, mode, passed):
    clock = Clock(ClockMode(mode), host=host)
    clock.spend(WRITE)
    assert clock.now == passed


def test_there_are_no_acts_of_user_space_at_boot():
    clock = Clock(ClockMode.STEPS)
    clock.is_booting = True
    clock.spend(WRITE)
    assert (clock.now, clock.is_started) == (0, False)


@pytest.mark.parametrize("mode", ClockMode)
def test_every_clock_can_be_advanced(host, mode, at, done):
    clock = Clock(mode, host=host)
    clock.start()
    at(clock, 60 * SECOND, "event")
    clock.advance(59 * SECOND)
    assert done == []
    clock.advance(SECOND)
    assert done == [("event", 60 * SECOND)]
    assert clock.now == 60 * SECOND


def test_a_wait_goes_from_event_to_event(at, done):
    clock = Clock(ClockMode.STEPS)
    for second in (1, 2, 3):
        at(clock, second * SECOND, second)
    clock.wait_until(lambda: len(done) == 2)
    assert clock.now == 2 * SECOND
    clock.wait_until(lambda: False)
    assert clock.now == 3 * SECOND


@pytest.mark.parametrize("mode", [ClockMode.REAL, ClockMode.MANUAL])
def test_waiting_moves_no_other_clock(host, mode, at, done):
    clock = Clock(mode, host=host)
    at(clock, SECOND, "event")
    clock.wait_until(lambda: False)
    assert (clock.now, done) == (0, [])


def test_a_sleeper_is_woken_only_for_an_event_that_is_due_before_the_others(host, at):
    clock, woken = Clock(ClockMode.REAL, host=host), []
    clock.start()
    clock.wake = lambda: woken.append(clock.next_due)
    at(clock, 2 * SECOND, "first")
    at(clock, 3 * SECOND, "later")
    at(clock, SECOND, "earlier")
    assert woken == [2 * SECOND, SECOND]


def test_an_act_within_an_event_takes_no_time(done):
    clock = Clock(ClockMode.STEPS)

    def act():
        clock.spend(WRITE)
        done.append(clock.now)

    clock.schedule(5 * MILLISECOND, act)
    clock.spend(WRITE)
    assert done == [5 * MILLISECOND]
    assert clock.now == WRITE.nanoseconds


@pytest.mark.parametrize("prices", [(REGION_BIND, READ), (READ, REGION_BIND), (REGION_BIND,), (MISMATCH,)])
def test_an_act_can_have_another_price_once(prices):
    clock = Clock(ClockMode.STEPS)
    for price in prices:
        clock.price_act(price)
    clock.spend(WRITE)
    highest = max(price.nanoseconds for price in prices)
    assert clock.now == highest
    clock.spend(WRITE)
    assert clock.now == highest + WRITE.nanoseconds


def test_the_first_act_does_not_have_the_price_of_what_was_bound_at_boot():
    clock = Clock(ClockMode.STEPS)
    clock.is_booting = True
    clock.price_act(REGION_BIND)
    clock.is_booting = False
    clock.spend(READ)
    assert clock.now == READ.nanoseconds


def test_every_duration_has_its_evidence():
    for duration in (*DURATIONS, *PRICES):
        assert duration.what
        assert duration.evidence
        assert duration.nanoseconds >= 0


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "0 s"), (SECOND, "1 s"), (1500 * MILLISECOND, "1500 ms"), (1800 * SECOND, "30 min"), (7, "7 ns")],
)
def test_durations_in_words(nanoseconds, text):
    assert duration_text(nanoseconds) == text
