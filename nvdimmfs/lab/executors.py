"""Where the work of the lab is done: in this process, in processes of this host, or by the workers of a cluster."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from nvdimmfs.lab.errors import LabError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

#: How often processes of this host may be killed before that counts as impossible; Dask allows a unit as many losses.
_MOST_LOSSES = 3


def finished(
    function: Callable[[ItemT], ResultT], items: Sequence[ItemT], jobs: int = 1, scheduler: str | None = None
) -> Iterator[ResultT]:
    """Call a function with each item, and yield the results as they come: in any order, unless `jobs` is 1.

    What a process had that is killed is done again.  LabError when that happens too often, and for a scheduler that
    does not answer.

    Args:
        function: can be pickled, as can its results.
        items: what it is called with.
        jobs: the number of processes on this host; 1 for this one alone.
        scheduler: the address of a Dask scheduler, such as tcp://HOST:8786, whose workers do it instead.
    """
    if scheduler is not None:
        yield from _by_workers(function, items, scheduler)
    elif jobs > 1:
        yield from _in_processes(function, items, jobs)
    else:
        yield from map(function, items)


def _in_processes(function: Callable[[ItemT], ResultT], items: Sequence[ItemT], jobs: int) -> Iterator[ResultT]:
    left, losses = [*items], 0
    while left:
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("forkserver")) as pool:
            futures = {pool.submit(function, item): item for item in left}
            try:
                for future in as_completed(futures):
                    result = future.result()
                    left.remove(futures[future])
                    yield result
            except BrokenProcessPool:
                losses += 1
                if losses > _MOST_LOSSES:
                    raise LabError(f"the processes of --jobs were killed {losses} times") from None
            finally:
                for future in futures:  # those that nothing waits for any more
                    future.cancel()


def _by_workers(function: Callable[[ItemT], ResultT], items: Sequence[ItemT], scheduler: str) -> Iterator[ResultT]:
    """The workers of a cluster have this program, and the files that it names, at the same places.

    Dask's own Executor will not do: it looks at the state of a future after it has fetched the result, and raises the
    result as an exception if the worker was lost in between (distributed 2026.8, cfexecutor.py).
    """
    try:
        from distributed import Client, KilledWorker, as_completed
    except ImportError:
        raise LabError("--scheduler needs the package distributed: pip install 'nvdimmfs[lab]'") from None
    try:
        client = Client(scheduler)
    except (OSError, ValueError) as error:
        raise LabError(f"--scheduler {scheduler}: {error}") from None
    with client:
        # Closing the client cancels what nothing waits for any more.
        futures = [client.submit(function, item, pure=False) for item in items]
        try:
            for future, result in as_completed(futures, with_results=True):
                if future.cancelled():
                    raise LabError(f"--scheduler {scheduler}: the scheduler ended, or cannot be reached any more")
                yield result
        except KilledWorker as error:
            lost = f"{error.allowed_failures + 1} workers, the last of them {error.last_worker.address}"
            raise LabError(f"--scheduler {scheduler}: the same work killed {lost}") from None
