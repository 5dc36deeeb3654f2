"""How many system calls of a sandbox are answered at the same time."""

import contextlib
import errno

import pytest

from nvdimmfs.sandbox.call_limits import MOST_OF_ALL_USERS, MOST_OF_ONE_USER, CallLimits


def test_a_user_who_has_too_many_calls_is_refused_and_others_are_not():
    limits = CallLimits()
    with contextlib.ExitStack() as calls:
        for _ in range(MOST_OF_ONE_USER):
            calls.enter_context(limits.counted(1000))
        with pytest.raises(OSError, match="Cannot allocate memory") as refusal, limits.counted(1000):
            pass
        assert refusal.value.errno == errno.ENOMEM
        with limits.counted(1001), limits.counted(0):
            pass
    with limits.counted(1000):
        pass


def test_many_users_together_do_not_keep_root_from_being_answered():
    limits = CallLimits()
    with contextlib.ExitStack() as calls:
        for call in range(MOST_OF_ALL_USERS):
            calls.enter_context(limits.counted(1000 + call % 10))
        with pytest.raises(OSError, match="Cannot allocate memory"), limits.counted(2000):
            pass
        with limits.counted(0):
            pass
