"""`nvdimmfs start` and `stop`: variables for a shell, and nothing that is left."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
from pathlib import Path

import mounting
import pytest
from mounting import MACHINE, QUIET, cli, refusal
from watchdog import WATCHDOG

from nvdimmfs.sandbox import libc

pytestmark = pytest.mark.usefixtures("fuse")

#: Events of inotify(7) (include/uapi/linux/inotify.h).
CREATED, DELETED = 0x100, 0x200


@pytest.fixture
def temporary(tmp_path):
    """A folder for temporary directories whose name a shell must quote; nothing is left in it."""
    folder = tmp_path / "it's a $HOME \\ folder"
    folder.mkdir()
    yield folder
    left = [*folder.iterdir()]
    for path in left:
        cli("stop", path)
    assert not left


@pytest.fixture
def environment(temporary):
    return mounting.environment() | {"TMPDIR": str(temporary)}


def started(environment, *options):
    done = cli("start", *QUIET, "--json", *options, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def shell(name, *lines, **options):
    program = {"nvdimmfs": " ".join(MACHINE)}
    return mounting.command(name, "-c", "\n".join(lines).format(**program), **options)


def test_a_shell_gets_the_variables(environment, temporary):
    lines = (
        'eval "$({nvdimmfs} start --machine nfit_test)" || exit',
        'cat "$NVDIMMFS_SYS/bus/nd/devices/region0/size" "$NVDIMMFS_PROC/iomem" >&2',
        'ls "$NVDIMMFS_DIR" "$NVDIMMFS_DEV" >&2',
        "env | grep ^NVDIMMFS_DIR",
        "exec {nvdimmfs} stop",
    )
    done = shell("sh", *lines, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"NVDIMMFS_DIR={temporary}/nvdimmfs-start-")
    assert done.stderr.startswith("33554432\n")


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_gets_the_variables(environment):
    lines = (
        "{nvdimmfs} start --machine nfit_test --shell fish | source",
        'cat "$NVDIMMFS_SYS/bus/nd/devices/region0/size"',
    )
    done = shell("fish", *lines, "{nvdimmfs} stop", env=environment)
    assert (done.returncode, done.stdout) == (0, "33554432\n"), done.stderr


def test_nobody_else_may_enter_and_stop_removes_it(environment, temporary):
    variables = started(environment)
    directory = Path(variables["NVDIMMFS_DIR"])
    assert directory.parent == temporary
    assert Path(variables["NVDIMMFS_SYS"], "bus/nd/devices/region0/size").read_text() == "536870912\n"
    done = cli("stop", env=environment | variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not directory.exists()
    assert refusal(cli("stop", env=environment | variables)) == f"{directory} does not exist"


def test_umount_removes_it_as_well(environment):
    directory = started(environment)["NVDIMMFS_DIR"]
    assert cli("umount", directory).returncode == 0
    assert not Path(directory).exists()


def test_stop_removes_what_a_killed_daemon_has_left(environment):
    directory = Path(started(environment)["NVDIMMFS_DIR"])
    pid = int(os.getxattr(directory, mounting.DAEMON_XATTR).split()[0])
    daemon = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert libc.has_ended(daemon, WATCHDOG)
    os.close(daemon)
    assert cli("stop", directory).returncode == 0
    assert not directory.exists()


def test_a_failure_is_one_line_and_eval_fails(environment):
    done = cli("start", "--machine", "missing", env=environment)
    assert (done.returncode, done.stdout) == (2, "false\n")
    assert mounting.ONE_LINE.fullmatch(done.stderr)
    script = 'eval "$({nvdimmfs} start --machine missing)" || echo noticed'
    assert shell("sh", script, env=environment).stdout == "noticed\n"
    assert cli("start", "--machine", "missing", "--json", env=environment).stdout == ""


def test_a_missing_tmpdir_is_named(environment, temporary):
    done = cli("start", env=environment | {"TMPDIR": str(temporary / "missing")})
    assert (done.returncode, done.stdout) == (1, "false\n")
    assert done.stderr == f"nvdimmfs: {temporary}/missing, which TMPDIR names, is not a directory\n"


def test_output_that_cannot_be_written_leaves_nothing(environment, temporary):
    with deletions(temporary) as deleted, Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*MACHINE, "start", *QUIET], env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (1, "nvdimmfs: cannot write to stdout: No space left on device\n")
        assert deleted.read(1)


def test_a_closed_stdout_leaves_nothing(environment, temporary):
    with deletions(temporary) as deleted:
        done = shell("sh", f"{{nvdimmfs}} start {' '.join(QUIET)} >&-", env=environment)
        assert (done.returncode, done.stderr) == (1, "nvdimmfs: cannot write to stdout: Bad file descriptor\n")
        assert deleted.read(1)


@pytest.mark.parametrize("at", ["made", "mounted"])
def test_a_killed_start_leaves_nothing(environment, temporary, at):
    """Killed while the daemon boots, and while it prints to a pipe that is full."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    while written(writer):
        pass
    os.set_blocking(writer, True)
    table = select.poll()
    with Path("/proc/self/mountinfo").open() as mounts, creations(temporary) as made, deletions(temporary) as deleted:
        table.register(mounts, select.POLLPRI)
        process = subprocess.Popen([*MACHINE, "start", *QUIET], env=environment, stdout=writer)
        os.close(writer)
        with process:
            assert made.read(1)
            while at == "mounted" and not mounting.mounted_below(temporary):
                table.poll(WATCHDOG * 1000)
            process.kill()
        assert deleted.read(1)
    os.close(reader)
    assert not mounting.mounted_below(temporary)


def written(descriptor):
    try:
        return os.write(descriptor, bytes(4096))
    except BlockingIOError:
        return 0


def creations(folder):
    return events(folder, CREATED)


def deletions(folder):
    return events(folder, DELETED)


def events(folder, kind):
    """A file from which an event of the folder can be read."""
    descriptor = libc.inotify()
    libc.watch(descriptor, folder, kind)
    return os.fdopen(descriptor, "rb")


def test_only_what_start_has_mounted_is_stopped(new_mount):
    mount = new_mount(MACHINE, *QUIET)
    assert "is not from `nvdimmfs start`" in refusal(cli("stop", mount.directory), 2)
    assert mounting.is_mounted(mount.directory)
    environment = mounting.environment()
    environment.pop("NVDIMMFS_DIR", None)
    assert refusal(cli("stop", env=environment), 2).startswith("no machine to stop")
