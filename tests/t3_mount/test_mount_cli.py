"""The command line and real mounts of the toy tree, poked by real programs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import pty
import re
import select
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mounting
import pytest
import toy
from mounting import MACHINE, PATIENCE, TOY, Mount, cli, command, is_mounted, refusal

from nvdimmfs.fuse import requirements

#: Ranges that the default machine has memory for, so that there is nothing to warn of.
QUIET = ("--memmap", "512M!4G")

# The command line by itself


def test_version():
    done = cli("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"nvdimmfs \d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.parametrize("arguments", [("--help",), ("mount", "--help"), ("umount", "--help")])
def test_help(arguments):
    done = cli(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: nvdimmfs" in done.stdout


def test_help_into_a_closed_pipe_is_silent():
    done = command("sh", "-c", f"{MACHINE[0]} -m nvdimmfs --help | true")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [(), ("mount",), ("umount",), ("frobnicate",), ("mount", "--frobnicate", "x"), ("mount", "a", "b"), ("umount", "")],
)
def test_misuse_is_one_line(arguments, tmp_path):
    refusal(cli(*arguments, cwd=tmp_path), status=1 if arguments == ("umount", "") else 2)


def test_nothing_heavy_is_loaded_before_it_is_needed():
    script = (
        "import sys; sys.argv[1:] = ['umount', '/']; from nvdimmfs.cli.main import main; main(); print(*sys.modules)"
    )
    loaded = command(MACHINE[0], "-c", script).stdout.split()
    assert "nvdimmfs.cli.umount" in loaded
    assert not {"pyfuse3", "trio", "attrs", "nvdimmfs.cli.mount"} & set(loaded)


# What cannot be mounted


@pytest.mark.parametrize("sub_command", ["mount", "umount"])
def test_a_missing_directory(sub_command, tmp_path):
    assert refusal(cli(sub_command, tmp_path / "missing")) == f"{tmp_path / 'missing'} does not exist"


def test_a_file_is_no_directory(tmp_path):
    (tmp_path / "file").touch()
    assert refusal(cli("mount", tmp_path / "file")) == f"{tmp_path / 'file'} is not a directory"


def test_a_directory_that_is_not_empty(tmp_path):
    (tmp_path / "file").touch()
    assert refusal(cli("mount", tmp_path)) == f"{tmp_path} is not empty"


@pytest.mark.parametrize("memmap", ["512M!", "512M@4G@", "banana", "512M!4G,", "0!4G", "512M"])
def test_a_memmap_that_the_kernel_would_not_honour(memmap, tmp_path):
    assert "memmap" in refusal(cli("mount", tmp_path, "--memmap", memmap), status=2)


@pytest.mark.parametrize("ram", ["", "0", "4Q", "-1", "G", "4 G"])
def test_ram_that_is_no_size(ram, tmp_path):
    assert "--ram" in refusal(cli("mount", tmp_path, f"--ram={ram}"), status=2)


def test_a_mount_of_something_else(fuse):
    assert refusal(cli("mount", "/proc")) == "/proc is already a mount point (of proc)"
    assert refusal(cli("umount", "/proc")) == "/proc is a mount of proc, not of nvdimmfs"


def test_what_is_not_mounted(tmp_path):
    assert refusal(cli("umount", tmp_path)) == f"{tmp_path} is not mounted"


def test_a_second_mount_in_the_same_place(mount):
    assert refusal(cli("mount", mount.directory)) == f"{mount.directory} is already a mount of nvdimmfs"
    assert (mount.directory / "sys/plain/value").read_text() == "hello\n"


def test_a_log_that_cannot_be_written(fuse, tmp_path):
    (tmp_path / "m").mkdir()
    done = command(*TOY, "mount", tmp_path / "m", "--log", tmp_path / "missing" / "log", *QUIET)
    assert refusal(done) == f"{tmp_path}/missing/log: No such file or directory"
    assert not is_mounted(tmp_path / "m")


def in_private_namespace(*commands):
    """Shell lines to run where mounts are nobody else's."""
    if os.geteuid() != 0 or command("unshare", "-m", "true").returncode:
        pytest.skip("needs a mount namespace of its own")
    return command("unshare", "-m", "sh", "-ec", "\n".join(commands))


def test_without_dev_fuse(fuse, tmp_path):
    done = in_private_namespace("mount -t tmpfs none /dev", f"exec {' '.join(MACHINE)} mount {tmp_path}")
    assert refusal(done).startswith("/dev/fuse is missing: ")


def as_nobody(*argv, **options):
    """Run a command as a user without any rights, if that user can run Python at all."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be somebody else")
    options |= {"user": 65534, "group": 65534, "extra_groups": []}
    try:
        usable = command(MACHINE[0], "-c", "import nvdimmfs.cli.mount", **options).returncode == 0
    except PermissionError:
        usable = False
    if not usable:
        pytest.skip("another user may not run this Python")
    return command(*argv, **options)


def test_without_fusermount3_only_root_can_mount(fuse, tmp_path):
    tmp_path.chmod(0o777)
    environment = mounting.environment() | {"PATH": str(tmp_path)}
    done = as_nobody(*MACHINE, "mount", tmp_path, env=environment)
    assert refusal(done).startswith("fusermount3 is missing")


def test_the_helper_is_asked_for_only_when_it_is_needed(monkeypatch, tmp_path):
    monkeypatch.setattr(requirements, "FUSE_DEVICE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(requirements.MountError, match="fusermount3 is missing"):
        requirements.require_fuse()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    requirements.require_fuse()


def test_the_helper_does_not_open_what_the_user_may_not(monkeypatch, tmp_path):
    helper = tmp_path / "fusermount3"
    helper.touch()
    helper.chmod(0o4755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: path == str(helper))
    monkeypatch.setattr(requirements, "FUSE_DEVICE", tmp_path)
    with pytest.raises(requirements.MountError, match=r"no permission to use .* chmod 666"):
        requirements.require_fuse()


# Mount and unmount


@pytest.fixture
def planned_mount(fuse, tmp_path):
    """A mount that a test makes itself, in tmp_path/m."""
    mount = Mount(TOY, tmp_path / "m", tmp_path / "log")
    mount.directory.mkdir()
    yield mount
    mount.dispose()


def test_mount_leaves_a_daemon_that_holds_nothing_of_the_callers(planned_mount):
    mount = planned_mount
    read_end, write_end = os.pipe()
    argv = [*TOY, "mount", mount.directory]
    done = command(*argv, pass_fds=[write_end], cwd=mount.directory.parent, stdin=read_end)
    assert done.returncode == 0
    mount.find_daemon()
    os.close(write_end)
    assert os.read(read_end, 1) == b""  # nobody has the other end open any more
    os.close(read_end)
    process = Path(f"/proc/{mount.pid}")
    assert (process / "cwd").readlink() == Path("/")
    assert [str((process / "fd" / number).readlink()) for number in "012"] == ["/dev/null"] * 3
    assert os.getsid(mount.pid) not in (mount.pid, os.getsid(0))


def test_mount_holds_no_pipe_of_the_callers(planned_mount, tmp_path):
    """`$(nvdimmfs mount DIR)` ends with the command, not with the daemon, and so does a terminal."""
    mount = planned_mount
    control, terminal = pty.openpty()
    shell = f"x=$({' '.join(TOY)} mount {mount.directory} --log {mount.log} 2>&1 {' '.join(QUIET)}); echo done $x"
    done = subprocess.run(
        ["sh", "-c", shell],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        env=mounting.environment(),
        timeout=PATIENCE,
        check=True,
    )
    os.close(terminal)
    mount.find_daemon()
    assert done.returncode == 0
    assert os.read(control, 100) == b"done\r\n"
    with pytest.raises(OSError, match="Input/output error"):  # nobody has the terminal open any more
        os.read(control, 100)
    os.close(control)
    assert (mount.directory / "sys/plain/value").read_text() == "hello\n"


def test_umount_waits_until_the_daemon_has_ended(mount):
    done = mount.umount()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert mount.has_ended(patience=0)
    assert not is_mounted(mount.directory)
    assert list(mount.directory.iterdir()) == []
    assert refusal(mount.umount()) == f"{mount.directory} is not mounted"


def test_umount_takes_any_name_of_the_directory(mount, tmp_path):
    (tmp_path / "link").symlink_to(mount.directory)
    done = cli("umount", "link/", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert mount.has_ended(patience=0)


def test_a_name_with_blanks_and_other_letters(planned_mount, tmp_path):
    mount = planned_mount
    mount.directory = mount.directory.rename(tmp_path / "a b\tc\\d \u00fc\n")
    mount.start()
    assert (mount.directory / "sys/plain/value").read_text() == "hello\n"
    done = mount.umount()
    assert (done.returncode, done.stderr) == (0, "")
    assert mount.has_ended(patience=0)


def test_a_relative_directory(planned_mount, tmp_path):
    mount = planned_mount
    done = command(*TOY, "mount", "m", "--log", "log", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    mount.find_daemon()
    assert mount.log.exists()
    assert command(*TOY, "umount", "m", cwd=tmp_path).returncode == 0


def test_a_busy_mount_says_so_and_goes_lazily(mount):
    with (mount.directory / "sys/plain/value").open() as file:
        assert f"{mount.directory} is busy" in refusal(mount.umount())
        assert file.read() == "hello\n"
        done = mount.umount("--lazy")
        assert (done.returncode, done.stderr) == (0, "")
        assert not is_mounted(mount.directory)
        file.seek(0)
        assert file.read() == "hello\n"
    assert mount.has_ended()


def test_a_killed_daemon_leaves_a_stale_mount_that_umount_cleans_up(mount):
    mount.kill(signal.SIGKILL)
    assert mount.has_ended()
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.ENOTCONN))):
        (mount.directory / "sys/plain/value").read_text()
    hint = refusal(cli("mount", mount.directory))
    assert "stale mount" in hint
    assert f"`nvdimmfs umount {mount.directory}`" in hint
    done = mount.umount()
    assert (done.returncode, done.stderr) == (0, "")
    assert not is_mounted(mount.directory)
    mount.start()
    assert (mount.directory / "sys/plain/value").read_text() == "hello\n"


def test_a_stopped_daemon_is_unmounted_all_the_same(mount):
    mount.kill(signal.SIGSTOP)
    assert "does not answer" in refusal(mount.umount())
    assert not is_mounted(mount.directory)


def test_a_second_mount_in_the_place_of_a_stopped_daemon(mount):
    mount.kill(signal.SIGSTOP)
    said = refusal(cli("mount", mount.directory))
    assert said == f"{mount.directory} is already a mount of nvdimmfs, and its daemon does not answer"
    mount.kill(signal.SIGCONT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unmounts(mount, number):
    mount.kill(number)
    assert mount.has_ended()
    assert not is_mounted(mount.directory)


def test_a_signal_unmounts_even_what_is_in_use(mount):
    fd = os.open(mount.directory / "sys/plain/value", os.O_RDONLY)
    mount.kill(signal.SIGTERM)
    assert mount.has_ended()
    assert not is_mounted(mount.directory)
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.ENOTCONN))):
        os.read(fd, 1)
    with contextlib.suppress(OSError):
        os.close(fd)


def test_a_signal_in_the_middle_of_work_unmounts(mount):
    """Whoever waits gets an answer or an error, and nobody hangs."""

    def work():
        while True:
            (mount.directory / "sys/hotplug").write_text("replace zero")
            list((mount.directory / "sys/devices").iterdir())

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work) for _ in range(4)]
        time.sleep(0.2)
        mount.kill(signal.SIGTERM)
        assert mount.has_ended()
        assert all(isinstance(each.exception(PATIENCE), OSError) for each in working)


def test_sigusr1_prints_where_every_thread_stands(mount):
    mount.kill(signal.SIGUSR1)
    mount.umount()
    assert "most recent call first" in mount.log.read_text()


@pytest.fixture
def foreground(planned_mount):
    """A server in the foreground that has just said that it is mounted, and its mount."""
    mount = planned_mount
    server = subprocess.Popen(
        [*TOY, "mount", mount.directory, "--foreground", *QUIET],
        stderr=subprocess.PIPE,
        text=True,
        env=mounting.environment(),
        start_new_session=True,
    )
    try:
        assert server.stderr is not None
        assert f"mounted on {mount.directory}; Ctrl-C unmounts" in server.stderr.readline()
        mount.find_daemon()
        yield server, mount
    finally:
        server.kill()
        server.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_ctrl_c_unmounts(foreground, number):
    server, mount = foreground
    assert mount.pid == server.pid
    server.send_signal(number)
    _, log = server.communicate(timeout=PATIENCE)
    assert server.returncode == 0
    assert signal.Signals(number).name in log
    assert "Traceback" not in log
    assert not is_mounted(mount.directory)


def test_in_the_foreground_umount_ends_it(foreground):
    server, mount = foreground
    assert mount.umount().returncode == 0
    server.communicate(timeout=PATIENCE)
    assert server.returncode == 0


def test_systemd_is_told(planned_mount, tmp_path):
    mount = planned_mount
    address = f"\0nvdimmfs-test-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(PATIENCE)
        systemd.bind(address)
        environment = mounting.environment() | {"NOTIFY_SOCKET": "@" + address[1:]}
        assert command(*TOY, "mount", mount.directory, "--log", mount.log, env=environment).returncode == 0
        mount.find_daemon()
        assert systemd.recv(100).decode().split() == ["READY=1", f"MAINPID={mount.pid}"]
        mount.umount()
        assert systemd.recv(100).decode().split()[0] == "STOPPING=1"


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
def test_a_shell_pokes_it(mount, script, output):
    done = mount.sh(script)
    assert (done.stdout, done.stderr, done.returncode) == (output, "", 0)


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
def test_a_shell_is_refused_in_the_kernels_words(mount, script, complaint):
    done = mount.sh(script)
    assert complaint in done.stderr


def test_a_write_of_5000_bytes_counts_4096(mount):
    fd = os.open(mount.directory / "sys/plain/long", os.O_WRONLY)
    try:
        assert os.write(fd, b"x" * 5000) == 4096
        assert os.pwrite(fd, b"x" * 10, 12345) == 10
        assert os.write(fd, b"") == 0
    finally:
        os.close(fd)


def test_a_write_far_behind_the_end_leaves_the_file_as_long_as_it_was(mount):
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


def test_system_calls_that_sysfs_does_not_know(mount):
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


def test_a_bug_gives_eio_and_the_mount_lives_on(mount):
    mount.log_may_be_loud = True
    assert "Input/output error" in mount.sh("cat sys/plain/bug").stderr
    assert mount.sh("cat sys/plain/value").stdout == "hello\n"
    log = mount.log.read_text()
    assert log.count("Traceback") == 1
    assert "a bug on purpose" in log


@pytest.mark.parametrize("number", [0, 511, 512, 524, 4095])
def test_no_errno_makes_a_client_wait_for_ever(mount, number):
    mount.log_may_be_loud = True
    done = mount.sh(f"echo {number} | timeout 5 tee sys/plain/refusal")
    assert ("Unknown error 511" if number == 511 else "Input/output error") in done.stderr


# Many at a time


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


def test_a_hundred_readers_at_once(mount):
    path = mount.directory / "sys/plain/long"
    with ThreadPoolExecutor(100) as pool:
        texts = list(pool.map(lambda _: path.read_bytes(), range(300)))
    assert set(texts) == {b"a" * 4000, b"b" * 4000}


def test_a_hundred_processes_at_once(mount):
    done = mount.sh("for i in $(seq 100); do cat sys/plain/value & done; wait")
    assert done.stdout == "hello\n" * 100


def test_a_changing_tree_never_shows_what_is_gone(mount):
    """Writers plug and unplug while others look: after its write returned nobody sees a stale name, and none hangs."""
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
                each.result(PATIENCE)
        finally:
            stop.set()
        for each in looking:
            each.result(PATIENCE)
    assert (mount.directory / "sys/devices").stat().st_nlink == 3


def test_without_cache_it_answers_the_same(new_mount):
    mount = new_mount(TOY, "--no-cache")
    done = mount.sh(
        "echo add one > sys/hotplug; stat -c %h sys/devices; echo clear > sys/hotplug; ls -A sys/devices dev"
    )
    assert done.stdout == "4\ndev:\n\nsys/devices:\n"


def test_a_directory_that_vanishes_under_a_shell(mount):
    """What a real 6.1 kernel shows to a shell that stands in a directory whose device was removed."""
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
def test_a_notification_wakes_whoever_polls(mount, mask):
    fd = os.open(mount.directory / "sys/plain/event", os.O_RDONLY)
    with select.epoll() as epoll:
        os.read(fd, 100)
        epoll.register(fd, mask)
        assert all(not events & select.EPOLLERR for _, events in epoll.poll(0.05))
        for _ in range(3):
            waker = threading.Timer(0.05, (mount.directory / "sys/plain/notify").write_text, ["1"])
            waker.start()
            started = time.monotonic()
            while not any(events & select.EPOLLERR for _, events in epoll.poll(PATIENCE)):
                assert time.monotonic() - started < PATIENCE
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


def test_a_device_ends_where_it_ends(mount):
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


def test_mapped_bytes_are_the_device(mount):
    fd = os.open(mount.directory / "dev/zero", os.O_RDWR)
    with mmap.mmap(fd, 65536, offset=65536) as mapped:
        mapped[10:15] = b"hello"
        mapped.flush()
    os.close(fd)
    assert mount.sh("dd if=dev/zero bs=1 skip=65546 count=5 status=none").stdout == "hello"


def test_a_vanished_device_is_empty(mount):
    """As /dev/pmem0 of a real 6.1 kernel once its namespace is unbound: nothing is left, not even what was cached."""
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


# A machine


def test_a_machine_is_mounted(new_mount):
    mount = new_mount(MACHINE)
    assert sorted(each.name for each in mount.directory.iterdir()) == ["dev", "proc", "sys"]
    done = mount.sh("cat sys/bus/nd/devices/pfn0.0/mode; ls dev; grep -c 'Persistent Memory (legacy)' proc/iomem")
    assert (done.stdout, done.stderr) == ("none\npmem0\npmem1\n2\n", "")


def test_two_machines_side_by_side_know_nothing_of_each_other(new_mount):
    one, two = new_mount(MACHINE, *QUIET), new_mount(MACHINE, *QUIET)
    pmem = "dev/pmem0"
    assert one.sh(f"printf one | dd of={pmem} conv=notrunc status=none").stderr == ""
    assert two.sh(f"head -c 3 {pmem} | od -An -tx1").stdout == " 00 00 00\n"
    assert two.sh("echo namespace0.0 > sys/bus/nd/drivers/nd_pmem/unbind; ls dev").stdout == ""
    assert one.sh(f"ls dev; head -c 3 {pmem}").stdout == "pmem0\none"
    assert one.umount().returncode == 0
    assert two.sh("cat sys/bus/nd/devices/namespace0.0/size").stdout == f"{512 << 20}\n"


def test_the_ranges_of_memmap_are_the_regions(new_mount):
    mount = new_mount(MACHINE, "--memmap", "64M!4G,128M!0x140000000", "--ram", "8G")
    done = mount.sh("cat sys/bus/nd/devices/region*/size")
    assert done.stdout == f"{64 << 20}\n{128 << 20}\n"


def test_a_described_machine_is_mounted(new_mount):
    mount = new_mount(MACHINE, "--machine", "nfit_test")
    done = mount.sh("cat sys/bus/nd/devices/ndbus*/provider; ls sys/bus/nd/devices | grep -c nmem; ls dev")
    assert (done.stdout, done.stderr) == ("nfit_test.0\nnfit_test.1\n6\npmem0\npmem1\npmem2\npmem3\n", "")


@pytest.mark.parametrize("machine", ["no-such-machine", "nothing.toml"])
def test_a_machine_that_is_not_there(machine, tmp_path):
    assert machine in refusal(cli("mount", tmp_path, "--machine", machine), status=2)


def test_options_that_a_machine_cannot_have(tmp_path):
    assert "ram" in refusal(cli("mount", tmp_path, "--machine", "nfit_test", "--ram", "16G"), status=2).lower()
