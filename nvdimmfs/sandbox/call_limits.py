"""How many system calls are answered at once, so that calls that do not end use up no threads that others need."""

from __future__ import annotations

import threading
from collections import Counter, deque

from attrs import define

from nvdimmfs.sandbox.seccomp import Notification

#: Calls of one user that are answered at the same time.  More wait for one of them to end.
MOST_OF_ONE_USER = 64

#: Calls of all users but root that are answered at the same time.
MOST_OF_ALL_USERS = 256

_ROOT = 0


@define(eq=False)
class Call:
    """A system call that is to be answered.

    Attributes:
        notification: the call.
        user: the caller's user id, from the moment at which the call may be answered.
    """

    notification: Notification
    user: int | None = None


class CallLimits:
    """Counts the calls that are being answered, and keeps those that have to wait.  A call that waits has no thread."""

    def __init__(self) -> None:
        self._answered: Counter[int] = Counter()
        self._waiting: dict[int, deque[Call]] = {}
        self._lock = threading.Lock()

    def begin(self, call: Call, user: int) -> bool:
        """Whether a call may be answered now.  Otherwise it is kept, and an `end` returns it."""
        with self._lock:
            if not self._has_room(user):
                self._waiting.setdefault(user, deque()).append(call)
                return False
            self._count(call, user)
            return True

    def end(self, call: Call) -> Call | None:
        """A call was answered.  Returns one that may be answered in its place, the user's own first."""
        user = call.user
        with self._lock:
            if user is None:
                return None
            self._answered[user] -= 1
            if not self._answered[user]:
                del self._answered[user]
            own_first = sorted(self._waiting, key=lambda each: each != user)
            return next((self._next_of(each) for each in own_first if self._has_room(each)), None)

    def _has_room(self, user: int) -> bool:
        """Whether one more call of a user may be answered.  Root's are not limited by those of others."""
        if self._answered[user] >= MOST_OF_ONE_USER:
            return False
        return user == _ROOT or self._answered.total() - self._answered[_ROOT] < MOST_OF_ALL_USERS

    def _next_of(self, user: int) -> Call:
        calls = self._waiting[user]
        call = calls.popleft()
        if not calls:
            del self._waiting[user]
        self._count(call, user)
        return call

    def _count(self, call: Call, user: int) -> None:
        call.user = user
        self._answered[user] += 1
