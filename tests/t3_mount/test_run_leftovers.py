"""`nvdimmfs run`: what a sandbox leaves on the host, in whatever order its processes are killed: nothing."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import mounting
import pytest
import sandboxes
from sandboxes import TWO_RANGES, processes_of, processes_with, run, start, tagged, wait_for_end_of, wait_until
from watchdog import WATCHDOG

from nvdimmfs.sandbox.loop_records import DIRECTORY, HostLoops, LoopRecords, sweep

pytestmark = pytest.mark.usefixtures("sandbox")

SYSFS = Path("/sys/devices/virtual/block")


def started(tag: str) -> tuple[subprocess.Popen[str], list[int]]:
    """A sandbox that is up, and the numbers of its loop devices."""
    script = "stat -c %Lr /dev/pmem0 /dev/pmem1; echo; exec sleep 1000"
    process = start("sh", "-c", script, options=TWO_RANGES, env=tagged(tag))
    return process, [int(process.stdout.readline()) for _ in range(2)]


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.communicate(timeout=WATCHDOG)


def gone(device: int) -> bool:
    return not (SYSFS / f"loop{device}").exists()


@sandboxes.needs_block_devices
def test_no_loop_device_is_left_when_the_command_ends():
    done = run("stat", "-c", "%Lr", "/dev/pmem0", options=TWO_RANGES)
    assert gone(int(done.stdout))


@sandboxes.needs_block_devices
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("role", ["supervisor", "server", "init", "reaper"])
def test_no_loop_device_is_left_when_a_process_is_killed(role, number, tag):
    process, devices = started(tag)
    os.kill(processes_of(process)[role], number)
    if role == "reaper" or (role, number) == ("init", signal.SIGTERM):  # they ignore SIGTERM
        process.terminate()
    process.communicate(timeout=WATCHDOG)
    wait_for_end_of(tag)
    assert all(map(gone, devices))


@sandboxes.needs_block_devices
def test_a_loop_device_of_killed_processes_is_deleted_by_the_next_sandbox(tag):
    process, devices = started(tag)
    other, others = started(tag)  # has the next numbers, and uses them
    reaper = processes_of(process)["reaper"]
    os.kill(reaper, signal.SIGSTOP)
    process.kill()
    os.kill(reaper, signal.SIGKILL)
    process.communicate(timeout=WATCHDOG)
    wait_until(lambda: not any((SYSFS / f"loop{device}/loop").exists() for device in devices))
    assert not any(map(gone, devices))
    assert run("true").returncode == 0
    assert all(map(gone, devices))
    assert not any(map(gone, others))
    kill(other)
    wait_for_end_of(tag)
    assert all(map(gone, others))


def test_a_server_that_was_stopped_ends_with_its_supervisor(tag):
    process = start("sh", "-c", "echo ready; exec sleep 1000", env=tagged(tag))
    assert process.stdout.readline() == "ready\n"
    os.kill(processes_of(process)["server"], signal.SIGSTOP)
    kill(process)
    wait_for_end_of(tag)


def test_a_sandbox_whose_server_was_stopped_can_be_terminated(tag):
    process = start("sh", "-c", "echo ready; exec sleep 1000", env=tagged(tag))
    assert process.stdout.readline() == "ready\n"
    os.kill(processes_of(process)["server"], signal.SIGSTOP)
    kill(process, signal.SIGTERM)
    assert process.returncode == -signal.SIGTERM
    assert processes_with(tag) == []


# The records


@pytest.fixture
def host():
    with contextlib.closing(HostLoops.open()) as host:
        yield host


@pytest.fixture
def left(host):
    """The loop device of a process that was killed."""
    program = """
        import os, signal
        from nvdimmfs.sandbox.loop_records import HostLoops, LoopRecords
        print(LoopRecords.create(HostLoops.open()).add_device(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = mounting.command(sys.executable, "-c", textwrap.dedent(program))
    device = int(done.stdout)
    yield device
    host.delete(device, None)


@sandboxes.needs_block_devices
def test_a_sweep_deletes_the_devices_of_the_dead(host, left):
    assert not gone(left)
    sweep(host)
    assert gone(left)


@sandboxes.needs_block_devices
def test_a_sweep_leaves_a_device_that_somebody_added_later(host, left):
    assert host.delete(left, None)
    host.add(left)
    sweep(host)
    assert not gone(left)


@sandboxes.needs_block_devices
def test_a_sweep_leaves_a_device_that_somebody_uses_until_it_is_free(host, left, tmp_path):
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    mounting.command("losetup", f"/dev/loop{left}", tmp_path / "file").check_returncode()
    sweep(host)
    assert not gone(left)
    mounting.command("losetup", "-d", f"/dev/loop{left}").check_returncode()
    sweep(host)
    assert gone(left)


@sandboxes.needs_block_devices
def test_a_sweep_leaves_the_devices_of_the_living(host):
    with contextlib.closing(LoopRecords.create(host)) as records:
        device = records.add_device()
        sweep(host)
        assert not gone(device)
        assert records.delete_devices(patience=0)
        assert gone(device)


@sandboxes.needs_block_devices
def test_sweeps_and_sandboxes_at_the_same_time(host):
    program = """
        from nvdimmfs.sandbox.loop_records import HostLoops, LoopRecords, sweep
        host = HostLoops.open()
        for _ in range(8):
            sweep(host)
            records = LoopRecords.create(host)
            number = records.add_device()
            instance = host.instance(number)
            sweep(host)
            assert host.instance(number) == instance
            assert records.delete_devices(patience=0)
            records.close()
    """
    argv = [sys.executable, "-c", textwrap.dedent(program)]
    environment = mounting.environment()
    processes = [subprocess.Popen(argv, env=environment, stderr=-1, text=True) for _ in range(4)]
    assert [(process.communicate(timeout=WATCHDOG)[1], process.returncode) for process in processes] == [("", 0)] * 4
    records = [path.name for path in DIRECTORY.glob("*/*")] if DIRECTORY.exists() else []
    assert all(int(name.rstrip("~")) in host.numbers() for name in records)  # those of other tests' sandboxes
