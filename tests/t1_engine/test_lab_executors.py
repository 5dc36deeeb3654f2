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


def first_is_last(item):
    number, mark = item
    while number == 0 and not mark.exists():
        time.sleep(0.01)
    mark.touch()
    return number


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_item_has_a_result(jobs):
    assert sorted(finished(squared, range(5), jobs)) == [0, 1, 4, 9, 16]


def test_results_come_in_the_order_in_which_they_are_finished(tmp_path):
    assert [*finished(first_is_last, [(0, tmp_path / "mark"), (1, tmp_path / "mark")], 2)] == [1, 0]


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
