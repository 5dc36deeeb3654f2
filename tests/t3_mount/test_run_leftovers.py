"""`nvdimmfs run`: what a sandbox leaves on the host, in whatever order its processes are killed: nothing."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import attrs
import mounting
import pytest
import sandboxes
from sandboxes import TWO_RANGES, processes_of, processes_with, run, start, stop, tagged, wait_for_end_of, wait_until
from watchdog import WATCHDOG

from nvdimmfs.sandbox import loop_records
from nvdimmfs.sandbox.loop_records import BackingFile, HostLoops, LoopRecords, sweep

pytestmark = pytest.mark.usefixtures("sandbox")

SYSFS = Path("/sys/devices/virtual/block")


@attrs.frozen
class Device:
    """A loop device: its number, which other sandboxes use after it is gone, and what is its own."""

    number: int
    instance: int

    @property
    def is_gone(self) -> bool:
        try:
            return (SYSFS / f"loop{self.number}").stat().st_ino != self.instance
        except FileNotFoundError:
            return True

    @property
    def is_attached(self) -> bool:
        return not self.is_gone and (SYSFS / f"loop{self.number}/loop").exists()


def device(number: str) -> Device:
    return Device(int(number), (SYSFS / f"loop{int(number)}").stat().st_ino)


def started(tag: str) -> tuple[subprocess.Popen[str], list[Device]]:
    """A sandbox that is up, and its loop devices."""
    script = "stat -c %Lr /dev/pmem0 /dev/pmem1; exec sleep 1000"
    process = start("sh", "-c", script, options=TWO_RANGES, env=tagged(tag))
    return process, [device(process.stdout.readline()) for _ in range(2)]


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.communicate(timeout=WATCHDOG)


@sandboxes.needs_block_devices
def test_no_loop_device_is_left_when_the_command_ends(tag):
    script = "stat -c %Lr /dev/pmem0; read go"
    process = start("sh", "-c", script, options=TWO_RANGES, stdin=subprocess.PIPE, env=tagged(tag))
    disk = device(process.stdout.readline())
    assert disk.is_attached
    process.communicate("go\n", timeout=WATCHDOG)
    assert disk.is_gone


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
    assert all(disk.is_gone for disk in devices)


@sandboxes.needs_block_devices
def test_a_supervisor_without_a_reaper_waits_for_a_loop_device_that_is_open(tag):
    """A program of the host that looks at every disk has it open for a moment."""
    process, (first, _) = started(tag)
    opened = os.open(f"/dev/loop{first.number}", os.O_RDONLY)
    try:
        os.kill(processes_of(process)["reaper"], signal.SIGKILL)
        process.terminate()
        wait_until(lambda: any(loop_records.DIRECTORY.glob(f"*/{first.number}~")))
        assert process.poll() is None
    finally:
        os.close(opened)
    process.communicate(timeout=WATCHDOG)
    wait_for_end_of(tag)
    assert first.is_gone


@sandboxes.needs_block_devices
def test_a_loop_device_of_killed_processes_is_deleted_by_the_next_sandbox(tag):
    process, devices = started(tag)
    other, others = started(tag)  # has the next numbers, and uses them
    reaper = processes_of(process)["reaper"]
    os.kill(reaper, signal.SIGSTOP)
    process.kill()
    os.kill(reaper, signal.SIGKILL)
    process.communicate(timeout=WATCHDOG)
    wait_until(lambda: not any(disk.is_attached for disk in devices))

    def are_deleted_by_a_sandbox() -> bool:  # by a later one, if the sweep of another test's sandbox is not done yet
        assert run("true").returncode == 0
        return all(disk.is_gone for disk in devices)

    wait_until(are_deleted_by_a_sandbox)
    assert not any(disk.is_gone for disk in others)
    kill(other)
    wait_for_end_of(tag)
    assert all(disk.is_gone for disk in others)


@pytest.mark.parametrize("role", ["supervisor", "server", "init", "command"])
def test_a_sandbox_goes_on_after_a_process_was_stopped(role, tag):
    """Meanwhile another sandbox does not notice."""
    script = "while read word; do cat /sys/bus/nd/devices/$word/mode; done"
    process = start("sh", "-c", script, options=TWO_RANGES, stdin=subprocess.PIPE, bufsize=1, env=tagged(tag))

    def ask() -> None:
        process.stdin.write("namespace0.0\n")

    def answer() -> str:
        return process.stdout.readline()

    ask()
    assert answer() == "memory\n"
    stopped = processes_of(process)[role]
    stop(stopped)
    ask()
    assert run("true").returncode == 0
    os.kill(stopped, signal.SIGCONT)
    assert answer() == "memory\n"
    process.communicate(timeout=WATCHDOG)
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("role", ["supervisor", "init", "command"])
def test_a_sandbox_with_a_stopped_process_can_be_ended(role, number, tag):
    process = start("sh", "-c", "echo ready; exec sleep 1000", env=tagged(tag))
    assert process.stdout.readline() == "ready\n"
    stopped = processes_of(process)[role]
    stop(stopped)
    process.send_signal(number)
    if number == signal.SIGTERM:  # waits until the process goes on
        os.kill(stopped, signal.SIGCONT)
    process.communicate(timeout=WATCHDOG)
    assert process.returncode == -number
    wait_for_end_of(tag)


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


# The records, in a directory where sandboxes that run at the same time do not look.  Other programs look at every disk,
# and may have a device open for a moment.


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(loop_records, "DIRECTORY", tmp_path / "records")
    return tmp_path / "records"


@pytest.fixture
def host():
    with contextlib.closing(HostLoops.open()) as host:
        yield host


@pytest.fixture
def add(host):
    """Adds a loop device of a sandbox.  It is deleted at the end, whatever the test has found."""
    added = []

    def add_device(records: LoopRecords) -> Device:
        added.append(device(str(records.add_device())))
        return added[-1]

    yield add_device
    for each in added:
        host.delete(each.number, each.instance)


def running(program: str, directory: Path) -> subprocess.Popen[str]:
    """A program that keeps its records in a directory."""
    lines = f"""
        import os, pathlib, signal
        from nvdimmfs.sandbox import loop_records
        from nvdimmfs.sandbox.loop_records import HostLoops, LoopRecords, sweep
        loop_records.DIRECTORY = pathlib.Path({str(directory)!r})
        host = HostLoops.open()
        PATIENCE = {WATCHDOG}
    """
    argv = [sys.executable, "-c", textwrap.dedent(lines) + textwrap.dedent(program)]
    return subprocess.Popen(argv, env=mounting.environment(), stdout=-1, stderr=-1, text=True)


@pytest.fixture
def left(host, directory):
    """The loop device of a process that was killed."""
    program = """
        print(LoopRecords.create(host).add_device(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    left = device(running(program, directory).communicate(timeout=WATCHDOG)[0])
    yield left
    host.delete(left.number, left.instance)


def sweep_until_gone(host: HostLoops, left: Device) -> None:
    def is_swept() -> bool:
        sweep(host)
        return left.is_gone

    wait_until(is_swept)


@sandboxes.needs_block_devices
def test_a_sweep_deletes_the_devices_of_the_dead(host, left, directory):
    assert not left.is_gone
    sweep_until_gone(host, left)
    assert not directory.exists()


@sandboxes.needs_block_devices
def test_a_sweep_leaves_a_device_that_another_program_added_later(host, left, directory):
    (record,) = directory.glob(f"*/{left.number}")
    record.write_text(str(left.instance - 1))
    sweep(host)
    assert not left.is_gone
    assert not directory.exists()


@sandboxes.needs_block_devices
def test_a_sweep_leaves_a_device_that_is_used_until_it_is_free(host, left, tmp_path):
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    mounting.command("losetup", f"/dev/loop{left.number}", tmp_path / "file").check_returncode()
    sweep(host)
    assert not left.is_gone
    mounting.command("losetup", "-d", f"/dev/loop{left.number}").check_returncode()
    sweep_until_gone(host, left)


@sandboxes.needs_block_devices
def test_a_sweep_leaves_the_devices_of_the_living(add, host, directory):
    with contextlib.closing(LoopRecords.create(host)) as records:
        own = add(records)
        sweep(host)
        assert not own.is_gone
        assert records.delete_devices(WATCHDOG)
        assert own.is_gone


@sandboxes.needs_block_devices
def test_a_sweep_leaves_a_device_whose_number_a_killed_sandbox_wanted_as_well(host, left, directory):
    (record,) = directory.glob(f"*/{left.number}")
    record.write_text("")  # it was killed between the record and the attempt to add the device
    with contextlib.closing(LoopRecords.create(host)) as records:
        records.record(left.number, BackingFile(0, 0))
        sweep(host)
        assert not left.is_gone
        assert not record.exists()
        assert records.delete_devices(WATCHDOG)
    assert left.is_gone


@sandboxes.needs_block_devices
@pytest.mark.parametrize("text", ["", "1", "1 2 3"])
def test_a_record_of_another_instance_keeps_no_device(add, text, host, directory):
    """The other sandbox is about to add one with this number, or has used an earlier one."""
    with contextlib.closing(LoopRecords.create(host)) as first, contextlib.closing(LoopRecords.create(host)) as second:
        own = add(first)
        (directory / second.name / str(own.number)).write_text(text)
        assert first.delete_devices(WATCHDOG)
        assert own.is_gone
        assert second.delete_devices(WATCHDOG)


@sandboxes.needs_block_devices
def test_a_device_that_was_deleted_at_once_is_not_returned(add, host, directory, monkeypatch):
    """By the sweep of a sandbox that was killed while it added a device with the same number."""
    add_to_host, deleted = HostLoops.add, []

    def add_and_delete_once(host, number):
        add_to_host(host, number)
        if not deleted:
            deleted.append(number)
            host.delete(number, None)

    monkeypatch.setattr(HostLoops, "add", add_and_delete_once)
    with contextlib.closing(LoopRecords.create(host)) as records:
        own = add(records)
        assert own.number not in deleted
        assert not own.is_gone
        assert {path.name for path in (directory / records.name).iterdir()} == {str(own.number)}
        assert records.delete_devices(WATCHDOG)


@sandboxes.needs_block_devices
def test_a_device_that_two_sandboxes_use_is_deleted_by_the_last(add, host, directory):
    with contextlib.closing(LoopRecords.create(host)) as first, contextlib.closing(LoopRecords.create(host)) as second:
        shared = add(first)
        second.record(shared.number, BackingFile(1, 2))
        assert first.devices_of_others(BackingFile(1, 2)) == [shared.number]
        assert first.delete_devices(WATCHDOG)
        assert not shared.is_gone
        assert second.delete_devices(WATCHDOG)
        assert shared.is_gone


@sandboxes.needs_block_devices
def test_a_device_is_found_by_the_file_that_it_has_now(add, host, directory):
    first, second = BackingFile(1, 2), BackingFile(1, 3)
    with contextlib.closing(LoopRecords.create(host)) as records, contextlib.closing(LoopRecords.create(host)) as other:
        number = add(records).number
        for file in (first, second, first, second):
            records.record(number, file)
        assert other.devices_of_others(first) == []
        assert other.devices_of_others(second) == [number]
        assert len(list((directory / records.name).iterdir())) == 2
        with pytest.MonkeyPatch.context() as patch:  # as if it was killed between the link and the record
            patch.setattr(LoopRecords, "_write", lambda *_: None)
            patch.setattr(LoopRecords, "_unlink", lambda *_: None)
            records.record(number, first)
        assert other.devices_of_others(first) == []
        assert other.devices_of_others(second) == [number]
        assert records.delete_devices(WATCHDOG)
        assert other.devices_of_others(second) == []
        assert other.delete_devices(WATCHDOG)
    assert not directory.exists()


@sandboxes.needs_block_devices
def test_a_device_of_another_sandbox_is_found_without_reading_the_others(add, host, directory, monkeypatch):
    """With a thousand disks, reading a thousand records for each took 12 seconds."""
    with contextlib.closing(LoopRecords.create(host)) as records, contextlib.closing(LoopRecords.create(host)) as other:
        number = add(records).number
        records.record(number, BackingFile(1, 2))
        for wrong in range(100):
            (directory / records.name / f"{number + 1 + wrong}").write_text(f"1 1 {wrong + 10}")
        read, paths = loop_records.read_small, []
        monkeypatch.setattr(loop_records, "read_small", lambda path, folder: paths.append(path) or read(path, folder))
        assert other.devices_of_others(BackingFile(1, 2)) == [number]
        assert len(paths) == 1
        assert records.delete_devices(WATCHDOG)
        assert other.delete_devices(WATCHDOG)


@sandboxes.needs_block_devices
def test_a_host_without_the_folder_for_records_is_reported(host, tmp_path, monkeypatch):
    monkeypatch.setattr(loop_records, "DIRECTORY", tmp_path / "missing" / "records")
    with pytest.raises(FileNotFoundError):
        LoopRecords.create(host)
    sweep(host)


@sandboxes.needs_block_devices
def test_sweeps_and_sandboxes_at_the_same_time(host, directory):
    program = """
        for _ in range(8):
            sweep(host)
            records = LoopRecords.create(host)
            number = records.add_device()
            instance = host.instance(number)
            sweep(host)
            assert host.instance(number) == instance
            assert records.delete_devices(PATIENCE)
            records.close()
    """
    processes = [running(program, directory) for _ in range(4)]
    assert [(process.communicate(timeout=WATCHDOG)[1], process.returncode) for process in processes] == [("", 0)] * 4
    assert not directory.exists()
