"""Mounting and unmounting the toy tree, and the ways in which its daemon ends."""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import os
import pty
import re
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mounting
import pytest
from mounting import QUIET, TOY, Mount, cli, command, is_mounted, refusal
from watchdog import WATCHDOG

from nvdimmfs.cli import mountpoint_lock, umount
from nvdimmfs.cli.errors import CommandError
from nvdimmfs.cli.mount_table import mount_at, process_with
from nvdimmfs.formats import mount_table


@pytest.fixture
def planned_mount(fuse, tmp_path):
    """A mount that the test itself makes, in tmp_path/m."""
    mount = Mount(TOY, tmp_path / "m", tmp_path / "log")
    mount.directory.mkdir()
    yield mount
    mount.dispose()


def test_the_daemon_holds_no_open_file_directory_or_session_of_the_caller(planned_mount):
    mount = planned_mount
    read_end, write_end = os.pipe()
    argv = [*TOY, "mount", mount.directory]
    done = command(*argv, pass_fds=[write_end], cwd=mount.directory.parent, stdin=read_end)
    assert done.returncode == 0
    mount.find_daemon()
    os.close(write_end)
    assert os.read(read_end, 1) == b""  # the daemon does not hold the other end open
    os.close(read_end)
    process = Path(f"/proc/{mount.pid}")
    assert (process / "cwd").readlink() == Path("/")
    assert [str((process / "fd" / number).readlink()) for number in "012"] == ["/dev/null"] * 3
    assert os.getsid(mount.pid) not in (mount.pid, os.getsid(0))


def test_the_daemon_holds_no_pipe_or_terminal_of_the_caller(planned_mount, tmp_path):
    """`$(nvdimmfs mount DIR)` ends when the command does, not with the daemon; so does a terminal."""
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
        timeout=WATCHDOG,
        check=True,
    )
    os.close(terminal)
    mount.find_daemon()
    assert done.returncode == 0
    assert os.read(control, 100) == b"done\r\n"
    with pytest.raises(OSError, match="Input/output error"):  # the daemon does not hold the terminal open
        os.read(control, 100)
    os.close(control)
    assert (mount.directory / "sys/plain/value").read_text() == "hello\n"


def test_mount_and_umount_work_without_standard_files(planned_mount):
    mount = planned_mount
    closed = "<&- >&- 2>&-"
    program = " ".join(TOY)
    command("sh", "-c", f"{program} mount {mount.directory} --log {mount.log} {' '.join(QUIET)} {closed}")
    mount.find_daemon()
    assert (mount.directory / "sys/plain/value").read_text() == "hello\n"
    done = command("sh", "-c", f"{program} umount {mount.directory} {closed}")
    assert (done.returncode, is_mounted(mount.directory)) == (0, False)


def test_a_failed_mount_leaves_no_process(planned_mount, tmp_path):
    """The daemon prepares while the machine file is read; it must be gone when the file turns out to be invalid."""
    (tmp_path / "m.toml").write_text("[[bus]]\nname = 5\n")
    process = subprocess.Popen(
        [*mounting.MACHINE, "mount", planned_mount.directory, "--machine", tmp_path / "m.toml"],
        stderr=subprocess.PIPE,
        text=True,
        env=mounting.environment(),
        start_new_session=True,
    )
    _, errors = process.communicate(timeout=WATCHDOG)
    assert process.returncode == 2
    assert errors.startswith(f"nvdimmfs: {tmp_path}/m.toml: bus[0]")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_umount_waits_until_the_daemon_has_ended(mount):
    done = mount.umount()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert mount.has_ended(timeout=0)
    assert not is_mounted(mount.directory)
    assert list(mount.directory.iterdir()) == []
    assert refusal(mount.umount()) == f"{mount.directory} is not mounted"


def test_umount_accepts_any_name_of_the_directory(mount, tmp_path):
    (tmp_path / "link").symlink_to(mount.directory)
    done = cli("umount", "link/", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert mount.has_ended(timeout=0)


def test_a_directory_name_with_blanks_and_special_characters(planned_mount, tmp_path):
    mount = planned_mount
    mount.directory = mount.directory.rename(tmp_path / "a b\tc\\d \u00fc\n")
    mount.start()
    assert (mount.directory / "sys/plain/value").read_text() == "hello\n"
    done = mount.umount()
    assert (done.returncode, done.stderr) == (0, "")
    assert mount.has_ended(timeout=0)


def test_a_relative_directory_name(planned_mount, tmp_path):
    mount = planned_mount
    done = command(*TOY, "mount", "m", "--log", "log", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    mount.find_daemon()
    assert mount.log.exists()
    assert command(*TOY, "umount", "m", cwd=tmp_path).returncode == 0


def test_a_bind_mount_can_be_unmounted_alone(mount, tmp_path):
    """The daemon goes on serving the first mount."""
    other = tmp_path / "other"
    other.mkdir()
    if command("mount", "--bind", mount.directory, other).returncode:
        pytest.skip("needs root")
    done = cli("umount", other)
    assert (done.returncode, done.stderr, is_mounted(other)) == (0, "", False)
    assert (mount.directory / "sys/plain/value").read_text() == "hello\n"
    assert mount.umount().returncode == 0
    assert mount.has_ended(timeout=0)


def test_a_busy_mount_is_reported_and_can_be_unmounted_lazily(mount):
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


def test_umount_reports_a_daemon_that_was_stopped_while_it_exits(tmp_path):
    with subprocess.Popen(["sleep", "1000"]) as daemon:
        try:
            daemon.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, daemon.pid, os.WSTOPPED)
            descriptor = os.pidfd_open(daemon.pid)
            with pytest.raises(CommandError, match=f"process {daemon.pid}.* is stopped: .*kill -CONT {daemon.pid}"):
                umount._wait_for_exit(descriptor, daemon.pid, mount_table.Mount(tmp_path, "", "none"))
            os.close(descriptor)
        finally:
            daemon.kill()


def test_umount_waits_while_another_namespace_has_a_private_copy_of_the_mount(mount, monkeypatch):
    """As a sandbox or a container has it where the host's mounts are private."""
    private = ["unshare", "-m", "--propagation", "private"]
    if os.geteuid() != 0 or command(*private, "true").returncode:
        pytest.skip("needs a private mount namespace")
    monkeypatch.setattr(umount, "_LOOKS_PER_SEARCH", 1)
    of_this_mount = mount_at(mount.directory)
    with (
        subprocess.Popen([*private, "sh", "-c", "echo; read line"], stdin=-1, stdout=-1) as holder,
        ThreadPoolExecutor(1) as pool,
    ):
        holder.stdout.readline()
        searched = threading.Event()

        def search(of):
            searched.set()
            return process_with(of)

        monkeypatch.setattr(umount, "process_with", search)
        unmounted = pool.submit(umount.run, argparse.Namespace(directory=str(mount.directory), lazy=False))
        assert searched.wait(WATCHDOG)
        assert not is_mounted(mount.directory)
        assert process_with(of_this_mount)
        assert not unmounted.done()
        holder.communicate(b"\n")
        assert unmounted.result(WATCHDOG) == 0


def test_a_second_mount_over_that_of_a_stopped_daemon_is_refused(mount):
    mount.kill(signal.SIGSTOP)
    line = refusal(cli("mount", mount.directory))
    assert line == f"{mount.directory} is already a mount of nvdimmfs, and its daemon does not answer"
    mount.kill(signal.SIGCONT)


def test_one_of_several_concurrent_mounts_succeeds(planned_mount):
    mount = planned_mount
    with ThreadPoolExecutor(5) as pool:
        done = list(pool.map(lambda _: command(*TOY, "mount", mount.directory, *QUIET), range(5)))
    mount.find_daemon()
    assert sorted(each.returncode for each in done) == [0, 1, 1, 1, 1]
    lines = {refusal(each) for each in done if each.returncode}
    assert lines == {f"{mount.directory} is already a mount of nvdimmfs"}
    assert mount.umount().returncode == 0
    assert not is_mounted(mount.directory)


def test_mount_waits_for_a_locked_directory_but_not_forever(planned_mount, monkeypatch):
    directory = planned_mount.directory
    monkeypatch.setattr(mountpoint_lock, "LOCK_TIMEOUT", 0)
    holder = os.open(directory, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with (
        pytest.raises(CommandError, match=r"is locked by another process"),
        mountpoint_lock.locked_mountpoint(directory),
    ):
        pytest.fail("the lock was taken all the same")
    os.close(holder)
    with mountpoint_lock.locked_mountpoint(directory) as own:
        assert os.path.samestat(os.fstat(own.descriptor), directory.stat())
    with mountpoint_lock.locked_mountpoint(directory):  # the lock left no file behind
        assert list(directory.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_unmounts(mount, number):
    mount.kill(number)
    assert mount.has_ended()
    assert not is_mounted(mount.directory)


def test_a_signal_unmounts_even_a_busy_mount(mount):
    fd = os.open(mount.directory / "sys/plain/value", os.O_RDONLY)
    mount.kill(signal.SIGTERM)
    assert mount.has_ended()
    assert not is_mounted(mount.directory)
    with pytest.raises(OSError, match=re.escape(os.strerror(errno.ENOTCONN))):
        os.read(fd, 1)
    with contextlib.suppress(OSError):
        os.close(fd)


def test_a_signal_during_requests_unmounts(mount):
    """Each waiting process gets a reply or an error, and none hangs."""
    rounds = threading.Semaphore(0)

    def work():
        while True:
            (mount.directory / "sys/hotplug").write_text("replace zero")
            list((mount.directory / "sys/devices").iterdir())
            rounds.release()

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work) for _ in range(4)]
        for _ in range(40):
            assert rounds.acquire(timeout=WATCHDOG)
        mount.kill(signal.SIGTERM)
        assert mount.has_ended()
        assert all(isinstance(each.exception(WATCHDOG), OSError) for each in working)


def test_sigusr1_prints_the_stack_of_every_thread(mount):
    mount.kill(signal.SIGUSR1)
    mount.umount()
    assert "most recent call first" in mount.log.read_text()


@pytest.fixture
def foreground(planned_mount):
    """A server in the foreground that has reported that it is mounted, and its mount."""
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
    _, log = server.communicate(timeout=WATCHDOG)
    assert server.returncode == 0
    assert signal.Signals(number).name in log
    assert "Traceback" not in log
    assert not is_mounted(mount.directory)


def test_in_the_foreground_umount_ends_it(foreground):
    server, mount = foreground
    assert mount.umount().returncode == 0
    server.communicate(timeout=WATCHDOG)
    assert server.returncode == 0


def test_systemd_is_notified(planned_mount, tmp_path):
    mount = planned_mount
    address = f"\0nvdimmfs-test-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(WATCHDOG)
        systemd.bind(address)
        environment = mounting.environment() | {"NOTIFY_SOCKET": "@" + address[1:]}
        assert command(*TOY, "mount", mount.directory, "--log", mount.log, env=environment).returncode == 0
        mount.find_daemon()
        assert systemd.recv(100).decode().split() == ["READY=1", f"MAINPID={mount.pid}"]
        mount.umount()
        assert systemd.recv(100).decode().split()[0] == "STOPPING=1"
