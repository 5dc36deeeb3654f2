"""A real mount of the toy tree, used by real programs."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import re
import select
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import toy
from ask_listings import entries
from mounting import TOY
from watchdog import WATCHDOG

from nvdimmfs.formats.name_hash import INT_MAX, by_hash, name_hash

#: The largest errno of Linux, EHWPOISON, which Python names since 3.14.
LARGEST_NAMED = 133

# A real shell


@pytest.mark.parametrize(
    ("script", "output"),
    [
        ("cat sys/plain/value", "hello\n"),
        ("echo changed > sys/plain/value && cat sys/plain/value", "changed\n"),
        ("printf appended >> sys/plain/value && cat sys/plain/value", "appended\n"),
        ("dd if=sys/plain/value bs=1 skip=2 count=3 status=none", "llo"),
        ("dd if=sys/plain/long bs=1000 status=none | wc -c", "4000\n"),
        ("stat -c '%A %h %s %b %o' sys/plain/value", "-rw-r--r-- 1 4096 0 4096\n"),
        ("stat -c '%A %h %s' sys/devices sys/links/zero", "drwxr-xr-x 3 0\nlrwxrwxrwx 1 0\n"),
        ("stat -f -c '%s %l %b' .", "4096 255 0\n"),
        ("find sys/devices -type f | sort | tail -n 2", "sys/devices/zero/power/control\nsys/devices/zero/value\n"),
        ("ls -A sys/many | wc -l", "300\n"),
        ("ls -a sys/devices", ".\n..\nzero\n"),
        ("readlink sys/links/zero; cat sys/links/zero/name", "../devices/zero\nzero\n"),
        ("cat sys/plain/empty", ""),
        ("chmod 600 sys/plain/value && stat -c %a sys/plain/value", "600\n"),
        ("touch -d @1 sys/plain/value && stat -c %Y sys/plain/value", "1\n"),
        ("truncate -s 0 sys/plain/value && cat sys/plain/value && stat -c %s sys/plain/value", "hello\n4096\n"),
        ("tail -c 3 sys/plain/value; head -n 1 sys/plain/constant; grep -c . sys/plain/value", "lo\nconstant\n1\n"),
    ],
)
def test_a_shell_reads_and_writes(mount, script, output):
    done = mount.sh(script)
    assert (done.stdout, done.stderr, done.returncode) == (output, "", 0)


@pytest.mark.parametrize("path", ["sys/plain/value", "dev/zero"])
def test_a_new_owner_takes_away_the_set_id_bits(mount, path):
    script = f"for mode in 6755 6745; do chmod $mode {path}; chown $(id -u) {path}; stat -c %a {path}; done"
    assert mount.sh(script).stdout == "755\n2745\n"


def test_a_listing_has_the_order_types_and_offsets_of_kernfs(mount):
    names = by_hash(f"attribute-with-a-long-name-{number:04}" for number in range(300))
    offsets = [name_hash(name) for name in names]
    behind = [*zip(names, ["-"] * 300, [*offsets[1:], INT_MAX], strict=True)]
    directory = os.open(mount.directory / "sys/many", os.O_RDONLY)
    try:
        assert list(entries(directory, size=100)) == [(".", "d", 1), ("..", "d", offsets[0]), *behind]
        os.lseek(directory, offsets[250], os.SEEK_SET)
        assert list(entries(directory)) == behind[250:]
    finally:
        os.close(directory)


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo 16 | tee sys/plain/refusal", "Device or resource busy"),
        ("echo 6 | tee sys/plain/refusal", "No such device or address"),
        ("cat sys/plain/refusal", "Device or resource busy"),
        ("cat sys/plain/write-only", "Permission denied"),
        ("echo x > sys/plain/constant", "Permission denied"),
        ("echo x > sys/plain/new", "Permission denied"),
        ("mkdir sys/plain/new", "Operation not permitted"),
        ("mkdir sys/plain", "File exists"),
        ("rm sys/plain/value", "Operation not permitted"),
        ("rmdir sys/devices/zero", "Operation not permitted"),
        ("mv sys/plain/value sys/plain/new", "Operation not permitted"),
        ("ln -s x sys/plain/new", "Operation not permitted"),
        ("ln sys/plain/value sys/plain/new", "Operation not permitted"),
        ("mkfifo sys/plain/new", "Operation not permitted"),
        ("cat sys/nothing", "No such file or directory"),
        ("cat sys/plain/value/x", "Not a directory"),
    ],
)
def test_a_shell_gets_the_kernels_errors(mount, script, complaint):
    done = mount.sh(script)
    assert complaint in done.stderr


def test_a_write_of_5000_bytes_returns_4096(mount):
    fd = os.open(mount.directory / "sys/plain/long", os.O_WRONLY)
    try:
        assert os.write(fd, b"x" * 5000) == 4096
        assert os.pwrite(fd, b"x" * 10, 12345) == 10
        assert os.write(fd, b"") == 0
    finally:
        os.close(fd)


def test_a_write_far_beyond_the_end_does_not_grow_the_file(mount):
    path = mount.directory / "sys/plain/long"
    fd = os.open(path, os.O_WRONLY)
    assert os.pwrite(fd, b"x", (1 << 63) - 2) == 1
    os.close(fd)
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        assert os.write(fd, b"xx") == 2
        assert os.fstat(fd).st_size == 4096
    finally:
        os.close(fd)


def test_nothing_can_be_executed(mount):
    program = mount.directory / "sys/plain/constant"
    program.chmod(0o755)
    with pytest.raises(PermissionError):
        subprocess.run([program], check=False)


def test_system_calls_that_sysfs_does_not_support(mount):
    fd = os.open(mount.directory / "sys/plain/value", os.O_RDWR)
    try:
        with pytest.raises(OSError, match=os.strerror(errno.ENODEV)):
            mmap.mmap(fd, 4096)
        with pytest.raises(OSError, match=re.escape(os.strerror(errno.ENOTTY))):
            fcntl.ioctl(fd, 0x5401, bytes(64))
        fcntl.flock(fd, fcntl.LOCK_EX)
        fcntl.lockf(fd, fcntl.LOCK_EX)
        os.fsync(fd)
        assert os.lseek(fd, 0, os.SEEK_END) == 4096
    finally:
        os.close(fd)


def test_a_bug_returns_eio_and_the_mount_stays_alive(mount):
    mount.may_log_warnings = True
    assert "Input/output error" in mount.sh("cat sys/plain/bug").stderr
    assert mount.sh("cat sys/plain/value").stdout == "hello\n"
    log = mount.log.read_text()
    assert log.count("Traceback") == 1
    assert "a bug on purpose" in log


@pytest.mark.parametrize("number", [0, LARGEST_NAMED, 512, 524, 4095])
def test_no_errno_makes_a_caller_wait_for_ever(mount, number):
    mount.may_log_warnings = True
    write = f"import os; os.write(os.open('sys/plain/refusal', os.O_WRONLY), b'{number}')"
    done = mount.sh(f'{sys.executable} -c "{write}"')
    assert f"[Errno {LARGEST_NAMED if number == LARGEST_NAMED else errno.EIO}]" in done.stderr


# Concurrency


def test_two_readers_interleave(mount):
    one, two = (os.open(mount.directory / "sys/plain/long", os.O_RDONLY) for _ in range(2))
    try:
        parts = [(os.read(one, 100), os.read(two, 100)) for _ in range(40)]
        first, second = (b"".join(each) for each in zip(*parts, strict=True))
        assert {first, second} == {b"a" * 4000, b"b" * 4000}
        assert (os.read(one, 1), os.read(two, 1)) == (b"", b"")
    finally:
        os.close(one)
        os.close(two)


def test_a_hundred_concurrent_readers(mount):
    path = mount.directory / "sys/plain/long"
    with ThreadPoolExecutor(100) as pool:
        texts = list(pool.map(lambda _: path.read_bytes(), range(300)))
    assert set(texts) == {b"a" * 4000, b"b" * 4000}


def test_a_hundred_concurrent_processes(mount):
    done = mount.sh("for i in $(seq 100); do cat sys/plain/value & done; wait")
    assert done.stdout == "hello\n" * 100


def test_a_changing_tree_never_shows_removed_names(mount):
    """Writers plug and unplug while readers walk the tree: once a write has returned, its stale names are gone."""
    hotplug = mount.directory / "sys/hotplug"

    def plug(name):
        device = mount.directory / "sys/devices" / name
        link = mount.directory / "sys/links" / name
        for _ in range(15):
            hotplug.write_text(f"add {name}")
            assert (device / "power/control").read_text() == "auto\n"
            assert (link / "name").read_text() == f"{name}\n"
            assert (mount.directory / "dev" / name).stat().st_size == toy.DISK_SIZE
            inode = device.stat().st_ino
            hotplug.write_text(f"replace {name}")
            assert device.stat().st_ino > inode
            hotplug.write_text(f"remove {name}")
            for gone in (device, device / "value", link, mount.directory / "dev" / name):
                assert not os.path.lexists(gone)

    def look(stop):
        while not stop.is_set():
            for directory, _, names in os.walk(mount.directory):
                for name in names:
                    try:
                        os.lstat(os.path.join(directory, name))  # noqa: PTH118
                    except OSError as error:
                        assert error.errno in (errno.ENOENT, errno.ENODEV)  # noqa: PT017

    stop = threading.Event()
    with ThreadPoolExecutor(10) as pool:
        looking = [pool.submit(look, stop) for _ in range(2)]
        try:
            for each in [pool.submit(plug, f"device{number}") for number in range(6)]:
                each.result(WATCHDOG)
        finally:
            stop.set()
        for each in looking:
            each.result(WATCHDOG)
    assert (mount.directory / "sys/devices").stat().st_nlink == 3


def test_without_cache_the_answers_are_the_same(new_mount):
    mount = new_mount(TOY, "--no-cache")
    done = mount.sh(
        "echo add one > sys/hotplug; stat -c %h sys/devices; echo clear > sys/hotplug; ls -A sys/devices dev"
    )
    assert done.stdout == "4\ndev:\n\nsys/devices:\n"


def test_a_working_directory_that_is_removed(mount):
    """The output is that of a real 6.1 kernel for a shell in the directory of a device that was removed."""
    done = mount.sh(
        """cd sys/devices/zero; exec 3<value; echo remove zero >../../hotplug
        ls -A .; stat -c %h .; stat -L -c '%h %s' /proc/self/fd/3
        mkdir x; touch y; cat value; cat <&3
        """
    )
    assert done.stdout == "2\n1 4096\n"
    assert [line.rsplit(": ", 1)[1] for line in done.stderr.splitlines()] == [
        "Operation not permitted",
        "Permission denied",
        "No such file or directory",
        "No such device",
    ]


# poll(2)


@pytest.mark.parametrize("mask", [0, select.EPOLLPRI, select.EPOLLIN | select.EPOLLERR | select.EPOLLPRI])
def test_a_notification_wakes_pollers(mount, mask):
    fd = os.open(mount.directory / "sys/plain/event", os.O_RDONLY)
    with select.epoll() as epoll:
        os.read(fd, 100)
        epoll.register(fd, mask)
        assert all(not events & select.EPOLLERR for _, events in epoll.poll(0))
        for _ in range(3):
            waker = threading.Thread(target=(mount.directory / "sys/plain/notify").write_text, args=["1"])
            waker.start()
            while not any(events & select.EPOLLERR for _, events in epoll.poll(WATCHDOG)):
                pass  # with EPOLLIN in the mask, each wait returns at once
            waker.join()
            os.pread(fd, 100, 0)
    os.close(fd)


# The bytes of devices


def test_dd_writes_and_reads_a_device(mount, tmp_path):
    data = os.urandom(16384)
    (tmp_path / "data").write_bytes(data)
    assert mount.sh(f"dd if={tmp_path}/data of=dev/zero bs=4096 seek=8 conv=fsync status=none").stderr == ""
    assert mount.sh(f"dd if=dev/zero bs=4096 skip=8 count=4 status=none | cmp - {tmp_path}/data").returncode == 0
    assert mount.sh("stat -c %s dev/zero").stdout == f"{toy.DISK_SIZE}\n"


def test_reads_and_writes_stop_at_the_end_of_a_device(mount):
    fd = os.open(mount.directory / "dev/zero", os.O_RDWR)
    try:
        assert os.pread(fd, 10, toy.DISK_SIZE - 4) == bytes(4)
        assert os.pread(fd, 10, toy.DISK_SIZE) == b""
        assert os.pwrite(fd, b"x" * 8192, toy.DISK_SIZE - 4096) == 4096
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            os.pwrite(fd, b"x", toy.DISK_SIZE)
    finally:
        os.close(fd)


def test_a_bad_sector_fails_alone(mount):
    fd = os.open(mount.directory / "dev/zero", os.O_RDONLY)
    try:
        assert os.pread(fd, 4096, 0) == bytes(4096)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            os.pread(fd, 512, 4096)
        assert os.pread(fd, 4096, 8192) == bytes(4096)
    finally:
        os.close(fd)


def test_a_shared_mapping_writes_to_the_device(mount):
    fd = os.open(mount.directory / "dev/zero", os.O_RDWR)
    with mmap.mmap(fd, 65536, offset=65536) as mapped:
        mapped[10:15] = b"hello"
        mapped.flush()
    os.close(fd)
    assert mount.sh("dd if=dev/zero bs=1 skip=65546 count=5 status=none").stdout == "hello"


def test_a_removed_device_is_empty(mount):
    """As /dev/pmem0 of a real 6.1 kernel once its namespace is unbound: even its page cache is gone."""
    fd = os.open(mount.directory / "dev/zero", os.O_RDWR)
    try:
        os.pwrite(fd, b"cached", 0)
        assert os.pread(fd, 6, 0) == b"cached"
        (mount.directory / "sys/hotplug").write_text("replace zero")
        assert os.pread(fd, 6, 0) == b""
        assert os.fstat(fd).st_size == 0
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            os.fsync(fd)
        with (mount.directory / "dev/zero").open("rb") as new:
            assert new.read(6) == bytes(6)
    finally:
        os.close(fd)
