"""A thread for calls that wait, which is there before it is needed."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

ResultT = TypeVar("ResultT")
ArgumentsT = TypeVarTuple("ArgumentsT")


class Worker:
    """Makes calls that may wait, one at a time, while the event loop goes on.

    trio ends its threads when they are idle.  Starting another one fails once the user, or the control group, has as
    many processes as it may have, which other programs can bring about; and a mount whose names cannot be invalidated
    must end.  So a mount has a thread of its own from the beginning.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._started = False

    def start(self) -> None:
        """Start the thread, which ends with the process.  RuntimeError when there can be no more threads."""
        threading.Thread(target=self._work, name="invalidation", daemon=True).start()
        self._started = True

    async def run(self, call: Callable[[*ArgumentsT], ResultT], *arguments: *ArgumentsT) -> ResultT:
        """Make a call in the thread, and return its result or raise its exception.  Cancellation waits for its end."""
        if not self._started:
            return await trio.to_thread.run_sync(call, *arguments)
        results: list[ResultT] = []
        failures: list[Exception] = []
        done, token = trio.Event(), trio.lowlevel.current_trio_token()

        def work() -> None:
            try:
                results.append(call(*arguments))
            except Exception as failure:
                failures.append(failure)
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(done.set)

        self._calls.put(work)
        with trio.CancelScope(shield=True):
            await done.wait()
        if failures:
            raise failures[0]
        return results[0]

    def _work(self) -> None:
        while True:
            self._calls.get()()
