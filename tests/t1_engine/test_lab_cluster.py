"""Work that the workers of a Dask cluster do, some of which are lost."""

import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

import pytest
from cluster import cluster

from nvdimmfs.cli.main import main
from nvdimmfs.lab.errors import LabError
from nvdimmfs.lab.executors import finished


@pytest.fixture(autouse=True)
def distributed(caplog):
    """The package, without its warnings of workers that are lost.

    Here, not while tests are collected: it takes half a second.  Its settings are there once it has been imported.
    """
    pytest.importorskip("distributed", reason="the package distributed is not installed")
    caplog.set_level(logging.CRITICAL, logger="distributed")


@pytest.fixture
def impatient(distributed):
    """Dask tries for one second to connect, instead of thirty."""
    from dask import config

    with config.set({"distributed.comm.timeouts.connect": "1s"}):
        yield


@pytest.fixture
def environment():
    """Work may kill one worker, but no second one."""
    return {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}


def test_the_items_of_a_lost_worker_are_done_again(tmp_path, environment):
    """The results, too, that it had not handed over."""
    mark = tmp_path / "killed"

    def squared(number):
        if number == 10:
            with contextlib.suppress(FileExistsError):
                mark.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return number * number

    with cluster(tmp_path, 2, environment) as dask:
        results = sorted(finished(squared, [*range(40), 39], scheduler=dask.address))
    assert mark.exists()
    assert results == [number * number for number in [*range(40), 39]]


def test_recordings_are_replayed_by_the_workers(tmp_path, environment, capsys):
    recordings = Path(__file__).parent.parent / "recordings/virtio"
    with cluster(tmp_path, 2, environment) as dask:
        assert main(["lab", "replay", "--scheduler", dask.address, str(recordings)]) == 0
    by_workers = capsys.readouterr().out
    assert main(["lab", "replay", str(recordings)]) == 0
    assert capsys.readouterr().out == by_workers


def test_workers_that_are_always_lost_are_reported(tmp_path, environment):
    def kill(_number):
        os.kill(os.getpid(), signal.SIGKILL)

    with (
        cluster(tmp_path, 2, environment) as dask,
        pytest.raises(LabError, match=r": the same work killed 2 workers, the last of them tcp:"),
    ):
        [*finished(kill, [1], scheduler=dask.address)]


@pytest.mark.usefixtures("impatient")
def test_a_scheduler_that_ends_is_reported(tmp_path, environment):
    with cluster(tmp_path, 1, environment) as dask:
        scheduler = dask.scheduler.pid
        results = finished(lambda _: os.kill(scheduler, signal.SIGKILL), [1], scheduler=dask.address)
        with pytest.raises(LabError, match=r"^--scheduler tcp:.*: the scheduler ended"):
            next(results)


@pytest.mark.usefixtures("impatient")
def test_a_scheduler_that_does_not_answer_is_reported():
    with pytest.raises(LabError, match=r"^--scheduler tcp://127.0.0.1:1: Timed out trying to connect"):
        [*finished(abs, [1], scheduler="tcp://127.0.0.1:1")]


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(LabError, match=r"^--scheduler needs the package distributed: pip install"):
        [*finished(abs, [1], scheduler="tcp://127.0.0.1:8786")]
