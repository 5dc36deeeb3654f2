"""Where walks are made: in this process, in processes of this host, or by the workers of a cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor

from nvdimmfs.lab.errors import LabError


@contextlib.contextmanager
def mapper(jobs: int, scheduler: str | None) -> Iterator[Callable[..., Iterable[object]]]:
    """A function like `map`, which works on several items at the same time.

    Args:
        jobs: the number of processes on this host; 1 for this one alone.
        scheduler: the address of a Dask scheduler, such as tcp://HOST:8786, whose workers do it instead.
    """
    if scheduler is not None:
        with _cluster(scheduler) as executor:
            yield executor.map
    elif jobs > 1:
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("forkserver")) as pool:
            yield pool.map
    else:
        yield map


@contextlib.contextmanager
def _cluster(scheduler: str) -> Iterator[Executor]:
    """The workers of a cluster.  They have this program, and the files that it names, installed at the same places."""
    try:
        from distributed import Client
    except ImportError:
        raise LabError("--scheduler needs the package distributed: pip install 'nvdimmfs[lab]'") from None
    try:
        client = Client(scheduler)
    except (OSError, ValueError) as error:
        raise LabError(f"--scheduler {scheduler}: {error}") from None
    with client:
        executor: Executor = client.get_executor()
        yield executor
