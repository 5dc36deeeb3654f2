"""What is held of a thread between two of its system calls: here of threads of this process."""

import contextlib
import os
import threading
import time
from pathlib import Path

import pytest

from nvdimmfs.sandbox.known_thread import KnownThread
from nvdimmfs.sandbox.thread_file import open_file


class Thread:
    """A thread that does nothing until the end of the block."""

    def __enter__(self):
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._ends.wait)
        self._thread.start()
        self.id = self._thread.native_id
        return self

    def end(self):
        """Returns once the kernel has no such thread any more, which is after `join`."""
        self._ends.set()
        self._thread.join()
        while Path(f"/proc/self/task/{self.id}").exists():
            time.sleep(0.001)

    def __exit__(self, *_):
        self.end()


@pytest.fixture
def proc():
    descriptor = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def known():
    with contextlib.closing(KnownThread()) as known:
        yield known


@pytest.fixture
def held():
    with contextlib.ExitStack() as held:
        yield held


def waits():
    return True


def never_asked():
    raise AssertionError


def test_a_thread_that_is_known_is_not_looked_up_again(proc, known):
    with Thread() as thread:
        assert b"Tgid:\t%d\n" % os.getpid() in known.look(thread.id, proc, waits)
        directory = known.directory
        assert b"Tgid:\t%d\n" % os.getpid() in known.look(thread.id, proc, never_asked)
        assert known.directory == directory


def test_another_thread_is_looked_up(proc, known):
    with Thread() as one, Thread() as other:
        known.look(one.id, proc, waits)
        assert b"Pid:\t%d\n" % other.id in known.look(other.id, proc, waits)


def test_a_thread_that_has_gone_has_no_status(proc, known):
    with Thread() as thread:
        known.look(thread.id, proc, waits)
        thread.end()
        with pytest.raises(FileNotFoundError):
            known.look(thread.id, proc, waits)


def test_a_call_that_waits_no_longer_was_not_of_that_thread(proc, known):
    with Thread() as thread:
        with pytest.raises(ProcessLookupError):
            known.look(thread.id, proc, lambda: False)
        known.look(thread.id, proc, waits)  # it is asked again


@pytest.fixture
def file(tmp_path):
    """A descriptor of this process."""
    (tmp_path / "file").touch()
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def remembered(file, proc, known, held):
    """Have `file` be remembered of this thread."""
    known.look(threading.get_native_id(), proc, waits)
    opened = open_file(known.directory, proc, file, held)
    known.remember(file, opened)
    return opened


def test_a_file_is_remembered(file, proc, known, held):
    opened = remembered(file, proc, known, held)
    assert known.may_have(threading.get_native_id(), file)
    assert known.file(file).status == opened.status
    assert known.file(file).flags == opened.flags
    assert known.file(file + 1) is None


def replace(file, path, flags):
    other = os.open(path, flags)
    os.dup2(other, file)
    os.close(other)


CHANGES = {
    "another file": lambda file, path: replace(file, path / "other", os.O_RDONLY | os.O_CREAT),
    "with other flags": lambda file, path: replace(file, path / "file", os.O_RDWR),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_whose_descriptor_has_become_anothers_is_forgotten(file, proc, known, held, tmp_path, change):
    remembered(file, proc, known, held)
    change(file, tmp_path)
    assert known.file(file) is None
    assert not known.may_have(threading.get_native_id(), file)


def test_a_file_that_was_replaced_before_it_is_remembered_is_not(file, proc, known, held, tmp_path):
    known.look(threading.get_native_id(), proc, waits)
    opened = open_file(known.directory, proc, file, held)
    CHANGES["another file"](file, tmp_path)
    known.remember(file, opened)
    assert known.file(file) is None


def open_files():
    return len([*Path("/proc/self/fd").iterdir()])


def test_nothing_is_held_at_the_end(file, proc):
    before = open_files()
    with contextlib.closing(KnownThread()) as known, contextlib.ExitStack() as held:
        remembered(file, proc, known, held)
        assert open_files() > before
    assert open_files() == before
