"""FUSE requests, sent directly: names, and the results of stat(2)."""

from __future__ import annotations

import errno
import os
import stat
from types import SimpleNamespace

import pytest
import toy
from asking import CONTEXT, ROOT, Asker, set_attributes

from nvdimmfs.fuse.inode import CACHE_TIMEOUT

# Names


def test_a_lookup_of_nothing_is_enoent(ask):
    assert ask.errno("lookup", ROOT, b"nothing", CONTEXT) == errno.ENOENT


def test_a_lookup_below_a_file_is_enotdir(ask):
    assert ask.errno("lookup", ask.inode("sys/plain/value"), b"x", CONTEXT) == errno.ENOTDIR


def test_an_unknown_inode_is_estale(ask):
    assert ask.errno("getattr", 10**9, CONTEXT) == errno.ESTALE


@pytest.mark.parametrize("name", [b"\xff\xfe", "ü".encode(), b"a" * 256])
def test_a_name_of_any_bytes_is_looked_up(ask, name):
    assert ask.errno("lookup", ROOT, name, CONTEXT) == errno.ENOENT


def test_a_link_returns_its_target(ask):
    assert ask("readlink", ask.inode("sys/links/zero"), CONTEXT) == b"../devices/zero"


def test_a_file_is_no_link(ask):
    assert ask.errno("readlink", ask.inode("sys/plain/value"), CONTEXT) == errno.EINVAL


def test_names_and_attributes_are_cached_for_long(ask):
    entry = ask("lookup", ROOT, b"sys", CONTEXT)
    assert (entry.entry_timeout, entry.attr_timeout) == (CACHE_TIMEOUT, CACHE_TIMEOUT)


def test_without_cache_nothing_is_cached():
    entry = Asker(cache=False)("lookup", ROOT, b"sys", CONTEXT)
    assert (entry.entry_timeout, entry.attr_timeout) == (0, 0)


# Attributes


@pytest.mark.parametrize(
    ("path", "mode", "nlink", "size", "blocks"),
    [
        ("", "drwxr-xr-x", 4, 0, 0),
        ("sys", "dr-xr-xr-x", 6, 0, 0),
        ("sys/devices", "drwxr-xr-x", 3, 0, 0),
        ("sys/plain", "drwxr-xr-x", 2, 0, 0),
        ("sys/plain/value", "-rw-r--r--", 1, 4096, 0),
        ("sys/plain/constant", "-r--r--r--", 1, 4096, 0),
        ("sys/plain/write-only", "--w-------", 1, 4096, 0),
        ("sys/links/zero", "lrwxrwxrwx", 1, 0, 0),
        ("dev/zero", "-rw-------", 1, toy.DISK_SIZE, toy.DISK_SIZE // 512),
    ],
)
def test_stat_returns_what_sysfs_returns(ask, path, mode, nlink, size, blocks):
    entry = ask.stat(path)
    assert stat.filemode(entry.st_mode) == mode
    assert (entry.st_nlink, entry.st_size, entry.st_blocks, entry.st_blksize) == (nlink, size, blocks, 4096)
    assert (entry.st_uid, entry.st_gid) == (os.getuid(), os.getgid())


def test_inode_numbers_are_those_of_the_nodes(ask):
    assert ask.stat("").st_ino == ROOT
    assert ask.stat("sys/plain/value").st_ino == ask.tree.root.find("sys/plain/value").ino


def test_times_are_those_of_the_first_lookup_and_do_not_change(ask):
    first = ask.stat("sys/plain/value")
    times = (first.st_atime_ns, first.st_mtime_ns, first.st_ctime_ns)
    ask.write("sys/plain/value", b"x")
    ask.read("sys/plain/value")
    again = ask.stat("sys/plain/value")
    assert times[0] > 10**18
    assert (again.st_atime_ns, again.st_mtime_ns, again.st_ctime_ns) == times


def test_a_wall_clock_that_jumps_back_is_followed(ask, monkeypatch):
    before = ask.stat("sys/plain/value").st_ctime_ns
    for year in (1970, 2038, 2106):
        now = (year - 1970) * 31_556_952_000_000_000
        monkeypatch.setattr("time.time_ns", lambda now=now: now)
        set_attributes(ask, "sys/plain/value", mode=0o600)
        assert ask.stat("sys/plain/value").st_ctime_ns == now != before


def test_o_trunc_updates_only_mtime(ask):
    before = ask.stat("sys/plain/value").st_mtime_ns
    ask.open("sys/plain/value", os.O_WRONLY | os.O_TRUNC)
    after = ask.stat("sys/plain/value")
    assert after.st_mtime_ns > before
    assert after.st_size == 4096
    assert ask.read("sys/plain/value") == b"hello\n"


def test_a_write_to_a_device_updates_its_mtime(ask):
    before = ask.stat("dev/zero").st_mtime_ns
    ask.write("dev/zero", b"x")
    assert ask.stat("dev/zero").st_mtime_ns > before


@pytest.mark.parametrize("path", ["sys/plain/value", "sys/plain"])
def test_chmod_takes_effect(ask, path):
    kind = stat.S_IFMT(ask.stat(path).st_mode)
    assert set_attributes(ask, path, mode=kind | 0o4700).st_mode == kind | 0o4700
    assert ask.stat(path).st_mode == kind | 0o4700


def test_chown_and_utimes_take_effect(ask):
    set_attributes(ask, "sys/plain/value", uid=5, gid=6)
    set_attributes(ask, "sys/plain/value", atime=7, mtime=8)
    entry = ask.stat("sys/plain/value")
    assert (entry.st_uid, entry.st_gid, entry.st_atime_ns, entry.st_mtime_ns) == (5, 6, 7, 8)
    assert entry.st_ctime_ns > 10**18


@pytest.mark.parametrize(
    ("uid", "change", "left"),
    [
        (0, {"uid": 5}, 0o755),
        (0, {"gid": 5}, 0o755),
        (0, {}, 0o755),
        (0, {"size": 0}, 0o6755),
        (5, {"size": 0}, 0o755),
        (5, {"atime": 1}, 0o6755),
    ],
)
def test_a_new_owner_or_a_truncation_takes_away_the_set_id_bits(ask, uid, change, left):
    path, caller = "sys/plain/value", SimpleNamespace(uid=uid, gid=uid, pid=1)
    set_attributes(ask, path, mode=stat.S_IFREG | 0o6755)
    set_attributes(ask, path, caller, **change)
    assert stat.S_IMODE(ask.stat(path).st_mode) == left


def test_a_group_that_cannot_execute_a_file_keeps_its_bit(ask):
    set_attributes(ask, "sys/plain/value", mode=stat.S_IFREG | 0o6745)
    set_attributes(ask, "sys/plain/value", uid=5)
    assert stat.S_IMODE(ask.stat("sys/plain/value").st_mode) == 0o2745


def test_a_directory_keeps_its_set_id_bits(ask):
    set_attributes(ask, "sys/plain", mode=stat.S_IFDIR | 0o7755)
    assert set_attributes(ask, "sys/plain", uid=5).st_mode == stat.S_IFDIR | 0o7755


@pytest.mark.parametrize(("path", "size"), [("sys/plain/value", 4096), ("dev/zero", toy.DISK_SIZE)])
def test_truncation_succeeds_and_changes_nothing(ask, path, size):
    assert set_attributes(ask, path, size=0).st_size == size
    assert set_attributes(ask, path, size=1 << 40).st_size == size


def test_chmod_lets_root_open_for_writing(ask):
    set_attributes(ask, "sys/plain/constant", mode=0o644)
    assert ask.write("sys/plain/constant", b"changed") == 7


def test_statfs_returns_what_sysfs_returns(ask):
    answer = ask("statfs", CONTEXT)
    assert (answer.f_bsize, answer.f_frsize, answer.f_namemax, answer.f_blocks, answer.f_files) == (
        4096,
        4096,
        255,
        0,
        0,
    )
