"""The trace of a mounted machine and of one in a sandbox, as commands show it."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
from pathlib import Path

import jsonschema
import pytest
from mounting import MACHINE, QUIET, ROOT, cli, command, environment, mounted, refusal
from sandboxes import run
from watchdog import WATCHDOG

from nvdimmfs.traces.json_lines import decoded

SCHEMA = jsonschema.Draft7Validator(json.loads((ROOT / "docs" / "reference" / "trace.schema.json").read_text()))
UNBIND = "sys/bus/nd/drivers/nd_pmem/unbind"
SIZE = "sys/bus/nd/devices/region0/size"
TRACE = "sys/kernel/debug/nvdimmfs/trace"


@pytest.fixture
def mount(fuse):
    with mounted(*QUIET) as mount:
        yield mount


def events(lines):
    """The events of JSON Lines, each of which must be valid."""
    found = []
    for line in lines.splitlines():
        SCHEMA.validate(json.loads(line))
        found.append(decoded(line))
    return found


def printed(mount, *options):
    done = cli("trace", mount.directory, *options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


class Follower:
    """`nvdimmfs trace --follow`; as a context, it is recording within, and has ended afterwards."""

    def __init__(self, mount, *options):
        self.mount = mount
        self.options = options

    def __enter__(self):
        self.process = subprocess.Popen(
            [*MACHINE, "trace", self.mount.directory, "--follow", *self.options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
            bufsize=1,
        )
        self.wait_until_recording()
        return self

    def wait_until_recording(self):
        """A poll of the machine's own file: without a call of a program there is nothing to wait for."""
        while " is off," in (self.mount.directory / TRACE).read_text():
            assert self.process.poll() is None, self.process.communicate()
            select.select([self.process.stdout], [], [], 0.01)

    def line(self):
        ready, _, _ = select.select([self.process.stdout], [], [], WATCHDOG)
        assert ready, "nothing was printed"
        return self.process.stdout.readline()

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


class TestMount:
    def test_kept_events_are_printed(self, mount):
        (mount.directory / TRACE).write_text("on")
        assert mount.sh(f"echo namespace0.0 > {UNBIND}; cat {SIZE}").stdout == "536870912\n"
        assert mount.sh(f"echo namespace0.0 > {UNBIND}").returncode != 0
        text = printed(mount)
        assert re.search(
            r'^\S+ \[ +\d+\.\d{6}\] sh\[\d+\] write\("/sys/bus/nd/drivers/nd_pmem/unbind", "namespace0.0\\n", 13\) '
            r"= 13\n"
            r"    (?:.*\n    )*nd_pmem is unbound from namespace0.0\n",
            text,
            re.MULTILINE,
        )
        assert "13) = -1 ENODEV (namespace0.0 is not bound to nd_pmem)\n" in text
        assert re.search(
            r'cat\[\d+\] read\("/sys/devices/platform/e820_pmem/ndbus0/region0/size", "536870912\\n"', text
        )
        assert "kernel/debug" not in text
        assert [event.op for event in events(printed(mount, "--json", "--only", "writes"))] == ["write", "write"]
        (refused,) = events(printed(mount, "--json", "--only", "writes,refused"))
        assert (refused.code, refused.data, refused.command) == ("ENODEV", b"namespace0.0\n", "sh")
        assert events(printed(mount, "--json", "--only", "reads", "--only", "refused")) == []

    def test_a_trace_that_is_off(self, mount):
        done = cli("trace", mount.directory)
        assert refusal(done) == (
            f"the trace of {mount.directory} is off: `nvdimmfs trace --follow {mount.directory}` records what happens "
            f"meanwhile, `echo on > {mount.directory}/{TRACE}` from now on"
        )

    def test_its_remedy_can_be_pasted(self, mount, tmp_path):
        (tmp_path / "a machine").symlink_to(mount.directory)
        line = refusal(cli("trace", "a machine", cwd=tmp_path))
        assert "`nvdimmfs trace --follow 'a machine'`" in line
        assert f"`echo on > 'a machine/{TRACE}'`" in line

    def test_following(self, mount):
        with Follower(mount, "--json", "--only", "writes") as follower:
            mount.sh(f"cat {SIZE}; echo namespace0.0 > {UNBIND}")
            (event,) = events(follower.line())
            assert (event.path, event.result) == (f"/{UNBIND}", 13)
            follower.process.send_signal(signal.SIGINT)
            assert follower.process.wait(WATCHDOG) == -signal.SIGINT

    def test_a_follower_that_is_killed_records_no_more(self, mount):
        with Follower(mount) as follower:
            follower.process.kill()
            follower.process.wait(WATCHDOG)
            while " is on," in (mount.directory / TRACE).read_text():  # close(2) is asynchronous for FUSE
                select.select([], [], [], 0.01)

    def test_a_follower_ends_with_the_machine(self, mount):
        with Follower(mount) as follower:
            mount.kill(signal.SIGKILL)
            assert mount.has_ended()
            assert follower.process.wait(WATCHDOG) == 0
            assert follower.process.stderr.read() == ""

    def test_a_follower_ends_when_its_output_is_closed(self, mount):
        with Follower(mount) as follower:
            follower.process.stdout.close()
            assert follower.process.wait(WATCHDOG) in (0, 141)
            follower.process.stdout = None

    @pytest.mark.parametrize(
        ("words", "status", "reason"),
        [
            (("/nonexistent",), 1, "/nonexistent does not exist"),
            (("/tmp",), 1, "/tmp is not a mount of nvdimmfs"),
            (
                ("/tmp", "--only", "writes,reeds"),
                2,
                "argument --only: 'reeds' is no kind of call; kinds are opens, reads, writes, syncs, ",
            ),
        ],
    )
    def test_mistakes(self, words, status, reason):
        assert refusal(cli("trace", *words), status=status).startswith(reason)


class TestFile:
    def test_text_from_the_boot_on(self, fuse, tmp_path):
        file = tmp_path / "trace"
        file.write_text("before\n")
        with mounted(*QUIET, "--trace", file) as mount:
            mount.sh(f"echo namespace0.0 > {UNBIND}")
            mount.umount()
        before, boot, *lines = file.read_text().splitlines()
        assert before == "before"
        assert boot.endswith(" [    0.000000] --- the machine boots ---")
        assert "    nd_pmem probes namespace0.0: bound" in [line.replace("        nd", "    nd") for line in lines]
        assert any(f'write("/{UNBIND}"' in line for line in lines)

    def test_json(self, fuse, tmp_path):
        file = tmp_path / "trace.jsonl"
        with mounted(*QUIET, "--trace", file) as mount:
            mount.sh(f"cat {SIZE}")
        boot, *others = events(file.read_text())
        assert (boot.op, boot.number) == ("boot", 1)
        assert [event.op for event in others] == ["open", "read", "read"]

    def test_in_the_foreground(self, fuse, tmp_path):
        (tmp_path / "m").mkdir()
        file = tmp_path / "trace"
        process = subprocess.Popen(
            [*MACHINE, "mount", "--foreground", *QUIET, "--trace", file, tmp_path / "m"],
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        try:
            while "mounted on" not in process.stderr.readline():
                assert process.poll() is None
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=WATCHDOG)
        assert "--- the machine boots ---" in file.read_text()

    def test_a_full_disk_does_not_hurt_the_machine(self, fuse):
        with mounted(*QUIET, "--trace", "/dev/full") as mount:
            assert mount.sh(f"cat {SIZE} && echo namespace0.0 > {UNBIND}").stdout == "536870912\n"
            (line,) = mount.unexpected_lines()
            assert line.endswith("the trace in /dev/full ends here: No space left on device")

    def test_a_pipe_that_is_not_read_does_not_hurt_the_machine(self, fuse, tmp_path):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        try:
            with mounted(*QUIET, "--trace", pipe) as mount:
                mount.sh(f"for n in $(seq 2000); do echo x > {UNBIND}; done 2>/dev/null")
                assert mount.sh(f"cat {SIZE}").stdout == "536870912\n"
                (line,) = mount.unexpected_lines()
                assert line.endswith("ends here: Resource temporarily unavailable")
        finally:
            os.close(reader)

    def test_a_file_that_cannot_be_opened(self, fuse, tmp_path):
        (tmp_path / "m").mkdir()
        done = cli("mount", tmp_path / "m", *QUIET, "--trace", tmp_path / "none/x")
        assert refusal(done) == f"{tmp_path}/none/x: No such file or directory"


@pytest.mark.usefixtures("sandbox")
class TestRun:
    def test_ioctls_and_modules_with_their_callers(self, tmp_path):
        if not Path("/usr/bin/python3").exists():
            pytest.skip("needs a Python outside the tests' environment")
        file = tmp_path / "trace.jsonl"
        program = (
            "import fcntl, os; d = os.open('/dev/nmem0', os.O_RDWR)\n"
            "fcntl.ioctl(d, 0xC00C4E04, bytes(12))\n"
            "try: fcntl.ioctl(d, 0xC00C4EFF, bytes(12))\n"
            "except OSError as e: print(e.errno)\n"
        )
        done = run("/usr/bin/python3", "-c", program, options=["--machine", "nfit_test", "--trace", file])
        assert (done.returncode, done.stdout) == (0, "25\n"), done.stderr
        first, second = (event for event in events(file.read_text()) if event.op == "ioctl")
        assert (first.path, first.request, first.result) == ("/dev/nmem0", "GET_SIZE (0xc00c4e04)", 0)
        assert first.output_size == 12
        assert (second.code, second.request) == ("ENOTTY", "0xc00c4eff")
        assert first.command.startswith("python")
        assert first.pid == second.pid

    def test_the_log_of_the_machine(self, tmp_path):
        file = tmp_path / "log"
        done = run("sh", "-c", f"echo x > /{UNBIND}", options=[*QUIET, "--log", file])
        assert done.returncode != 0
        assert (
            "a write to /sys/bus/nd/drivers/nd_pmem/unbind is refused: ENODEV: no device 'x' on bus nd"
            in file.read_text()
        )
        assert "refused" not in done.stderr

    @pytest.mark.parametrize("option", ["--log", "--trace"])
    def test_a_machine_that_is_mounted_has_its_own(self, mount, tmp_path, option):
        done = cli("run", "--attach", mount.directory, option, tmp_path / "file", "--", "true")
        assert refusal(done, status=2) == f"--attach uses a machine that is already mounted; {option} cannot change it"
        assert not (tmp_path / "file").exists()

    def test_a_mounted_machine_traces_the_sandboxes_on_it(self, mount):
        (mount.directory / TRACE).write_text("on")
        done = command(*MACHINE, "run", "--attach", mount.directory, "--", "sh", "-c", f"echo namespace0.0 > /{UNBIND}")
        assert done.returncode == 0, done.stderr
        (event,) = events(printed(mount, "--json", "--only", "writes"))
        assert (event.path, event.command) == (f"/{UNBIND}", "sh")
