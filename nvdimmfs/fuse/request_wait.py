"""Waiting for the next request: for a moment without trio, which costs a third of the time of a small request.

pyfuse3 waits in trio for its descriptor before each request: two turns of the scheduler, with a system call of epoll
each.  A client that opens, reads and closes an attribute sends the next request some ten microseconds after a reply.
So this module waits in three steps:

1. it spins on poll(2), for at most `_SPIN`: waking a process on another processor takes longer than that.  If the
   next request arrives soon after a spin has failed, later spins last up to `_LONG_SPIN`: a sandbox does some 200 us of
   work between two ioctls.  Where spins fail, because clients are slow or run on the processor of this process, it
   stops spinning for a number of requests;
2. it sleeps in poll(2), for at most `_POLL`;
3. it waits in trio.

During the first two, no other task runs.  They are skipped when another task has something to do, such as a handler
that waits for an invalidation, and for every `_IN_A_ROW`-th request, so that signals are noticed.

pyfuse3 finds trio in a global of its own, which its module for asyncio replaces as well.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sized
from types import ModuleType, TracebackType
from typing import cast

import pyfuse3
import trio

from nvdimmfs.fuse.init_exchange import InitExchange

#: The length of a spin in nanoseconds: as long as it usually takes at most to wake a process on another processor.
_SPIN = 50_000

#: The same for clients whose requests are that far apart.
_LONG_SPIN = 400_000

#: The number of requests without a spin after one has failed; it doubles with each failure, up to the second number.
_FIRST_PAUSE, _LONGEST_PAUSE = 8, 1024

#: The number of failed spins without a long one after a long one has failed; it doubles likewise.
_FIRST_LONG_PAUSE, _LONGEST_LONG_PAUSE = 8, 1024

#: How long to sleep in poll(2), in milliseconds.
_POLL = 1

#: One in so many requests is waited for in trio.
_IN_A_ROW = 64


@contextlib.contextmanager
def waiting_without_trio(is_busy: Callable[[], bool], init: InitExchange | None = None) -> Iterator[None]:
    """Have pyfuse3 wait in this way, as long as the context lasts.

    Nothing changes with a pyfuse3 that has no global for trio.

    Args:
        is_busy: whether a task that handles no request has something to do.
        init: has a part in the first request; None to leave that to pyfuse3.
    """
    if getattr(pyfuse3, "trio", None) is not trio:
        yield
        return
    wait = RequestWait(is_busy, init)
    lowlevel = _Overlay(trio.lowlevel, wait_readable=wait.wait_readable)
    replaced = _Overlay(trio, lowlevel=lowlevel, Lock=wait.lock, open_nursery=wait.open_nursery)
    pyfuse3.trio = replaced  # type: ignore[attr-defined]
    try:
        yield
    finally:
        pyfuse3.trio = trio  # type: ignore[attr-defined]


class _Overlay:
    """A module some of whose names have other values."""

    def __init__(self, module: ModuleType, **names: object) -> None:
        self._module = module
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> object:
        return getattr(self._module, name)


class _Done:
    """What is awaited for nothing.

    pyfuse3 awaits three times before each request.  Awaiting this calls no function of Python: with it, a request of a
    server whose handlers do nothing takes 4 % less processor time than with coroutines that only return.
    """

    __slots__ = ()
    __await__ = staticmethod(().__iter__)


_DONE = cast("Awaitable[None]", _Done())


class RequestWait:
    """What pyfuse3's workers use of trio.

    Each worker reads a request, handles it, and begins again.  One at a time holds the lock and waits for a request.

    Args:
        is_busy: as of `waiting_without_trio`.
        init: likewise.
    """

    def __init__(self, is_busy: Callable[[], bool], init: InitExchange | None = None) -> None:
        self._is_busy = is_busy
        self._init = init
        self._workers = 0
        self._readers = 0
        self._in_a_row = 0
        self._has_failed = False
        self._pause = 0 if (os.cpu_count() or 1) > 1 else sys.maxsize
        self._next_pause = _FIRST_PAUSE
        self._spin_time = _SPIN
        self._long_pause = 0
        self._next_long_pause = _FIRST_LONG_PAUSE
        self._poll: Callable[[int], Sized] | None = None
        self._turn = trio.lowlevel.ParkingLot()
        self._is_locked = False
        self._waiters = 0
        self._is_called = False

    def lock(self) -> RequestWait:
        """The lock, of which there is one."""
        return self

    def __aenter__(self) -> Awaitable[None]:
        """Take the lock, at once if it is free.

        trio's own lock would be handed to another worker, by a turn of the scheduler.
        """
        self._readers += 1
        if self._is_locked:
            return self._take_turn()
        self._is_locked = True
        return _DONE

    async def _take_turn(self) -> None:
        self._waiters += 1
        try:
            while self._is_locked:
                await self._turn.park()
                self._is_called = False
        except trio.Cancelled:
            self._readers -= 1
            raise
        finally:
            self._waiters -= 1
        self._is_locked = True

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> Awaitable[None]:
        self._readers -= 1
        self._is_locked = False
        if self._waiters and not self._is_called:
            self._is_called = True
            self._turn.unpark()  # that worker runs when this one suspends, which may be many requests later
        return _DONE

    @contextlib.asynccontextmanager
    async def open_nursery(self) -> AsyncIterator[_WorkerNursery]:
        """A nursery whose tasks are workers."""
        async with trio.open_nursery() as nursery:
            yield _WorkerNursery(nursery, self)

    def begin(self) -> None:
        """There is one more worker."""
        self._workers += 1

    async def work(self, worker: Callable[..., Awaitable[None]], *arguments: object) -> None:
        """Run a worker that has begun."""
        try:
            await worker(*arguments)
        except BaseException:
            self._has_failed = True  # all workers are being cancelled, which they notice when they wait in trio
            raise
        finally:
            self._workers -= 1

    def wait_readable(self, descriptor: int) -> Awaitable[None]:
        """Wait until there is a request."""
        if self._init is not None:
            if not self._init.has_begun:
                self._init.begin(descriptor)
                return _DONE
            self._init.end(descriptor)
            self._init = None
        self._in_a_row += 1
        all_wait = self._workers == self._readers and not (self._is_busy() or self._has_failed)
        if all_wait and self._in_a_row < _IN_A_ROW and self._comes_soon(descriptor):
            return _DONE
        self._in_a_row = 0
        return trio.lowlevel.wait_readable(descriptor)  # noqa: ASYNC105  # pyfuse3 awaits it

    def _comes_soon(self, descriptor: int) -> bool:
        """Wait without trio; whether there is a request."""
        if (poll := self._poll) is None:
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            poll = self._poll = poller.poll
        if self._pause:
            self._pause -= 1
            return bool(poll(_POLL))
        begin = self._spin(poll)
        if begin is None:
            return True
        comes = bool(poll(_POLL))
        self._after_vain_spin(is_soon=comes and time.perf_counter_ns() - begin < _LONG_SPIN)
        return comes

    def _after_vain_spin(self, *, is_soon: bool) -> None:
        """Choose the length of the next spins; `is_soon` if a long spin would have found the request."""
        if self._spin_time == _LONG_SPIN:
            self._long_pause = self._next_long_pause
            self._next_long_pause = min(2 * self._next_long_pause, _LONGEST_LONG_PAUSE)
        elif self._long_pause:
            self._long_pause -= 1
        elif is_soon:
            self._spin_time = _LONG_SPIN
            return
        self._spin_time = _SPIN
        self._pause, self._next_pause = self._next_pause, min(2 * self._next_pause, _LONGEST_PAUSE)

    def _spin(self, poll: Callable[[int], Sized]) -> int | None:
        """Spin until there is a request.  Returns None for success, else the time at which the spin began."""
        begin: int | None = None
        while not poll(0):
            now = time.perf_counter_ns()
            if begin is None:
                begin = now
            if now - begin > self._spin_time:
                return begin
        self._next_pause = _FIRST_PAUSE
        if begin is not None and time.perf_counter_ns() - begin > _SPIN:
            self._next_long_pause = _FIRST_LONG_PAUSE
        return None


class _WorkerNursery:
    """What pyfuse3 uses of a nursery."""

    def __init__(self, nursery: trio.Nursery, wait: RequestWait) -> None:
        self._nursery = nursery
        self._wait = wait
        self.cancel_scope = nursery.cancel_scope

    def start_soon(self, worker: Callable[..., Awaitable[None]], *arguments: object, name: str | None = None) -> None:
        self._wait.begin()
        self._nursery.start_soon(self._wait.work, worker, *arguments, name=name)
