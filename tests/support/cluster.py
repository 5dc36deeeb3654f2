"""A Dask scheduler and its workers, as processes that speak over loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
from mounting import ROOT

#: What the commands `dask scheduler` and `dask worker` run.
_PROGRAM = "import sys; from distributed.cli import dask_{} as cli; sys.argv[0] = 'dask'; cli.main()"


@attrs.frozen
class Cluster:
    """A scheduler with workers of one thread each.

    Attributes:
        address: of the scheduler.
        scheduler: its process.
        workers: their processes.
    """

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


@contextmanager
def cluster(folder: Path, workers: int, environment: dict[str, str]) -> Iterator[Cluster]:
    """All are killed at the end: a worker that is asked to end waits for its scheduler."""
    file, environment = folder / "scheduler.json", {**environment, "DASK_TEMPORARY_DIRECTORY": str(folder)}
    with ExitStack() as processes:

        def start(what: str, *options: str) -> subprocess.Popen[bytes]:
            argv = (sys.executable, "-c", _PROGRAM.format(what), "--scheduler-file", file, "--no-dashboard", *options)
            with (folder / "log").open("ab") as log:
                process = subprocess.Popen(argv, env=environment, cwd=ROOT, stdout=log, stderr=log)
            processes.enter_context(process)
            processes.callback(process.kill)
            return process

        scheduler = start("scheduler", "--port", "0", "--host", "127.0.0.1")
        address = _address(file, scheduler)
        yield Cluster(address, scheduler, [start("worker", "--nthreads", "1", "--no-nanny") for _ in range(workers)])


def _address(file: Path, scheduler: subprocess.Popen[bytes]) -> str:
    """Wait for the scheduler, which writes its file when it has a port."""
    while True:
        assert scheduler.poll() is None, (file.parent / "log").read_text()
        try:
            return str(json.loads(file.read_text())["address"])
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.01)
