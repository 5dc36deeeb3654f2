"""How many system calls of a sandbox are answered at the same time."""

from nvdimmfs.sandbox.call_limits import MOST_OF_ALL_USERS, MOST_OF_ONE_USER, Call, CallLimits
from nvdimmfs.sandbox.seccomp import Notification


def call(number=0):
    return Call(Notification(number, 1, "ioctl", (0,) * 6))


def begun(limits, user, count):
    """As many calls of a user, all of which may be answered now."""
    calls = [call(number) for number in range(count)]
    assert all(limits.begin(each, user) for each in calls)
    return calls


def test_calls_beyond_the_limit_of_a_user_wait_for_the_end_of_others_in_their_order():
    limits = CallLimits()
    calls = begun(limits, 1000, MOST_OF_ONE_USER)
    late = [call(), call()]
    assert not any(limits.begin(each, 1000) for each in late)
    assert limits.end(calls[0]) is late[0]
    assert limits.end(late[0]) is late[1]
    assert limits.end(calls[1]) is None


def test_a_user_whose_calls_do_not_end_keeps_no_other_user_waiting():
    limits = CallLimits()
    begun(limits, 1000, MOST_OF_ONE_USER)
    assert not limits.begin(call(), 1000)
    for user in (1001, 0):
        (other,) = begun(limits, user, 1)
        assert limits.end(other) is None


def test_many_users_together_do_not_keep_root_from_being_answered():
    limits = CallLimits()
    calls = [each for user in range(1000, 1008) for each in begun(limits, user, MOST_OF_ALL_USERS // 8)]
    late = call()
    assert not limits.begin(late, 2000)
    (of_root,) = begun(limits, 0, 1)
    assert limits.end(of_root) is None
    assert limits.end(calls[0]) is late


def test_a_call_whose_caller_went_before_it_was_counted_ends_nothing():
    assert CallLimits().end(call()) is None
