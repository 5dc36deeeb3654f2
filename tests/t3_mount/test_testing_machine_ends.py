"""Whatever happens to a test with a `Machine`, nothing is left of it."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import mounting
import pytest
import sandboxes
from ordinary_user import USER
from watchdog import WATCHDOG

from nvdimmfs.testing import Machine

#: What each program of these tests begins with.
HEAD = f"""
import os, signal, sys, threading
sys.path.insert(0, {str(mounting.ROOT)!r})
from nvdimmfs.testing import Machine
machine = Machine(memmap="512M!4G")
SIZE = "/sys/bus/nd/devices/region0/size"
assert machine.read(SIZE) == "536870912\\n"
"""


@pytest.fixture(autouse=True)
def can_mount(fuse):
    """All of it needs a mount."""


@pytest.fixture
def temporary(tmp_path):
    """The $TMPDIR of a program, in which nothing may be left."""
    folder = tmp_path / "temporary"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    yield folder
    assert not mounting.mounted_below(folder)
    assert not list(folder.iterdir())


def program(body):
    return [sys.executable, "-c", HEAD + textwrap.dedent(body)]


def environment(temporary, tag=""):
    return (sandboxes.tagged(tag) if tag else mounting.environment()) | {"TMPDIR": str(temporary)}


def run(body, temporary, tag=""):
    """Run a program to its end; what it prints."""
    done = subprocess.run(
        program(body), env=environment(temporary, tag), capture_output=True, text=True, timeout=WATCHDOG, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@contextlib.contextmanager
def started(body, temporary, tag):
    """A program that prints a line when it is ready, and is killed at the end."""
    with subprocess.Popen(
        program(body), env=environment(temporary, tag), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def wait_until_gone(temporary, tag):
    sandboxes.wait_for_end_of(tag)
    sandboxes.wait_until(lambda: not mounting.mounted_below(temporary) and not list(temporary.iterdir()))


def test_a_test_that_forgets_to_close(temporary, tag):
    run("", temporary, tag)
    wait_until_gone(temporary, tag)


def test_a_test_that_is_killed(temporary, tag):
    with started("print('ready', flush=True); signal.pause()", temporary, tag):
        assert len(mounting.mounted_below(temporary)) == 1
    wait_until_gone(temporary, tag)


def test_a_test_that_is_killed_with_a_running_command(temporary, tag, sandbox):
    body = """
        reader, writer = os.pipe()
        command = ["sh", "-c", "exec 3>/dev/pmem0; echo > ready; sleep 1000"]
        threading.Thread(target=machine.run, args=(command,), kwargs={"cwd": os.environ["TMPDIR"]}, daemon=True).start()
        while not os.path.exists(os.environ["TMPDIR"] + "/ready"):
            pass
        os.unlink(os.environ["TMPDIR"] + "/ready")
        print("ready", flush=True)
        signal.pause()
    """
    before = loops()
    with started(body, temporary, tag):
        pass
    wait_until_gone(temporary, tag)
    sandboxes.wait_until(lambda: loops() <= before)


def loops():
    """The loop devices that the host has."""
    folder = Path("/sys/block")
    return {entry.name for entry in folder.iterdir() if entry.name.startswith("loop") and (entry / "loop").exists()}


def test_a_test_that_is_killed_together_with_the_process_of_the_machine(temporary, tag):
    with started("print('ready', flush=True); signal.pause()", temporary, tag) as process:
        (folder,) = mounting.mounted_below(temporary)
        server = int(os.getxattr(folder, mounting.DAEMON_XATTR).split()[0])
        os.kill(server, signal.SIGSTOP)
        os.kill(process.pid, signal.SIGKILL)
        os.kill(server, signal.SIGKILL)
    wait_until_gone(temporary, tag)


def test_a_process_that_was_forked_uses_the_machine_and_leaves_it(temporary, tag):
    body = """
        child = os.fork()
        if child == 0:
            assert machine.read(SIZE) == "536870912\\n"
            machine.write("/sys/bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
            assert not machine.exists("/dev/pmem0")
            with Machine("qemu-nfit") as own:
                assert own.exists("/dev/pmem1")
                own.write("/sys/bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
                assert [event.action for event in own.events][-1] == "unbind"
            assert {event.action for event in machine.events} <= {"remove", "unbind", "change"}
            machine.close()
            sys.exit(5)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 5
        assert os.path.ismount(machine.path)
        assert "unbind" in [event.action for event in machine.events]
    """
    run(body, temporary, tag)
    wait_until_gone(temporary, tag)


def test_processes_of_multiprocessing_have_machines_of_their_own(temporary, tag):
    body = """
        import multiprocessing
        def size(memmap):
            with Machine(memmap=memmap) as own:
                return own.read(SIZE)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(size, ["64M!4G", "128M!4G"]) == ["67108864\\n", "134217728\\n"]
            pool.close()
            pool.join()
        machine.close()
    """
    run(body, temporary, tag)
    wait_until_gone(temporary, tag)


def test_a_machine_that_is_forgotten_is_unmounted():
    machine = Machine(memmap="512M!4G")
    path = machine.path
    del machine
    gc.collect()
    assert not mounting.is_mounted(path)
    assert not path.exists()


def test_a_machine_whose_process_is_killed():
    with Machine(memmap="512M!4G") as machine:
        path = machine.path
        server = int(os.getxattr(path, mounting.DAEMON_XATTR).split()[0])
        descriptor = os.pidfd_open(server)
        os.kill(server, signal.SIGKILL)
        try:
            sandboxes.wait_until(lambda: not Path(f"/proc/{server}").exists())
        finally:
            os.close(descriptor)
        with pytest.raises(OSError) as failure:  # noqa: PT011  # the errno depends on what the template has done
            machine.read("/sys/bus/nd/devices/region0/size")
        assert failure.value.errno in (errno.ENOTCONN, errno.ENOENT)
        assert failure.value.__notes__ == [f"the process of the machine on {path} has ended"]
        assert len(machine.events) == 0
    assert not mounting.is_mounted(path)
    assert not path.exists()


def test_a_killed_template_is_replaced(temporary, tag):
    body = """
        template = int(open(f"/proc/self/task/{os.getpid()}/children").read())
        os.kill(template, signal.SIGKILL)
        with Machine(memmap="64M!4G") as other:
            assert other.read(SIZE) == "67108864\\n"
        machine.close()
        import shutil
        shutil.rmtree(machine.path.parent)  # the template would have removed it
    """
    run(body, temporary, tag)
    wait_until_gone(temporary, tag)


def test_a_log_goes_to_stderr_at_the_end(capfd):
    with Machine(memmap="512M!4G") as machine:
        server = int(os.getxattr(machine.path, mounting.DAEMON_XATTR).split()[0])
        os.kill(server, signal.SIGUSR1)  # prints the stack of each thread to its stderr
        machine.read("/sys/bus/nd/devices/region0/size")
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "nvdimmfs: the machine has logged:"
    assert any("thread" in line for line in lines)


@pytest.mark.skipif(not sandboxes.is_root(), reason="needs root, to become an ordinary user")
def test_an_ordinary_user(temporary, tag):
    if reason := sandboxes.why_no_ordinary_user():
        pytest.skip(reason)
    os.chown(temporary, USER, USER)
    body = """
        assert machine.path.stat().st_uid == os.getuid() != 0
        try:
            machine.write("/sys/bus/nd/drivers/nd_pmem/unbind", "x")
        except OSError as refusal:
            assert "x" in refusal.__notes__[0]
        done = machine.run(["sh", "-c", "ls -d /dev/pmem0 /sys/bus/nd/devices/region0"], check=True)
        assert done.stdout.split() == ["/dev/pmem0", "/sys/bus/nd/devices/region0"]
        with machine.checkpoint():
            machine.write("/sys/bus/nd/drivers/nd_pmem/unbind", "namespace0.0")
        machine.close()
        assert not machine.path.exists()
    """
    argv = [*sandboxes.as_ordinary_user(temporary), "env", f"TMPDIR={temporary}", *program(body)]
    done = subprocess.run(
        argv, env=sandboxes.tagged(tag), cwd="/", capture_output=True, text=True, timeout=WATCHDOG, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    wait_until_gone(temporary, tag)


def test_a_limit_of_open_files_is_reported_and_leaves_nothing(temporary, tag):
    body = """
        import resource
        from nvdimmfs.testing import UnavailableError
        machine.close()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        used = len(os.listdir("/proc/self/fd"))
        seen = set()
        for spare in range(0, 8):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, hard))
            try:
                Machine(memmap="512M!4G").close()
                print("works")
                break
            except (UnavailableError, OSError) as error:
                seen.add(str(error))
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        assert all("Too many open files" in line for line in seen), seen
        assert not [entry for entry in os.listdir(machine.path.parent)], os.listdir(machine.path.parent)
        Machine(memmap="512M!4G").close()
    """
    assert run(body, temporary, tag) == "works\n"
    wait_until_gone(temporary, tag)


@pytest.mark.parametrize("wakes", [True, False])
def test_a_machine_whose_process_is_stopped_is_closed(wakes, temporary, tag):
    """What it has not reported yet is received first: the process is continued for that, or else killed."""
    body = f"""
        from nvdimmfs.testing import serving
        process = machine._serving._process
        signal.pidfd_send_signal(process.pidfd, signal.SIGSTOP)
        if not {wakes}:
            serving._LONGEST_END = 0.1
            process.send_signal = lambda number: number == signal.SIGKILL and os.kill(process.pid, number)
        machine.close()
        assert not os.path.exists(machine.path)
    """
    run(body, temporary, tag)
    wait_until_gone(temporary, tag)
