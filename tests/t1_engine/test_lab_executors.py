"""Work that processes of this host do, some of which are killed."""

import contextlib
import multiprocessing
import os
import signal
import time

import pytest

from nvdimmfs.lab.errors import LabError
from nvdimmfs.lab.executors import finished


def squared(number):
    return number * number


def squared_once_killed(item):
    """The first process that has this number is killed."""
    number, mark = item
    with contextlib.suppress(FileExistsError):
        mark.touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def killed(_number):
    os.kill(os.getpid(), signal.SIGKILL)


def first_waits(item):
    """The first item is finished once there is a file."""
    number, mark = item
    while number == 0 and not mark.exists():
        time.sleep(0.01)
    return number


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_item_has_a_result(jobs):
    assert sorted(finished(squared, range(5), jobs)) == [0, 1, 4, 9, 16]


def test_a_result_comes_when_it_is_finished(tmp_path):
    mark = tmp_path / "mark"
    results = finished(first_waits, [(0, mark), (1, mark)], 2)
    assert next(results) == 1
    mark.touch()
    assert [*results] == [0]


def test_the_items_of_a_killed_process_are_done_again(tmp_path):
    items = [(number, tmp_path / str(number)) for number in range(2)]
    assert sorted(finished(squared_once_killed, items, 2)) == [0, 1]


def test_processes_that_are_always_killed_are_reported():
    with pytest.raises(LabError, match=r"^the processes of --jobs were killed 4 times$"):
        [*finished(killed, [1], 2)]


def test_processes_end_with_whoever_wanted_the_results():
    results = finished(squared, range(5), 2)
    next(results)
    results.close()
    assert multiprocessing.active_children() == []
