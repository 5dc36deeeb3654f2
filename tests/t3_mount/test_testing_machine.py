"""`nvdimmfs.testing.Machine`: a mounted machine of a test."""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mounting
import pytest
import sandboxes
from watchdog import WATCHDOG

from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.testing import Engine, Machine, UnavailableError

ND = "/sys/bus/nd"
UNBIND = f"{ND}/drivers/nd_pmem/unbind"
REGION = f"{ND}/devices/region0"
MODE = f"{ND}/devices/pfn0.0/mode"
UUID = "01234567-89ab-cdef-0123-456789abcdef"

#: ND_IOCTL_GET_CONFIG_SIZE (include/uapi/linux/ndctl.h).
GET_CONFIG_SIZE = 0xC00C4E04


def refusal_of(call, *arguments):
    """The OSError that a call raises."""
    try:
        call(*arguments)
    except OSError as refusal:
        return refusal
    pytest.fail("it is not refused")


@pytest.fixture(autouse=True)
def can_mount(fuse):
    """All of it needs a mount."""


@pytest.fixture(scope="module")
def shared(fuse):
    with Machine(memmap="512M!4G") as machine:
        yield machine


@pytest.fixture
def machine(shared):
    with shared.checkpoint():
        shared.events.new()
        shared.refusals.new()
        yield shared


def test_machines_of_a_description_are_alike_however_many_there_were():
    """From the third on, they were booted before their process was forked."""
    machine = MachineDescription(memmap="512M!4G", name="alike")
    shown = []
    for _ in range(4):
        with Machine(machine) as each:
            numbers = [each.stat(path).st_ino for path in (REGION, "/dev/pmem0", "/proc/iomem")]
            files = [
                each.read(f"/sys/kernel/debug/nvdimmfs/{name}") for name in ("clock", "layout", "modules", "faults")
            ]
            shown.append((numbers, files, each.dump(), list(each.events)))
            each.write(UNBIND, "namespace0.0")
            each.modules.unload("dax_pmem")
            assert "pmem0" not in each.ls("/dev")
    assert shown[1:] == shown[:1] * 3


def test_it_is_mounted_and_gone_at_the_end():
    with Machine(memmap="512M!4G") as machine:
        assert mounting.is_mounted(machine.path)
        assert (machine.sys / "bus/nd/devices/region0/size").read_text() == "536870912\n"
        assert (machine.dev / "pmem0").stat().st_size == 512 << 20
        assert "Persistent Memory (legacy)" in (machine.proc / "iomem").read_text()
        assert re.fullmatch(r"<Machine on /.*>", repr(machine))
        path = machine.path
    assert not mounting.is_mounted(path)
    assert not path.exists()
    assert repr(machine).endswith(", closed>")
    machine.close()
    with pytest.raises(ValueError, match="closed"):
        machine.read(f"{REGION}/size")
    with pytest.raises(ValueError, match="closed"):
        machine.run(["true"])


def test_its_files_are_those_of_an_engine(machine):
    with Engine(memmap="512M!4G") as engine:
        for each in (engine, machine):
            assert each.read(f"{REGION}/size") == "536870912\n"
            assert each.ls(f"{ND}/devices") == each.ls(Path("sys/bus/nd/devices"))
            assert "/region0" in each.readlink(REGION)
            assert (each.exists(REGION), each.exists(f"{REGION}/x"), each.exists(f"{REGION}/size/x")) == (
                True,
                False,
                False,
            )
            assert each.write("dev/pmem0", b"hello", offset=4096) == 5
            assert each.read_bytes("dev/pmem0", 4096, 5) == b"hello"
            assert each.write(f"{ND}/devices/namespace0.0/force_raw", True) == 1
            assert each.lstat(REGION).st_mode == engine.lstat(REGION).st_mode
            assert each.stat(f"{REGION}/size").st_size == 4096
            with pytest.raises(TypeError):
                each.write(MODE, None)
        assert machine.ls(f"{ND}/devices") == engine.ls(f"{ND}/devices")
        assert machine.layout == engine.layout
        assert machine.show() == engine.show()
        assert machine.dump() == engine.dump()


@pytest.mark.parametrize(
    ("path", "value"),
    [(UNBIND, "x"), (f"{REGION}/size", "1"), (MODE, "fast"), (f"{ND}/devices/region7/size", "1"), (ND, "1"), ("", "1")],
)
def test_a_refusal_is_the_same_as_an_engines(machine, path, value):
    with Engine(memmap="512M!4G") as engine:
        ours, theirs = (refusal_of(each.write, path, value) for each in (engine, machine))
    assert (type(theirs), theirs.errno, theirs.filename) == (type(ours), ours.errno, path)
    if theirs.errno not in (errno.ENOENT, errno.EISDIR):  # those that the host's kernel finds out itself
        assert theirs.__notes__ == ours.__notes__


def test_each_thread_gets_the_reasons_of_its_own_refusals(machine):
    def refused(number):
        for turn in range(20):
            (note,) = refusal_of(machine.write, UNBIND, f"device-{number}-{turn}").__notes__
            assert f"'device-{number}-{turn}'" in note

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(refused, range(8)))
    assert len(machine.refusals.new()) == 160


def test_a_refusal_that_the_hosts_kernel_finds_has_no_reason_of_an_earlier_one(machine):
    refusal_of(machine.write, f"{REGION}/size", "1")
    with pytest.raises(PermissionError) as refusal:
        (machine.path / "new").write_text("x")
    assert not hasattr(refusal.value, "__notes__")


def test_refusals_of_other_processes_are_known(machine):
    shell = subprocess.Popen(["sh", "-c", f"echo x > {machine.path}{UNBIND} 2>/dev/null"], stderr=subprocess.DEVNULL)
    shell.wait(WATCHDOG)
    (refusal,) = machine.refusals.new()
    assert (refusal.op, refusal.data, refusal.errno, refusal.pid) == ("write", b"x\n", errno.ENODEV, shell.pid)
    assert "x" in refusal.reason
    assert str(refusal) == f"write /sys/bus/nd/drivers/nd_pmem/unbind {'x' + chr(92) + 'n'!r}: ENODEV: {refusal.reason}"


def test_uevents_are_those_of_an_engine(machine):
    with Engine(memmap="512M!4G") as engine:
        for each in (engine, machine):
            each.write(UNBIND, "namespace0.0")
        ours, theirs = [[str(event) for event in each.events.new()] for each in (engine, machine)]
    assert theirs == ours != []
    assert machine.events.new() == []


def test_a_listener_that_never_looks_holds_nothing_up(machine):
    for _ in range(50):
        machine.write(UNBIND, "namespace0.0")
        machine.write(f"{ND}/drivers/nd_pmem/bind", "namespace0.0")
    assert len(machine.events.new()) > 100


def test_ioctls_are_answered_as_by_an_engine():
    with Engine("qemu-nfit") as engine, Machine("qemu-nfit") as machine:
        ours, theirs = [each.ioctl("/dev/nmem0", GET_CONFIG_SIZE, bytes(12)) for each in (engine, machine)]
        assert theirs == ours != bytes(12)
        buffer = bytearray(12)
        assert machine.ioctl("/dev/nmem0", GET_CONFIG_SIZE, buffer) == 0
        assert buffer == ours
        for path, request, argument in (
            ("/dev/nmem0", GET_CONFIG_SIZE, bytes(4)),
            ("/dev/nmem0", 0xFFFF, bytes(4)),
            ("/dev/nmem7", GET_CONFIG_SIZE, bytes(12)),
            (f"{REGION}/size", GET_CONFIG_SIZE, bytes(12)),
        ):
            refusals = []
            for each in (engine, machine):
                refusal = refusal_of(each.ioctl, path, request, argument)
                refusals.append((refusal.errno, refusal.filename))
            assert refusals[0] == refusals[1]
        assert [(each.op, each.path) for each in machine.refusals] == [("ioctl", "/dev/nmem0")] * 2


def test_the_clock_moves_as_an_engines():
    with Engine("nfit_test") as engine, Machine("nfit_test") as machine:
        for each in (engine, machine):
            each.clock.advance(1.5)
        assert (machine.clock.mode, machine.clock.now, machine.clock.pending) == (
            engine.clock.mode,
            engine.clock.now,
            engine.clock.pending,
        )
        machine.clock.advance(3e8)  # more than the debug file accepts at once
        assert machine.clock.now > 3e8
        with pytest.raises(ValueError, match="backwards"):
            machine.clock.advance(-1)


def test_modules_are_loaded_and_unloaded(machine):
    with Engine(memmap="512M!4G") as engine:
        assert (machine.modules.known, machine.modules.loaded) == (engine.modules.known, engine.modules.loaded)
    machine.modules.unload("nd_pmem")
    assert "nd_pmem" not in machine.modules.loaded
    machine.modules.load("nd_pmem")
    assert machine.modules.loaded[-1] == "nd_pmem"
    for name, kind in (("x", FileNotFoundError), ("libnvdimm", FileExistsError)):
        with pytest.raises(kind) as refusal:
            machine.modules.load(name)
        assert refusal.value.filename == name
    with pytest.raises(BlockingIOError):
        machine.modules.unload("libnvdimm")


def test_checkpoints_are_nested(machine):
    outer = machine.checkpoint()
    machine.write(MODE, "ram")
    with machine.checkpoint():
        machine.write(MODE, "pmem")
    assert machine.read(MODE) == "ram\n"
    outer.reset()
    assert machine.read(MODE) == "none\n"
    machine.reset()
    assert machine.read(MODE) == "ram\n"


def test_the_machine_forgets_checkpoints_that_the_test_has_forgotten():
    with Machine(memmap="512M!4G") as machine:
        for _ in range(5):
            with machine.checkpoint():
                pass
        assert len(machine.read("sys/kernel/debug/nvdimmfs/checkpoint").splitlines()) <= 3


def test_differences_are_those_of_an_engine(machine):
    with Engine(memmap="512M!4G") as engine:
        found = []
        for each in (engine, machine):
            before = each.dump()
            each.write(UNBIND, "namespace0.0")
            found.append(each.diff(before))
    assert found[0] == found[1] != []
    with pytest.raises(ValueError, match="dump"):
        machine.diff("x")


def test_dimms_are_plugged_in():
    with Machine("qemu-nfit") as machine:
        machine.plug("dimm size=64M")
        assert machine.exists("/dev/pmem2")
        assert "colour" in refusal_of(machine.plug, "dimm colour=red").__notes__[0]


def test_a_folder_keeps_the_media(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in (bytes(5), b"hello"):
        with Machine(memmap="512M!4G", media="media") as machine:
            assert machine.read_bytes("dev/pmem0", 0, 5) == content
            machine.write("dev/pmem0", b"hello")
            with pytest.raises(ValueError, match="--media"):
                machine.checkpoint()
    assert (tmp_path / "media").is_dir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"machine": "no-such"}, "no-such"),
        ({"ram": "x"}, "ram x"),
        ({"memmap": "x"}, "memmap"),
        ({"kernel": "1.0"}, "kernel 1.0"),
        ({"clock": "x"}, "clock x"),
        ({"media": "/dev/null"}, "/dev/null"),
    ],
)
def test_a_machine_that_cannot_exist_is_a_value_error(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        Machine(**arguments)
    assert "\n" not in str(error.value)


def test_a_reset_without_a_checkpoint_is_a_value_error():
    with Machine(memmap="512M!4G") as machine, pytest.raises(ValueError, match="no checkpoint"):
        machine.reset()


def test_a_host_that_cannot_mount_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr("nvdimmfs.fuse.requirements.FUSE_DEVICE", tmp_path / "missing")
    with pytest.raises(UnavailableError, match=r"^mount: .* is missing; load the kernel's fuse module"):
        Machine()


class TestCommands:
    """Commands in a sandbox on the machine."""

    @pytest.fixture(autouse=True)
    def can_run(self, sandbox):
        """All of it needs a sandbox."""

    def test_a_command_finds_the_machine(self, machine):
        done = machine.run(["sh", "-c", "cat /sys/bus/nd/devices/region0/size; echo error >&2; exit 3"])
        assert (done.returncode, done.stdout, done.stderr) == (3, "536870912\n", "error\n")
        assert done.command[0] == "sh"

    def test_the_effects_of_a_command_stay(self, machine):
        machine.run(["sh", "-c", f"echo namespace0.0 > {UNBIND}"], check=True)
        assert not machine.exists("/dev/pmem0")

    @sandboxes.needs_block_devices
    def test_bytes_that_a_command_has_written_to_the_disk_are_there_at_once(self, machine):
        for number in range(3):
            script = f"test -b /dev/pmem0; printf {number} | dd of=/dev/pmem0 conv=notrunc status=none"
            machine.run(["sh", "-ec", script], check=True)
            assert machine.read_bytes("dev/pmem0", 0, 1) == str(number).encode()
        machine.write("dev/pmem0", "x")
        assert machine.run(["head", "-c", "1", "/dev/pmem0"]).stdout == "x"

    def test_its_input_folder_and_environment(self, machine, tmp_path, monkeypatch):
        monkeypatch.setenv("WORD", "inherited")
        monkeypatch.chdir(tmp_path)
        script = "cat; pwd; echo $WORD"
        assert machine.run(["sh", "-c", script], stdin="text\n").stdout == f"text\n{tmp_path}\ninherited\n"
        given = {"cwd": "/usr", "env": {"WORD": "given", "PATH": os.environ["PATH"]}}
        assert machine.run(["sh", "-c", script], stdin=b"\xff\n", **given).stdout == "\udcff\n/usr\ngiven\n"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"cwd": 5}, "cwd must be a text or an os.PathLike of one, not 5"),
            ({"stdin": 5}, "stdin must be a text or bytes, not 5"),
            ({"timeout": "1"}, "timeout must be a number of seconds, not '1'"),
            ({"env": 5}, "env must be a mapping of texts, not 5"),
            ({"env": {"WORD": 5}}, "WORD in env must be a text, not 5"),
            ({"command": [5]}, "a word of a command must be a text or an os.PathLike of one, not 5"),
        ],
    )
    def test_arguments_of_wrong_types(self, machine, arguments, message):
        with pytest.raises(TypeError, match=f"^{message}$"):
            machine.run(**{"command": ["true"], **arguments})

    def test_a_folder_that_is_missing_is_no_shortcoming_of_the_host(self, machine, tmp_path):
        """The pytest plugin would skip the test because of an UnavailableError."""
        with pytest.raises(FileNotFoundError) as error:
            machine.run(["true"], cwd=tmp_path / "missing")
        assert error.value.filename == str(tmp_path / "missing")
        with pytest.raises(ValueError, match=r"^'A=B' in env: no program can have such a variable$"):
            machine.run(["true"], env={"A=B": "x"})

    def test_much_input_and_output(self, machine):
        text = "x" * (1 << 20)
        assert machine.run(["cat"], stdin=text).stdout == text
        assert machine.run(["true"], stdin=text).returncode == 0

    def test_json(self, machine):
        assert machine.run(["echo", '{"a": [1]}']).json() == {"a": [1]}
        with pytest.raises(ValueError, match="Expecting") as error:
            machine.run(["sh", "-c", "echo none; echo why >&2"]).json()
        assert error.value.__notes__ == ["stdout:\nnone", "stderr:\nwhy"]

    def test_a_failure_has_the_outputs(self, machine):
        with pytest.raises(subprocess.CalledProcessError) as error:
            machine.run(["sh", "-c", "echo out; echo err >&2; kill $$"], check=True)
        assert error.value.returncode == -signal.SIGTERM
        assert error.value.__notes__ == ["stdout:\nout", "stderr:\nerr"]

    def test_a_command_that_does_not_exist(self, machine, tmp_path):
        done = machine.run(["/missing"])
        assert (done.returncode, done.stderr) == (127, "nvdimmfs: cannot run /missing: No such file or directory\n")
        assert machine.run([tmp_path]).returncode == 126

    def test_a_timeout_kills_all_of_it(self, machine, tag):
        script = f"export {tag}; echo begun; (trap '' TERM HUP; sleep 1000) & setsid sleep 1000 & wait"
        with pytest.raises(subprocess.TimeoutExpired) as error:
            machine.run(["sh", "-c", script], timeout=1)
        assert sandboxes.processes_with(tag) == []
        assert error.value.cmd[0] == "sh"
        assert str(error.value).startswith("Command '['sh', ")  # as of subprocess.run

    def test_an_interrupt_kills_all_of_it(self, machine, tag):
        main = threading.main_thread().native_id

        def interrupt():
            sandboxes.wait_until(lambda: sandboxes.processes_with(tag))
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        assert main == threading.get_native_id()
        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            machine.run(["sh", "-c", f"export {tag}; sleep 1000 & wait"])
        interrupter.join()
        assert sandboxes.processes_with(tag) == []

    def test_commands_from_several_threads(self, machine):
        with ThreadPoolExecutor(4) as pool:
            results = pool.map(lambda word: machine.run(["echo", word]).stdout, map(str, range(8)))
        assert [*results] == [f"{number}\n" for number in range(8)]

    @pytest.mark.parametrize("mistake", ["ls -l", b"ls", []])
    def test_a_command_is_a_list(self, machine, mistake):
        with pytest.raises(ValueError, match="list of words"):
            machine.run(mistake)

    def test_a_wrong_network_is_refused(self, machine):
        with pytest.raises(ValueError, match="private or host"):
            machine.run(["true"], net="none")

    def test_a_shell_has_the_terminal_of_the_test(self):
        """It is not that of this test, but of another process."""
        script = f"""
            import sys; sys.path.insert(0, {str(mounting.ROOT)!r})
            from nvdimmfs.testing import Machine
            with Machine(memmap="512M!4G") as machine:
                print(machine.shell())
        """.replace("\n            ", "\n")
        done = mounting.command(
            sys.executable,
            "-c",
            script,
            env=mounting.environment() | {"SHELL": "/bin/sh"},
            input="ls /sys/bus/nd/devices\nexit 4\n",
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[-1] == "4"
        assert "region0" in done.stdout.splitlines()


def test_a_trace_has_the_calls_of_all_processes(machine):
    machine.trace.clear()
    mark = machine.trace.mark()
    subprocess.run(["sh", "-c", f"echo namespace0.0 > {machine.path}{UNBIND}"], check=True)
    machine.trace.assert_wrote(UNBIND, "namespace0.0")
    (write,) = machine.trace.since(mark).writes()
    assert (write.op, write.data, write.result, write.command) == ("write", b"namespace0.0\n", 13, "sh")
    with Engine(memmap="512M!4G") as engine:
        engine.write(UNBIND, "namespace0.0\n")
        (same,) = engine.trace.writes()
    assert [effect.text for effect in write.effects] == [effect.text for effect in same.effects] != []
    refusal_of(machine.write, MODE, "fast")
    (refused,) = machine.trace.refused()
    assert refused.reason == machine.refusals[-1].reason
    assert machine.trace.is_on
    machine.trace.stop()
    try:
        machine.read(MODE)
        assert not machine.trace.is_on
        assert MODE.rpartition("/")[2] not in machine.trace[-1].path or machine.trace[-1].op == "write"
    finally:
        machine.trace.start()


def test_a_trace_with_more_events_than_one_read_returns(machine):
    machine.trace.clear()
    for _ in range(300):
        machine.read(MODE)
    assert len([event for event in machine.trace if event.op == "read"]) >= 300
    assert machine.trace.dropped == 0


def test_a_machine_without_a_trace():
    with Machine(memmap="512M!4G", trace=False) as machine:
        assert not machine.trace.is_on
        with pytest.raises(ValueError, match="the trace is off"):
            machine.trace.assert_no_writes()


@pytest.mark.parametrize("in_files", [False, True])
def test_a_power_cycle_keeps_the_media_the_place_and_the_events(in_files, tmp_path):
    with Machine("qemu-nfit-labelled", media=tmp_path / "media" if in_files else None) as machine:
        (seed,) = machine.read(f"{REGION}/namespace_seed").split()
        namespace = f"{ND}/devices/{seed}"
        machine.write(f"{namespace}/uuid", UUID)
        machine.write(f"{namespace}/size", 32 << 20)
        fault = machine.fail("*", "media-write", power_cut=True)
        assert refusal_of(machine.write, f"{namespace}/size", 48 << 20).errno == errno.EIO
        assert fault.hits == 1
        events, refusals, path = len(machine.events), len(machine.refusals), machine.path
        machine.power_cycle()
        assert machine.path == path
        assert machine.read(f"{namespace}/size") == f"{32 << 20}\n"
        assert (fault.hits, len(machine.refusals)) == (1, refusals)
        assert machine.trace.is_on
        machine.write(f"{ND}/drivers/nd_region/unbind", "region0")
        assert "unbind" in [event.action for event in machine.events[events:]]
        assert refusal_of(machine.write, f"{REGION}/align", "x").__notes__


def test_a_power_cycle_of_a_killed_machine_is_an_error(capfd):
    with Machine(memmap="512M!4G") as machine:
        process = os.pidfd_open(mounting.daemon_of(machine.path))
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [])
        os.close(process)
        refusal = refusal_of(machine.power_cycle)
        assert "has ended" in refusal.__notes__[0]
    capfd.readouterr()


def test_a_label_file_is_found_beside_a_machine_file_with_a_relative_path(tmp_path, monkeypatch):
    """Although the process of the machine has another working directory."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "labels").write_bytes(b"x" * 131072)
    (tmp_path / "below" / "one.toml").write_text("[[bus]]\n[[bus.dimm]]\nlabel = { file = 'labels' }\n")
    monkeypatch.chdir(tmp_path)
    with Machine("below/one.toml") as machine:
        assert machine.exists("/sys/bus/nd/devices/nmem0")
