"""A private template: machines that it serves, and what is left when it, a machine or its owner is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mounting
import pytest
import sandboxes
from watchdog import WATCHDOG

from nvdimmfs.cli.mount import MountRequest
from nvdimmfs.cli.templates import MACHINE_CALL, SPARES, Command, mount, preload, run, shared_template
from nvdimmfs.machine_file.model import MachineDescription
from nvdimmfs.sandbox import libc
from nvdimmfs.warm.call import CallError, Spare
from nvdimmfs.warm.template import Template, TemplateError

pytestmark = pytest.mark.usefixtures("fuse")

MACHINE = MachineDescription(memmap="512M!4G", ram=8 << 30)

#: Mounts a machine, prints where, and ends once it is told to.
OWNER = """
import sys
from nvdimmfs.cli.mount import MountRequest
from nvdimmfs.cli.templates import mount, shared_template
from nvdimmfs.machine_file.model import MachineDescription

template = shared_template()
directory = template.directory / "machine"
directory.mkdir()
machine = MachineDescription(memmap="512M!4G", ram=8 << 30)
process = mount(template, MountRequest(directory, machine, None, (), cache=True, durable=True))
print(template._process.pid, process.pid, directory, flush=True)
sys.stdin.read()
{then}
"""


@pytest.fixture(scope="module")
def template():
    made = Template.start(preload)
    yield made
    made.close()
    assert not made.directory.exists()


def children(process):
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_a_spare_process_becomes_the_next_machine_and_is_replaced(tmp_path):
    template = Template.start(preload, SPARES)
    own = template._process.pid
    try:
        for turn in range(3):
            sandboxes.wait_until(lambda: len(children(own)) == 1)
            (spare,) = children(own)
            if turn == 1:
                os.kill(spare, signal.SIGKILL)
            request = request_for(tmp_path / str(turn))
            process = mount(template, request)
            assert (process.pid == spare) == (turn != 1)
            assert (request.mountpoint / "sys/bus/nd/devices/region0/size").read_text() == "536870912\n"
            unmounted(process)
        sandboxes.wait_until(lambda: len(children(own)) == 1)
        (spare,) = children(own)
    finally:
        template.close()
    assert not Path(f"/proc/{spare}").exists()
    assert not template.directory.exists()


def directory_of(process):
    """The working directory of a process; None when it has ended."""
    try:
        return Path(f"/proc/{process}/cwd").readlink()
    except FileNotFoundError:
        return None


def test_a_spare_process_has_what_the_template_has_learned(tmp_path):
    """Here it learns in which directory to work; a lesson that fails is forgotten."""
    template = Template.start(preload, {MACHINE_CALL: Spare(preload, learn=os.chdir)})
    own = template._process.pid
    try:
        for subject in (tmp_path / "missing", tmp_path, None, "x" * 100_000):  # the last is more than a message holds
            process = template.call(os.path.join, 0, kind=MACHINE_CALL, subject=subject)
            with pytest.raises(CallError, match="expected str"):
                process.wait_until_ready()
            process.close()
        sandboxes.wait_until(lambda: [directory_of(spare) for spare in children(own)] == [tmp_path])
    finally:
        template.close()


def test_a_process_reports_nothing_before_it_is_known(tmp_path):
    """A spare process may act before the template goes on, if it does not wait."""
    template = Template.start(preload, {MACHINE_CALL: Spare(preload, at_once=True)})
    try:
        for turn in range(50):
            process = template.call(os.path.join, turn, kind=MACHINE_CALL)  # fails as soon as it begins: 0 is no path
            with pytest.raises(CallError):
                process.wait_until_ready()
            process.close()
    finally:
        template.close()


def request_for(directory, machine=MACHINE):
    directory.mkdir()
    return MountRequest(directory, machine, None, (), cache=True, durable=True)


def unmounted(process):
    process.send_signal(signal.SIGTERM)
    assert process.wait(WATCHDOG)
    process.close()


def test_a_machine_answers_and_is_unmounted(template, tmp_path):
    request = request_for(tmp_path / "machine")
    process = mount(template, request)
    assert (request.mountpoint / "sys/bus/nd/devices/region0/size").read_text() == "536870912\n"
    unmounted(process)
    assert not mounting.is_mounted(request.mountpoint)


def test_several_threads_get_a_machine_each(template, tmp_path):
    def work(number):
        request = request_for(tmp_path / str(number), MachineDescription(memmap=f"{number + 1}G!4G", ram=16 << 30))
        process = mount(template, request)
        size = (request.mountpoint / "sys/bus/nd/devices/region0/size").read_text()
        unmounted(process)
        return int(size)

    with ThreadPoolExecutor(4) as threads:
        assert [*threads.map(work, range(8))] == [(number + 1) << 30 for number in range(8)]


def test_a_killed_machine_is_unmounted(template, tmp_path):
    request = request_for(tmp_path / "machine")
    process = mount(template, request)
    process.send_signal(signal.SIGKILL)
    assert process.wait(WATCHDOG)
    process.close()
    unmounted(mount(template, request_for(tmp_path / "next")))  # the template cleans up before it forks again
    assert not mounting.is_mounted(request.mountpoint)


def test_a_refused_mount_is_one_line(template, tmp_path):
    request = MountRequest(tmp_path / "missing", MACHINE, None, (), cache=True, durable=True)
    with pytest.raises(CallError, match=r"\Acannot mount on .*missing[^\n]*\Z"):
        mount(template, request)


def test_a_process_that_has_forked_starts_a_template_of_its_own(tmp_path):
    ours = shared_template()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with pytest.raises(TemplateError):
                mount(ours, request_for(tmp_path / "parent"))
            own = shared_template()
            unmounted(mount(own, request_for(tmp_path / "child")))
            os.write(write_end, os.fsencode(own.directory))
            own.close()
        finally:
            os._exit(0)
    os.close(write_end)
    assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(read_end, "rb") as reports:
        directory = Path(os.fsdecode(reports.read()))
    assert directory.name.startswith("nvdimmfs-")
    assert directory != ours.directory
    assert not directory.exists()
    assert ours.is_usable


def owner(then):
    program = [sys.executable, "-c", OWNER.format(then=then)]
    process = subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=mounting.environment()
    )
    template, machine, directory = process.stdout.readline().split()
    return process, [os.pidfd_open(int(number)) for number in (template, machine)], Path(directory)


def has_ended(descriptor):
    ended = libc.has_ended(descriptor, WATCHDOG)
    os.close(descriptor)
    return ended


@pytest.mark.parametrize("then", ["", "import os; os._exit(0)", "import os; os.kill(os.getpid(), 9)"])
def test_nothing_is_left_when_the_owner_ends(then):
    process, descriptors, directory = owner(then)
    process.communicate()
    assert all(map(has_ended, descriptors))
    assert not mounting.is_mounted(directory)
    assert not directory.parent.exists()


def test_machines_end_when_the_template_is_killed():
    process, (template, machine), directory = owner("")
    signal.pidfd_send_signal(template, signal.SIGKILL)
    assert has_ended(template)
    assert has_ended(machine)
    assert not mounting.is_mounted(directory)
    process.communicate()
    directory.rmdir()
    directory.parent.rmdir()


@pytest.fixture
def machine(template, tmp_path, sandbox):
    request = request_for(tmp_path / "machine")
    process = mount(template, request)
    yield request.mountpoint
    unmounted(process)


def command(machine, script, directory="/"):
    return Command(["/bin/sh", "-c", script], machine, Path(directory), {"PATH": os.environ["PATH"], "WORD": "known"})


def test_a_command_runs_on_the_machine(template, machine, tmp_path):
    script = "cat /sys/bus/nd/devices/region0/size; echo $WORD; pwd >&2; exit 3"
    with (tmp_path / "out").open("w+b") as output, (tmp_path / "errors").open("w+b") as errors:
        files = (0, output.fileno(), errors.fileno())
        process = run(template, command(machine, script, tmp_path), files)
        status = process.status()
        assert os.waitstatus_to_exitcode(status) == 3
        assert process.wait(WATCHDOG)
        process.close()
    assert (tmp_path / "out").read_text() == "536870912\nknown\n"
    assert (tmp_path / "errors").read_text() == f"{tmp_path}\n"


def test_a_command_gets_signals(template, machine):
    reader, writer = os.pipe()
    with os.fdopen(reader) as lines:
        script = "trap 'exit 5' USR1; echo; while :; do sleep 0.1; done"
        process = run(template, command(machine, script), (0, writer, 2))
        os.close(writer)
        assert lines.readline() == "\n"
        process.send_signal(signal.SIGUSR1)
        assert os.waitstatus_to_exitcode(process.status()) == 5
        process.close()


def test_a_killed_command_leaves_no_process(template, machine, tag):
    reader, writer = os.pipe()
    with os.fdopen(reader) as lines:
        process = run(template, command(machine, f"export {tag}; sleep 1000 & echo; wait"), (0, writer, 2))
        os.close(writer)
        assert lines.readline() == "\n"
        process.send_signal(signal.SIGKILL)
        assert lines.read() == ""  # nobody has the pipe open any more
        assert process.status() is None
        process.close()


def test_a_command_that_does_not_exist_is_one_line(template, machine):
    process = run(template, Command(["/missing"], machine, Path("/"), {}), (0, 1, 2))
    with pytest.raises(CallError, match=r"\Acannot run /missing: No such file or directory\Z"):
        process.status()
    process.close()
