"""The lab's cache: made once, by one process, and nothing remains of what ended."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nvdimmfs.lab.cache import cache_folder, made_once, temporary
from nvdimmfs.lab.errors import LabError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "nvdimmfs/lab"


def test_a_folder_is_made_once(cache):
    made = []

    def make(folder):
        made.append(folder)
        (folder / "file").write_text("content")

    for _ in range(2):
        assert (made_once(cache / "thing", make) / "file").read_text() == "content"
    assert len(made) == 1


def test_nothing_remains_of_what_could_not_be_made(cache):
    def fail(folder):
        (folder / "file").touch()
        raise KeyError

    with pytest.raises(KeyError):
        made_once(cache / "thing", fail)
    assert [path.name for path in cache.iterdir()] == ["thing.lock"]


def test_a_half_made_entry_of_a_killed_process_is_removed(cache):
    made_once(cache / "other", lambda _: None)
    (cache / ".thing.killed").mkdir()
    made_once(cache / "thing", lambda _: None)
    assert not (cache / ".thing.killed").exists()


def test_a_relative_cache_folder_counts_as_none(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder().is_absolute()


def test_a_temporary_folder_of_another_process_is_kept_until_it_ends(cache):
    program = "from nvdimmfs.lab.cache import temporary\nwith temporary() as folder: print(folder, flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
    )
    with other:
        theirs = other.stdout.readline().strip()
        with temporary() as ours:
            assert {str(path) for path in (cache / "running").iterdir()} == {theirs, str(ours)}
        other.send_signal(signal.SIGKILL)
    with temporary() as ours:
        assert list((cache / "running").iterdir()) == [ours]
    assert list((cache / "running").iterdir()) == []


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(LabError, match=r"no home folder, .*; set XDG_CACHE_HOME to a folder of yours$"):
        cache_folder()


@pytest.mark.parametrize(
    ("number", "end"), [(errno.EACCES, "; set XDG_CACHE_HOME to a folder of yours"), (errno.ENOSPC, "")]
)
def test_a_cache_that_cannot_be_written_is_named(cache, monkeypatch, number, end):
    def mkdir(path, **_):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(LabError) as failure, temporary():
        pass
    assert str(failure.value) == f"cannot write to the lab's cache: {cache}: {os.strerror(number)}{end}"
