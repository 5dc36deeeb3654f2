"""`nvdimmfs run` for an ordinary user: the same machine, and no additional privilege on the host."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import machines
import mounting
import pytest
import sandboxes
from mounting import MACHINE, is_mounted
from ordinary_user import USER

MAP = mounting.ROOT / "tests" / "guest" / "ask_mappings.py"
MAPPINGS = sandboxes.RECORDINGS / "calls" / "mappings.jsonl"
STORM = mounting.ROOT / "tests" / "guest" / "storm.py"

NFIT = ("--machine", "qemu-nfit")


@pytest.fixture(scope="session", autouse=True)
def ordinary_user(fuse):
    reason = sandboxes.why_no_ordinary_user()
    if reason:
        pytest.skip(reason)


@pytest.fixture
def home(tmp_path):
    """A folder that the user owns."""
    folder = tmp_path / "home"
    folder.mkdir()
    os.chown(folder, USER, USER)
    return folder


def as_user(*command, folders=(), **more):
    """Run a command as the user."""
    argv = (*sandboxes.as_ordinary_user(*folders), *command)
    return mounting.command(*argv, **more)


def run(*command, options=NFIT, folders=()):
    return as_user(*MACHINE, "run", *options, "--", *command, folders=folders)


def sh(script, *options, folders=()):
    done = run("sh", "-ec", script, options=options or NFIT, folders=folders)
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_user_is_root_inside_the_sandbox():
    assert sh("id -u; cat /proc/self/uid_map").split() == ["0", "0", str(USER), "1"]


@sandboxes.needs("mkfs.ext4", "fuse2fs")
def test_a_disk_is_mounted_with_fuse2fs():
    script = """
        mkfs.ext4 -q /dev/pmem0; mkdir /run/here
        fuse2fs -f -o fakeroot /dev/pmem0 /run/here > /dev/null & server=$!
        until mountpoint -q /run/here; do sleep 0.01; done
        echo hello > /run/here/file; grep -o '^/dev/pmem0 /run/here' /proc/mounts
        umount /run/here; wait $server
        debugfs -R 'cat file' /dev/pmem0 2> /dev/null
    """
    assert sh(script, "--memmap", "64M!4G") == "/dev/pmem0 /run/here\nhello\n"


def test_disks_are_regular_files_and_other_nodes_are_devices():
    script = "stat -c %F /dev/pmem0 /dev/ndctl0 /dev/nmem0; printf hello | dd of=/dev/pmem0 conv=notrunc status=none"
    lines = sh(f"{script}; head -c 5 /dev/pmem0").splitlines()
    assert lines == ["regular file", "character special file", "character special file", "hello"]


@pytest.mark.parametrize("name", ["e820/ndctl-commands", "nfit/ndctl-create", "nfit_test/ndctl"])
def test_tools_print_the_same_as_on_a_real_kernel(name, sleepless):
    """Of the stories that root replays (test_tools.py), one for each platform."""
    story = sandboxes.RECORDINGS / f"{name}.recording"
    header = sandboxes.header_with_tools(story)
    options = (*machines.options(header.machine), "--clock", "steps")
    done = run(*sleepless, *sandboxes.REPLAY, story, options=options)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[:5000] + done.stderr
    assert done.stdout.endswith("agree\n")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere no MAP_SYNC, and a file after mmap(2)")
def test_mappings_of_dax_devices_get_the_kernels_answers():
    """With terminals as nodes, and disks that are files: as root's (test_calls.py)."""
    first, *kernel = map(json.loads, MAPPINGS.read_text().splitlines())
    done = run(sys.executable, MAP, options=machines.options(first["machine"]))
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line) for line in done.stdout.splitlines()] == kernel


@pytest.mark.parametrize("kind", ["killed", "modules"])
def test_a_storm_of_calls_is_survived(kind):
    done = run(sys.executable, STORM, kind)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_no_file_of_the_host_can_be_written(tmp_path):
    (tmp_path / "roots").write_text("untouched")
    places = f"/etc/new /usr/new /root/new /new /proc/new {tmp_path}/roots {tmp_path}/new {mounting.ROOT}/new"
    script = f"for place in {places}; do if (echo x > $place) 2>/dev/null; then echo $place; fi; done"
    assert sh(script, folders=[tmp_path]) == ""
    assert (tmp_path / "roots").read_text() == "untouched"
    assert [entry.name for entry in tmp_path.iterdir()] == ["roots"]


def test_operations_that_need_root_on_the_host_are_refused():
    script = """
        for trial in 'mknod /run/node b 7 0' 'chown 1 /run/udev' 'mount -t ext4 /dev/pmem0 /mnt' 'hostname other'; do
            if $trial 2>/dev/null; then echo $trial; fi
        done
    """
    assert sh(script) == ""


def test_media_files_belong_to_the_user(home):
    options = (*NFIT, "--media", home / "media")
    sh("printf hello | dd of=/dev/pmem0 conv=notrunc,fsync status=none", *options, folders=[home])
    assert sh("head -c 5 /dev/pmem0", *options, folders=[home]) == "hello"
    kept = [home / "media", *(home / "media").rglob("*")]
    assert len(kept) > 1
    assert {file.stat().st_uid for file in kept} == {USER}


def test_a_machine_that_the_user_has_mounted(home):
    program = " ".join(MACHINE)
    script = f"""
        cd /; mkdir {home}/machine
        {program} mount {home}/machine --machine qemu-nfit --log {home}/log
        {program} run --attach {home}/machine -- sh -c 'echo namespace0.0 > /sys/bus/nd/drivers/nd_pmem/unbind; ls /dev'
        test ! -e {home}/machine/sys/bus/nd/devices/namespace0.0/driver
        {program} umount {home}/machine
    """
    done = as_user("sh", "-ec", script, folders=[home])
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert {"ndctl0", "nmem0", "pmem1"} <= set(done.stdout.split())
    assert "pmem0" not in done.stdout.split()
    assert "WARNING" not in (home / "log").read_text()


def test_the_machine_of_another_user(new_mount):
    place = new_mount(MACHINE, "--memmap", "64M!4G").directory

    def answer(*words):
        return mounting.refusal(as_user(*MACHINE, *words, folders=[place]))

    assert answer("umount", place) == f"{place} belongs to another user; only that user or root may unmount it"
    assert answer("save", place, "file") == f"{place} belongs to another user, who alone may save it"
    for command in ("show", "trace"):
        assert answer(command, place) == f"{place} belongs to another user, who alone may read it"
    assert answer("run", "--attach", place, "--", "true") == f"cannot attach to {place}: it belongs to another user"


def test_no_mount_or_file_is_left_behind(tmp_path):
    def state():
        return Path("/dev/fuse").stat().st_rdev, Path("/dev/fuse").stat().st_mode, sorted(Path("/root").iterdir())

    before = state()
    assert sh("true", folders=[tmp_path]) == ""
    assert state() == before
    assert not is_mounted(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_user_has_a_warm_server_of_their_own(home):
    program = f"{sys.executable} -c 'import sys; from nvdimmfs.warm.client import carry_out; carry_out(sys.argv[1:])'"
    script = f"""
        export XDG_RUNTIME_DIR={home} NVDIMMFS_SERVE=yes TMPDIR={home} nvdimmfs="{sys.executable} -m nvdimmfs"
        $nvdimmfs serve
        {program} run --machine nfit_test -- cat /sys/bus/nd/devices/region0/size
        eval "$({program} start --machine nfit_test)"
        cat "$NVDIMMFS_SYS/bus/nd/devices/region0/size"
        $nvdimmfs stop
        $nvdimmfs serve --stop
        ls {home} {home}/nvdimmfs
    """
    done = as_user("sh", "-ec", script, folders=(home,), stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["33554432", "33554432", f"{home}:", "nvdimmfs", f"{home}/nvdimmfs:"]
