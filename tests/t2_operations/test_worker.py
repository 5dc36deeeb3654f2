"""The thread that invalidates the kernel's caches is there before it is needed."""

import pytest
import trio
from asking import Asker

from nvdimmfs.fuse.worker import Worker


def refuse(*_):
    raise RuntimeError("can't start new thread")


def test_no_thread_is_started_once_there_is_one(monkeypatch):
    """As when the user, or the control group, has as many processes as it may have."""
    ask = Asker()
    ask.operations.kernel_cache.start()
    monkeypatch.setattr(trio.to_thread, "run_sync", refuse)
    name = next(iter(ask.tree.root)).name
    ask.inode(name)
    ask.tree.root.remove(name)
    trio.run(ask.operations.kernel_cache.invalidate_stale)
    assert ("name", 1, name.encode()) in ask.invalidator.calls


def test_a_call_has_its_result_or_its_exception():
    worker = Worker()
    worker.start()
    assert trio.run(worker.run, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        trio.run(worker.run, divmod, 7, 0)
    assert trio.run(worker.run, divmod, 9, 2) == (4, 1), "the thread goes on"
